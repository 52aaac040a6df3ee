"""SGLang's scheduler: prompts come first, and while they are computed nobody decodes.

Each iteration tries to build a batch of prompts; only where there is none does it decode. Where
memory runs out, decodes are retracted and computed again later.
Source: sglang/srt/managers/scheduler.py and schedule_batch.py, 0.5.23.
"""

from engines.emulator.batch import DecodeBatch
from engines.emulator.blocks import BlockPool
from engines.emulator.jobs import Job, RefusalCause, Refused
from engines.emulator.scheduler import WaitingLine
from engines.emulator.sequence import Sequence, Step, valid
from engines.emulator.spec import EngineSpec, Sglang

_STEPS_AHEAD = 20
"""Decode steps that a retraction makes room for (`retract_decode_steps`)."""


class SglangScheduler:
    """See the module."""

    def __init__(self, spec: EngineSpec, knobs: Sglang) -> None:
        memory = spec.memory
        self._knobs = knobs
        self._caching = memory.prefix_caching
        self._key_tokens = memory.prefix_block_tokens
        self.blocks = BlockPool(spec.kv_tokens, memory.block_tokens, self._key_tokens)
        self.batch = DecodeBatch(memory.block_tokens)
        self.max_running = knobs.max_running_requests
        self.preemptions = 0
        self._waiting = WaitingLine()
        self.places: dict[Sequence, None] = {}
        self._unfinished: Sequence | None = None
        """The one prompt that did not fit a chunk as a whole."""
        self._head_is_stuck = False
        """The head was tried in vain; it is tried again when somebody has left."""
        self.evicts = knobs.enable_priority_scheduling and knobs.max_queued_requests is not None

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    def refuse(self, job: Job, *, held: int) -> Refused | None:
        """Turn a job away that can never fit, or that would lengthen a full queue."""
        tokens = job.prompt_tokens + job.length
        fits = self.blocks.blocks_for(tokens) <= self.blocks.total
        if tokens > self._knobs.context_length or not fits:
            return Refused(RefusalCause.TOO_LONG, 400)
        limit = self._knobs.max_queued_requests
        if limit is not None and held - len(self.places) >= limit and not self._outranks(job):
            return Refused(RefusalCause.QUEUE_FULL, 503)
        return None

    def enqueue(self, sequence: Sequence) -> list[Sequence]:
        """Take a job into the queue; a full one gives up its least urgent."""
        self._wait(sequence)
        limit = self._knobs.max_queued_requests
        if limit is None or len(self._waiting) <= limit:
            return []
        evicted = self._least_urgent()
        self._waiting.remove(evicted)
        return [evicted]

    def plan(self) -> Step | None:
        """Plan the next step: prompts where there are any, else a decode."""
        step = Step()
        if self._knobs.enable_mixed_chunk:
            self._decode(step)
        self._prefill(step)
        if not step.prefill and not step.decodes:
            self._decode(step)
        return step if step.decodes or step.prefill else None

    def settle(self, step: Step) -> list[Sequence]:
        """Free what the leaving ones held."""
        for sequence in valid(step.leaving):
            self.drop(sequence)
        return []

    def drop(self, sequence: Sequence) -> None:
        """Forget a job and free what it holds."""
        if not self._waiting.remove(sequence) and sequence in self.places:
            self._release(sequence)
        self._head_is_stuck = False

    def coast(self) -> int:
        """Return how many steps from here are plain decodes."""
        if self._unfinished is not None or (self._waiting and not self._head_is_stuck):
            return 0
        batch = self.batch
        steps = batch.steps_without_leaving()
        if batch.size:
            steps = min(steps, self.blocks.free // batch.size * self.blocks.block_tokens)
        return steps

    def coasted(self, steps: int) -> None:
        """Count plain decode steps as planned."""
        self.blocks.take(self.batch.growth_over(steps))
        self.batch.skip(steps)

    def _rank(self, job: Job) -> int:
        """Return the place in the queue: low first."""
        if not self._knobs.enable_priority_scheduling:
            return 0
        low_first = self._knobs.schedule_low_priority_values_first
        return job.priority if low_first else -job.priority

    def _wait(self, sequence: Sequence) -> None:
        self._waiting.push(sequence, self._rank(sequence.job))
        if self._knobs.enable_priority_scheduling:
            self._head_is_stuck = False

    def _least_urgent(self) -> Sequence:
        return max(self._waiting, key=lambda other: (self._rank(other.job), other.order))

    def _outranks(self, job: Job) -> bool:
        """Say whether a full queue would give up another job for this one."""
        if not self._knobs.enable_priority_scheduling or not self._waiting:
            return False
        return self._rank(job) < self._rank(self._least_urgent().job)

    def _prefill(self, step: Step) -> None:
        """Build a batch of prompts within a chunk."""
        budget = min(self._knobs.chunked_prefill_size, self._knobs.max_prefill_tokens)
        if self._unfinished is not None:
            tokens = min(self._unfinished.remaining_prompt, budget)
            budget -= tokens
            self._compute(self._unfinished, tokens, step)
        while budget > 0 and not self._head_is_stuck:
            sequence = self._waiting.head()
            if sequence is None:
                return
            tokens = self._try_admit(sequence, budget)
            if not tokens:
                self._head_is_stuck = True
                return
            budget -= tokens
            step.started.append(sequence)
            self._compute(sequence, tokens, step)

    def _try_admit(self, sequence: Sequence, budget: int) -> int:
        """Give the head of the queue a place and its prompt's memory; return its chunk, or 0."""
        keys = self._cached_keys(sequence)
        while not self._has_room(sequence, keys):
            if not self._push_out_for(sequence):
                return 0
            keys = self._cached_keys(sequence)
        blocks = self.blocks
        self._waiting.remove(sequence)
        blocks.hold(keys)
        sequence.keys = keys
        sequence.blocks = blocks.blocks_for(sequence.prompt) - len(keys) * blocks.weight
        blocks.take(sequence.blocks)
        sequence.computed = len(keys) * self._key_tokens
        if not sequence.stay:
            sequence.cached_tokens = sequence.computed
        self.places[sequence] = None
        return min(sequence.remaining_prompt, budget)

    def _cached_keys(self, sequence: Sequence) -> tuple[int, ...]:
        usable = (sequence.prompt - 1) // self._key_tokens if self._caching else 0
        keys = sequence.job.prefix[:usable]
        return keys[: self.blocks.match(keys)]

    def _has_room(self, sequence: Sequence, keys: tuple[int, ...]) -> bool:
        """Say whether a place, the prompt and a share of everybody's output are there."""
        if len(self.places) >= self.max_running:
            return False
        blocks = self.blocks
        prompt = blocks.blocks_for(sequence.prompt) - len(keys) * blocks.weight + blocks.idle(keys)
        if not self.places:
            return prompt <= blocks.free
        ratio = self._knobs.new_token_ratio
        ahead = sum(self._outstanding(other) for other in (*self.places, sequence))
        return prompt + blocks.blocks_for(int(ahead * ratio)) <= blocks.free

    def _outstanding(self, sequence: Sequence) -> int:
        """Return the output that may still come, as the caller bounded it."""
        bound = sequence.job.max_tokens or self._knobs.default_new_tokens
        done = self.batch.context(sequence) - sequence.prompt if sequence.decoding else 0
        return max(0, min(bound, self._knobs.default_new_tokens) - sequence.produced - done)

    def _push_out_for(self, sequence: Sequence) -> bool:
        """Retract the least urgent decode for one that is much more urgent."""
        knobs = self._knobs
        decodes = self.batch.counted() if knobs.enable_priority_scheduling else []
        if not decodes:
            return False
        victim = max(decodes, key=lambda other: (self._rank(other.job), other.order))
        lead = self._rank(victim.job) - self._rank(sequence.job)
        if lead <= knobs.priority_preemption_threshold:
            return False
        self._retract(victim)
        return True

    def _decode(self, step: Step) -> None:
        if not self.batch.size:
            return
        if self.batch.growth() > self.blocks.free:
            self._make_room()
        self.blocks.take(self.batch.growth())
        step.decodes = self.batch.size
        step.kv_tokens = self.batch.kv_tokens
        step.leaving = self.batch.tick()
        step.clock = self.batch.clock

    def _make_room(self) -> None:
        """Retract those that have said least, until the rest can go on for a while."""
        batch = self.batch
        while batch.size > 1 and batch.growth_over(_STEPS_AHEAD) > self.blocks.free:
            self._retract(min(batch.counted(), key=self._retract_rank))
        while batch.growth() > self.blocks.free:
            self._retract(min(batch.counted(), key=self._retract_rank))

    def _retract_rank(self, sequence: Sequence) -> tuple[int, int, int]:
        said = sequence.produced + self.batch.context(sequence) - sequence.prompt
        return said, -sequence.job.prompt_tokens, sequence.order

    def _retract(self, sequence: Sequence) -> None:
        self._release(sequence)
        self._head_is_stuck = False
        self.preemptions += 1
        sequence.preemptions += 1
        sequence.restart(self.batch.completed)
        self._wait(sequence)

    def _compute(self, sequence: Sequence, tokens: int, step: Step) -> None:
        """Put a chunk into the step; a prompt that is complete with it decodes from the next."""
        step.add_chunk(sequence, tokens)
        if sequence.remaining_prompt:
            self._unfinished = sequence
            return
        if self._unfinished is sequence:
            self._unfinished = None
        if self._caching:
            whole = sequence.job.prompt_tokens // self._key_tokens
            fresh = self.blocks.publish(sequence.job.prefix[len(sequence.keys) : whole])
            sequence.keys += fresh
            sequence.blocks -= len(fresh) * self.blocks.weight
        step.first.append((sequence, sequence.stay))
        if sequence.produced + 1 < sequence.target:
            self.batch.join(sequence)
        else:
            step.leaving.append((sequence, sequence.stay))

    def _release(self, sequence: Sequence) -> None:
        blocks = sequence.blocks
        if sequence.decoding:
            held = self.blocks.blocks_for(self.batch.context(sequence))
            blocks = held - len(sequence.keys) * self.blocks.weight
            self.batch.leave(sequence)
        if self._unfinished is sequence:
            self._unfinished = None
        del self.places[sequence]
        self.blocks.give(blocks)
        self.blocks.release(sequence.keys)
