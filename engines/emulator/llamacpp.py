"""llama.cpp's server: a fixed number of slots, one batch of `n_batch` tokens at a time.

A request without a free slot is deferred, first come first served. Each slot remembers its last
prompt, and a request goes to the slot that shares the longest prefix with it.
Source: llama.cpp tools/server (update_slots, get_available_slot); recordings of a live server.
"""

from engines.emulator.batch import DecodeBatch
from engines.emulator.blocks import BlockPool
from engines.emulator.jobs import Job, RefusalCause, Refused
from engines.emulator.scheduler import WaitingLine
from engines.emulator.sequence import Sequence, Step, valid
from engines.emulator.spec import EngineSpec, LlamaCpp


class LlamaCppScheduler:
    """See the module."""

    evicts = False
    preemptions = 0

    def __init__(self, spec: EngineSpec, knobs: LlamaCpp) -> None:
        self._knobs = knobs
        self._caching = spec.memory.prefix_caching
        self._key_tokens = spec.memory.prefix_block_tokens
        self.blocks = BlockPool(knobs.n_parallel * knobs.n_ctx_slot, knobs.n_ctx_slot)
        """One block is one slot."""
        self.batch = DecodeBatch(1)
        self.max_running = knobs.n_parallel
        self._waiting = WaitingLine()
        self.places: dict[Sequence, None] = {}
        self._prefilling: dict[Sequence, None] = {}
        self._free: dict[int, tuple[int, ...]] = dict.fromkeys(range(knobs.n_parallel), ())
        """Free slots and the prompt that each remembers, the longest unused first."""

    @property
    def waiting(self) -> int:
        """Requests that are deferred."""
        return len(self._waiting)

    def refuse(self, job: Job, *, held: int) -> Refused | None:
        """Turn a prompt away that no slot can hold."""
        if job.prompt_tokens >= self._knobs.n_ctx_slot:
            return Refused(RefusalCause.TOO_LONG, 400)
        return None

    def enqueue(self, sequence: Sequence) -> list[Sequence]:
        """Put a request at the end of the deferred ones; its slot bounds the output."""
        sequence.target = min(sequence.target, self._knobs.n_ctx_slot - sequence.prompt)
        self._waiting.push(sequence)
        return []

    def plan(self) -> Step | None:
        """Plan the next step: a token for every generating slot, the rest of the batch prompts."""
        step = Step()
        self._fill_slots(step)
        if self.batch.size:
            step.decodes = self.batch.size
            step.kv_tokens = self.batch.kv_tokens
            step.leaving = self.batch.tick()
            step.clock = self.batch.clock
        budget = self._knobs.n_batch - step.decodes
        for sequence in sorted(self._prefilling, key=lambda other: other.slot):
            tokens = min(sequence.remaining_prompt, budget)
            if tokens <= 0:
                break
            budget -= tokens
            self._compute(sequence, tokens, step)
        return step if step.decodes or step.prefill else None

    def settle(self, step: Step) -> list[Sequence]:
        """Free the slots of the leaving ones."""
        for sequence in valid(step.leaving):
            self.drop(sequence)
        return []

    def drop(self, sequence: Sequence) -> None:
        """Forget a request and free its slot."""
        if self._waiting.remove(sequence) or sequence not in self.places:
            return
        if sequence.decoding:
            self.batch.leave(sequence)
        self._prefilling.pop(sequence, None)
        del self.places[sequence]
        self.blocks.give(1)
        self._free[sequence.slot] = sequence.job.prefix if not sequence.remaining_prompt else ()

    def coast(self) -> int:
        """Return how many steps from here are plain decodes."""
        if self._prefilling or (self._waiting and self._free):
            return 0
        return self.batch.steps_without_leaving()

    def coasted(self, steps: int) -> None:
        """Count plain decode steps as planned."""
        self.batch.skip(steps)

    def _fill_slots(self, step: Step) -> None:
        while self._free and (sequence := self._waiting.head()) is not None:
            self._waiting.remove(sequence)
            slot, shared = self._best_slot(sequence)
            del self._free[slot]
            self.blocks.take(1)
            sequence.slot = slot
            sequence.computed = sequence.cached_tokens = shared * self._key_tokens
            self.places[sequence] = None
            self._prefilling[sequence] = None
            step.started.append(sequence)

    def _best_slot(self, sequence: Sequence) -> tuple[int, int]:
        """Return the free slot to take and how many prefix ids it shares."""
        usable = (sequence.prompt - 1) // self._key_tokens if self._caching else 0
        keys = sequence.job.prefix[:usable]
        best, longest = next(iter(self._free)), 0
        for slot, remembered in self._free.items():
            shared = _shared(keys, remembered)
            if shared > longest:
                best, longest = slot, shared
        return best, longest

    def _compute(self, sequence: Sequence, tokens: int, step: Step) -> None:
        step.add_chunk(sequence, tokens)
        if sequence.remaining_prompt:
            return
        del self._prefilling[sequence]
        step.first.append((sequence, sequence.stay))
        if sequence.produced + 1 < sequence.target:
            self.batch.join(sequence)
        else:
            step.leaving.append((sequence, sequence.stay))


def _shared(keys: tuple[int, ...], others: tuple[int, ...]) -> int:
    """Return the length of the common beginning."""
    for index, (key, other) in enumerate(zip(keys, others, strict=False)):
        if key != other:
            return index
    return min(len(keys), len(others))
