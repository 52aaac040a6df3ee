"""The seam that each kind of scheduler fills, and the waiting line that they share."""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Protocol

from engines.emulator.batch import DecodeBatch
from engines.emulator.blocks import BlockPool
from engines.emulator.jobs import Job, Refused
from engines.emulator.sequence import Sequence, Step


class Scheduler(Protocol):
    """Who takes part in which step. Changes state when a step is planned, frees when it is done."""

    batch: DecodeBatch
    blocks: BlockPool
    places: dict[Sequence, None]
    """The jobs that hold a place: memory, a slot, a part in the batch."""
    max_running: int
    preemptions: int
    evicts: bool
    """Taking one job in can push another out."""

    def refuse(self, job: Job, *, held: int) -> Refused | None:
        """Say whether the API server turns a job away; `held` jobs have been taken and not ended."""
        ...

    def enqueue(self, sequence: Sequence) -> list[Sequence]:
        """Take a job into the waiting line; return those that are pushed out for it."""
        ...

    def plan(self) -> Step | None:
        """Plan the next step; None where there is nothing to do."""
        ...

    def settle(self, step: Step) -> list[Sequence]:
        """Free what a completed step lets go; return those whose job goes on with another stay."""
        ...

    def drop(self, sequence: Sequence) -> None:
        """Forget a job at once and free all that it holds."""
        ...

    def coast(self) -> int:
        """Return how many steps from here are plain decodes whatever happens, arrivals aside."""
        ...

    def coasted(self, steps: int) -> None:
        """Count `steps` plain decode steps as planned."""
        ...

    @property
    def waiting(self) -> int:
        """Jobs in the waiting line."""
        ...


class WaitingLine:
    """Sequences in order of (rank, arrival); one put in front goes before its equals."""

    __slots__ = ("_back", "_front", "_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Sequence]] = []
        self._live: dict[Sequence, tuple[int, int]] = {}
        self._front = 0
        self._back = 0

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._live)

    def push(self, sequence: Sequence, rank: int = 0, *, arrival: int | None = None) -> None:
        """Put a sequence behind its equals; `arrival` overrides when it came."""
        if arrival is None:
            self._back += 1
            arrival = self._back
        self._put(sequence, rank, arrival)

    def push_front(self, sequence: Sequence) -> None:
        """Put a sequence before all others of rank 0."""
        self._front -= 1
        self._put(sequence, 0, self._front)

    def head(self) -> Sequence | None:
        """Return the next in line, who stays there."""
        while self._heap:
            rank, arrival, sequence = self._heap[0]
            if self._live.get(sequence) == (rank, arrival):
                return sequence
            heappop(self._heap)
        return None

    def remove(self, sequence: Sequence) -> bool:
        """Take a sequence out, wherever it stands; False where it is not in line."""
        return self._live.pop(sequence, None) is not None

    def _put(self, sequence: Sequence, rank: int, arrival: int) -> None:
        self._live[sequence] = (rank, arrival)
        heappush(self._heap, (rank, arrival, sequence))
