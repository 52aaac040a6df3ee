"""vLLM's V1 scheduler: one token budget a step, what runs comes first, memory grows as it goes.

Every step serves the decodes, then the prompts that were begun, then admits from the waiting line
while budget, places and memory last. Where a decode finds no block, the last admitted (or the
least urgent) is preempted and computed again later.
Source: vllm/v1/core/sched/scheduler.py, 0.33.0.
"""

from engines.emulator.batch import DecodeBatch
from engines.emulator.blocks import BlockPool
from engines.emulator.jobs import Job, RefusalCause, Refused
from engines.emulator.scheduler import WaitingLine
from engines.emulator.sequence import Sequence, Step, valid
from engines.emulator.spec import EngineSpec, Policy, Vllm


class VllmScheduler:
    """See the module."""

    evicts = False

    def __init__(self, spec: EngineSpec, knobs: Vllm) -> None:
        memory = spec.memory
        self._knobs = knobs
        self._caching = memory.prefix_caching
        self._key_tokens = memory.prefix_block_tokens
        self.blocks = BlockPool(spec.kv_tokens, memory.block_tokens, self._key_tokens)
        self.batch = DecodeBatch(memory.block_tokens)
        self.max_running = knobs.max_num_seqs
        self._spare = int(knobs.watermark * self.blocks.total)
        self._waiting = WaitingLine()
        self.places: dict[Sequence, None] = {}
        self._prefilling: dict[Sequence, None] = {}
        self._queued_prompt_tokens = 0
        """Prompts in the waiting line or begun, each counted whole until it is computed."""
        self._head_is_stuck = False
        self.preemptions = 0

    @property
    def waiting(self) -> int:
        """Jobs in the waiting line."""
        return len(self._waiting)

    def refuse(self, job: Job, *, held: int) -> Refused | None:
        """Say whether the API server turns a job away."""
        knobs = self._knobs
        tokens = job.prompt_tokens + job.length
        if tokens > knobs.max_model_len or self.blocks.blocks_for(tokens) > self.blocks.total:
            return Refused(RefusalCause.TOO_LONG, 400)
        queued = held - len(self.places)
        if knobs.max_num_queued_reqs is not None and queued >= knobs.max_num_queued_reqs:
            return Refused(RefusalCause.QUEUE_FULL)
        limit = knobs.max_num_queued_tokens
        if limit is not None and self._queued_prompt_tokens >= limit:
            return Refused(RefusalCause.QUEUE_FULL)
        return None

    def enqueue(self, sequence: Sequence) -> list[Sequence]:
        """Take a job into the waiting line."""
        self._queued_prompt_tokens += sequence.prompt
        self._wait(sequence)
        return []

    def plan(self) -> Step | None:
        """Plan the next step."""
        step = Step()
        preemptions = self.preemptions
        if self.batch.growth() > self.blocks.free:
            self._make_room()
        self.blocks.take(self.batch.growth())
        if self.batch.size:
            step.decodes = self.batch.size
            step.kv_tokens = self.batch.kv_tokens
            step.leaving = self.batch.tick()
            step.clock = self.batch.clock
        budget = self._knobs.max_num_batched_tokens - step.decodes
        if self._prefilling:
            budget = self._continue_prefills(step, budget)
        self._head_is_stuck = False
        if self._waiting and self.preemptions == preemptions:
            self._admit(step, budget)
        return step if step.decodes or step.prefill else None

    def settle(self, step: Step) -> list[Sequence]:
        """Free what the leaving ones held."""
        for sequence in valid(step.leaving):
            self.drop(sequence)
        return []

    def drop(self, sequence: Sequence) -> None:
        """Forget a job and free what it holds."""
        if self._waiting.remove(sequence):
            self._queued_prompt_tokens -= sequence.prompt
        elif sequence in self.places:
            self._release(sequence)
        self._head_is_stuck = False

    def coast(self) -> int:
        """Return how many steps from here are plain decodes."""
        if self._prefilling or (self._waiting and not self._head_is_stuck):
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

    def _wait(self, sequence: Sequence) -> None:
        if self._knobs.scheduling_policy is Policy.PRIORITY:
            self._waiting.push(sequence, sequence.job.priority, arrival=sequence.order)
            self._head_is_stuck = False
        else:
            self._waiting.push(sequence)

    def _continue_prefills(self, step: Step, budget: int) -> int:
        for sequence in list(self._prefilling):
            if budget <= 0:
                break
            tokens = self._chunk(sequence, budget)
            while sequence in self.places and not self._grow(sequence, tokens):
                self._preempt(self._victim())
            if sequence in self.places:
                budget -= tokens
                self._compute(sequence, tokens, step)
        return budget

    def _admit(self, step: Step, budget: int) -> None:
        while budget > 0 and (sequence := self._waiting.head()) is not None:
            if len(self.places) >= self.max_running:
                self._head_is_stuck = True
                return
            tokens = self._try_admit(sequence, budget)
            if not tokens:
                self._head_is_stuck = True
                return
            budget -= tokens
            step.started.append(sequence)
            self._compute(sequence, tokens, step)

    def _try_admit(self, sequence: Sequence, budget: int) -> int:
        """Give the head of the line its place and first blocks; return its first chunk or 0."""
        blocks = self.blocks
        keys = sequence.job.prefix[: self._usable_keys(sequence)]
        keys = keys[: blocks.match(keys)]
        cached = len(keys) * self._key_tokens
        whole = blocks.blocks_for(sequence.prompt) - len(keys) * blocks.weight
        tokens = min(self._bounded(sequence.prompt - cached), budget)
        first = blocks.blocks_for(cached + tokens) - len(keys) * blocks.weight
        wanted = whole if self._knobs.scheduler_reserve_full_isl else first
        if wanted + blocks.idle(keys) + self._spare > blocks.free:
            return 0
        blocks.hold(keys)
        blocks.take(first)
        self._waiting.remove(sequence)
        sequence.keys = keys
        sequence.blocks = first
        sequence.computed = cached
        if not sequence.preemptions:
            sequence.cached_tokens = cached
        self.places[sequence] = None
        self._prefilling[sequence] = None
        return tokens

    def _usable_keys(self, sequence: Sequence) -> int:
        """Return how many keyed blocks may be reused: the last token is always computed."""
        return (sequence.prompt - 1) // self._key_tokens if self._caching else 0

    def _chunk(self, sequence: Sequence, budget: int) -> int:
        return min(self._bounded(sequence.remaining_prompt), budget)

    def _bounded(self, tokens: int) -> int:
        threshold = self._knobs.long_prefill_token_threshold
        alone = not self.places and len(self._waiting) == 1
        return min(tokens, threshold) if threshold and not alone else tokens

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Take the blocks for the next chunk."""
        held = sequence.blocks + len(sequence.keys) * self.blocks.weight
        more = self.blocks.blocks_for(sequence.computed + tokens) - held
        if not self.blocks.take(more):
            return False
        sequence.blocks += more
        return True

    def _compute(self, sequence: Sequence, tokens: int, step: Step) -> None:
        """Put a chunk into the step; a prompt that is complete with it decodes from the next."""
        step.add_chunk(sequence, tokens)
        if sequence.remaining_prompt:
            return
        del self._prefilling[sequence]
        self._queued_prompt_tokens -= sequence.prompt
        self._publish(sequence)
        step.first.append((sequence, sequence.stay))
        if sequence.produced + 1 < sequence.target:
            self.batch.join(sequence)
        else:
            step.leaving.append((sequence, sequence.stay))

    def _publish(self, sequence: Sequence) -> None:
        if not self._caching or not sequence.job.prefix:
            return
        whole = sequence.job.prompt_tokens // self._key_tokens
        fresh = self.blocks.publish(sequence.job.prefix[len(sequence.keys) : whole])
        sequence.keys += fresh
        sequence.blocks -= len(fresh) * self.blocks.weight

    def _make_room(self) -> None:
        """Preempt until the decodes that are left can each have their next block."""
        while self.batch.growth() > self.blocks.free:
            self._preempt(self._victim())

    def _victim(self) -> Sequence:
        if self._knobs.scheduling_policy is Policy.PRIORITY:
            return max(self.places, key=lambda sequence: (sequence.job.priority, sequence.order))
        return next(reversed(self.places))

    def _preempt(self, sequence: Sequence) -> None:
        """Take a place away; tokens of steps that have not completed are computed again."""
        self._release(sequence)
        self.preemptions += 1
        sequence.preemptions += 1
        sequence.restart(self.batch.completed)
        self._queued_prompt_tokens += sequence.prompt
        if self._knobs.scheduling_policy is Policy.PRIORITY:
            self._wait(sequence)
        else:
            self._waiting.push_front(sequence)

    def _release(self, sequence: Sequence) -> None:
        blocks = sequence.blocks
        if sequence.decoding:
            held = self.blocks.blocks_for(self.batch.context(sequence))
            blocks = held - len(sequence.keys) * self.blocks.weight
            self.batch.leave(sequence)
        elif sequence in self._prefilling:
            del self._prefilling[sequence]
            self._queued_prompt_tokens -= sequence.prompt
        del self.places[sequence]
        self.blocks.give(blocks)
        self.blocks.release(sequence.keys)
