"""TGI's queue and batcher: memory is reserved before a request starts, and nothing is preempted.

A strict FIFO; its head waits until prompt and output (1,024 tokens of it at most) fit into free
memory, and everybody behind it waits too. With chunking a prefill shares a step with the decodes
and a decode step follows; without, it pauses them, and two knobs say when one may.
Source: backends/v3/src/{backend,queue}.rs at db931fc.
"""

from engines.emulator.batch import DecodeBatch
from engines.emulator.blocks import BlockPool
from engines.emulator.jobs import Job, RefusalCause, Refused
from engines.emulator.scheduler import WaitingLine
from engines.emulator.sequence import Sequence, Step, valid
from engines.emulator.spec import EngineSpec, Tgi


class TgiScheduler:
    """See the module."""

    evicts = False
    preemptions = 0

    def __init__(self, spec: EngineSpec, knobs: Tgi) -> None:
        memory = spec.memory
        self._knobs = knobs
        self._caching = memory.prefix_caching
        self._key_tokens = memory.prefix_block_tokens
        self.blocks = BlockPool(spec.kv_tokens, memory.block_tokens, self._key_tokens)
        self.batch = DecodeBatch(memory.block_tokens)
        self.max_running = knobs.max_concurrent_requests
        self._budget = self.blocks.blocks_for(knobs.max_batch_prefill_tokens) * memory.block_tokens
        self._waiting = WaitingLine()
        self.places: dict[Sequence, None] = {}
        self._unfinished: Sequence | None = None
        """The one prompt that did not fit the budget as a whole."""
        self._decode_next = False
        """A prefill beside a running batch is followed by a decode step."""
        self._waited = 0
        """Steps since the last prefill, as the batcher counts them."""
        self._head_is_stuck = False

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    def refuse(self, job: Job, *, held: int) -> Refused | None:
        """Turn a job away where no permit is left, or where it can never fit."""
        if held >= self._knobs.max_concurrent_requests:
            return Refused(RefusalCause.OVERLOADED, 429)
        if not self._is_valid(job, job.prompt_tokens, produced=0):
            return Refused(RefusalCause.TOO_LONG, 422)
        return None

    def enqueue(self, sequence: Sequence) -> list[Sequence]:
        """Put a job at the end of the queue."""
        self._queue(sequence)
        return []

    def plan(self) -> Step | None:
        """Plan the next step: a prefill where the batcher's rules allow one, else a decode."""
        step = Step()
        beside = bool(self.places)
        chosen = self._next_batch() if not (beside and self._decode_next) else []
        if not chosen or self._knobs.prefill_chunking:
            self._decode(step)
            self._continue_prefill(step)
        for sequence, tokens in chosen:
            step.started.append(sequence)
            self._compute(sequence, tokens, step)
        self._decode_next = bool(chosen) and beside
        self._waited = 1 if chosen else self._waited + 1
        return step if step.decodes or step.prefill else None

    def settle(self, step: Step) -> list[Sequence]:
        """Free what the leaving ones held; a job whose slice is used up goes to the back."""
        again: list[Sequence] = []
        for sequence in valid(step.leaving):
            self.drop(sequence)
            produced = sequence.tokens(self.batch.completed)
            prompt = sequence.job.prompt_tokens + produced
            more = produced < sequence.end
            if more and self._is_valid(sequence.job, prompt, produced=produced):
                sequence.restart(self.batch.completed)
                self._queue(sequence)
                again.append(sequence)
        return again

    def drop(self, sequence: Sequence) -> None:
        """Forget a job and free what it holds."""
        if not self._waiting.remove(sequence) and sequence in self.places:
            self._release(sequence)
        self._head_is_stuck = False

    def coast(self) -> int:
        """Return how many steps from here are plain decodes."""
        if self._unfinished is not None or (self._waiting and not self._head_is_stuck):
            return 0
        return self.batch.steps_without_leaving()

    def coasted(self, steps: int) -> None:
        """Count plain decode steps as planned."""
        self._waited += steps
        self.batch.skip(steps)

    def _slice(self, job: Job, prompt: int, *, produced: int) -> int:
        """Return the output that memory is reserved for: the caller's bound, 1,024 at most."""
        bound = self._knobs.max_total_tokens - prompt
        if job.max_tokens is not None:
            bound = job.max_tokens - produced
        return min(bound, self._knobs.slice_tokens)

    def _is_valid(self, job: Job, prompt: int, *, produced: int) -> bool:
        """Say whether a prompt and its slice can ever be served."""
        output = self._slice(job, prompt, produced=produced)
        fits = prompt + output <= self._knobs.max_total_tokens and output > 0
        if not self._knobs.prefill_chunking and prompt > self._budget:
            return False
        return fits and self.blocks.blocks_for(prompt + output - 1) <= self.blocks.total

    def _queue(self, sequence: Sequence) -> None:
        job = sequence.job
        reserved = self._slice(job, sequence.prompt, produced=sequence.produced)
        sequence.target = min(sequence.end, sequence.produced + reserved)
        sequence.blocks = self.blocks.blocks_for(sequence.prompt + reserved - 1)
        self._waiting.push(sequence)

    def _next_batch(self) -> list[tuple[Sequence, int]]:
        """Take jobs from the head of the queue; return each with its first chunk."""
        least, most, budget = self._bounds()
        if least is not None and len(self._waiting) < least:
            return []
        chosen: list[tuple[Sequence, int]] = []
        while budget > 0 and (most is None or len(chosen) < most):
            sequence = self._waiting.head()
            tokens = self._try_reserve(sequence, budget) if sequence is not None else 0
            if sequence is None or not tokens:
                break
            budget -= tokens
            chosen.append((sequence, tokens))
        if least is not None and len(chosen) < least:
            self._put_back(chosen)
            return []
        return chosen

    def _bounds(self) -> tuple[int | None, int | None, int]:
        """Return the least and most jobs to take and the prefill tokens that they may bring."""
        knobs = self._knobs
        most = knobs.max_batch_size
        if not self.places:
            return None, most, self._budget
        if knobs.prefill_chunking:
            return None, None, self._budget - self.batch.size - self._next_chunk()
        room = None if most is None else max(0, most - len(self.places))
        if self._waited >= knobs.max_waiting_tokens:
            return None, room, self._budget
        return int(len(self.places) * knobs.waiting_served_ratio), room, self._budget

    def _try_reserve(self, sequence: Sequence, budget: int) -> int:
        """Reserve memory for the head of the queue; return its first chunk, or 0."""
        blocks = self.blocks
        keys = sequence.job.prefix[: self._usable_keys(sequence)]
        keys = keys[: blocks.match(keys)]
        private = sequence.blocks - len(keys) * blocks.weight
        new = sequence.prompt - len(keys) * self._key_tokens
        if new > budget and not self._knobs.prefill_chunking:
            return 0
        if private + blocks.idle(keys) > blocks.free:
            self._head_is_stuck = True
            return 0
        self._waiting.remove(sequence)
        blocks.hold(keys)
        blocks.take(private)
        sequence.keys, sequence.blocks = keys, private
        sequence.computed = len(keys) * self._key_tokens
        if not sequence.stay:
            sequence.cached_tokens = sequence.computed
        self.places[sequence] = None
        return min(new, budget)

    def _put_back(self, chosen: list[tuple[Sequence, int]]) -> None:
        for sequence, _ in reversed(chosen):
            blocks = sequence.blocks + len(sequence.keys) * self.blocks.weight
            self._release(sequence)
            sequence.blocks, sequence.keys, sequence.computed = blocks, (), 0
            self._waiting.push_front(sequence)
        self._head_is_stuck = False

    def _usable_keys(self, sequence: Sequence) -> int:
        """Return how many keyed blocks may be reused: the last token is always computed."""
        return (sequence.prompt - 1) // self._key_tokens if self._caching else 0

    def _decode(self, step: Step) -> None:
        if self.batch.size:
            step.decodes = self.batch.size
            step.kv_tokens = self.batch.kv_tokens
            step.leaving = self.batch.tick()
            step.clock = self.batch.clock

    def _next_chunk(self) -> int:
        """Return the chunk of the unfinished prompt in the next step."""
        if self._unfinished is None:
            return 0
        room = max(1, self._budget - len(self.places) + 1)
        return min(self._unfinished.remaining_prompt, room)

    def _continue_prefill(self, step: Step) -> None:
        if self._unfinished is not None:
            self._compute(self._unfinished, self._next_chunk(), step)

    def _compute(self, sequence: Sequence, tokens: int, step: Step) -> None:
        """Put a chunk into the step; a prompt that is complete with it decodes from the next."""
        step.add_chunk(sequence, tokens)
        if sequence.remaining_prompt:
            self._unfinished = sequence
            return
        if self._unfinished is sequence:
            self._unfinished = None
        step.first.append((sequence, sequence.stay))
        if sequence.produced + 1 < sequence.target:
            self.batch.join(sequence)
        else:
            step.leaving.append((sequence, sequence.stay))

    def _release(self, sequence: Sequence) -> None:
        """Free a place; the prompt's blocks become a cached prefix."""
        if sequence.decoding:
            self.batch.leave(sequence)
        if self._unfinished is sequence:
            self._unfinished = None
        del self.places[sequence]
        if self._caching and not sequence.remaining_prompt:
            whole = sequence.job.prompt_tokens // self._key_tokens
            fresh = self.blocks.publish(sequence.job.prefix[len(sequence.keys) : whole])
            sequence.keys += fresh
            sequence.blocks -= len(fresh) * self.blocks.weight
        self.blocks.give(sequence.blocks)
        self.blocks.release(sequence.keys)
