"""A board in this process: the rules of the protocol, to be read, and to test against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from router.replicas.board import LIFE_S, Claim, View, Word


@dataclass(slots=True)
class _Lease:
    number: int
    at_s: float
    text: bytes
    held: dict[str, int] = field(default_factory=dict)


class MemoryBoard:
    """See `board.Board`; several replicas of one process share it. `clock` is the board's time."""

    def __init__(self, clock: Callable[[], float], life_s: float = LIFE_S) -> None:
        self._clock = clock
        self._life_s = life_s
        self._leases: dict[str, _Lease] = {}
        self._born_s: float | None = None

    async def exchange(self, word: Word) -> View:
        """See `Board`."""
        now_s = self._clock()
        if all(now_s - lease.at_s >= self._life_s for lease in self._leases.values()):
            # Also when there is none: those who were here may be on their way back.
            self._born_s = now_s
        self._forget_the_silent(now_s)
        lease = self._leases.get(word.replica)
        if lease is not None and word.number <= lease.number:
            return self._view(now_s, {each: lease.held.get(each, 0) for each in word.claims})
        held = {}
        for endpoint_id, claim in word.claims.items():
            held[endpoint_id] = self._given(word.replica, endpoint_id, claim, now_s)
        self._leases[word.replica] = _Lease(word.number, now_s, word.text, held)
        return self._view(now_s, held)

    async def look(self) -> View:
        """See `Board`."""
        return self._view(self._clock(), {})

    async def leave(self, replica: str) -> None:
        """See `Board`."""
        self._leases.pop(replica, None)

    async def close(self) -> None:
        """See `Board`."""

    def forget(self) -> None:
        """Lose everything, as a server that is flushed does."""
        self._leases.clear()

    def _forget_the_silent(self, now_s: float) -> None:
        self._leases = {
            name: lease for name, lease in self._leases.items() if now_s - lease.at_s < self._life_s
        }

    def _given(self, replica: str, endpoint_id: str, claim: Claim, now_s: float) -> int:
        if self._is_cautious(now_s):
            return claim.keep
        others = sum(
            lease.held.get(endpoint_id, 0)
            for name, lease in self._leases.items()
            if name != replica
        )
        return max(claim.keep, min(claim.want, claim.cap - others))

    def _is_cautious(self, now_s: float) -> bool:
        return self._born_s is None or now_s - self._born_s < self._life_s

    def _view(self, now_s: float, permits: Mapping[str, int]) -> View:
        alive = {
            name: lease.text
            for name, lease in self._leases.items()
            if now_s - lease.at_s < self._life_s
        }
        return View(now_s, alive, permits, self._is_cautious(now_s))
