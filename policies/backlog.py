"""How many wait for one model, how fast they are served, and so how long a newcomer would wait."""

from collections import deque
from math import ceil, exp
from random import Random
from typing import Final

LEAST_RETRY_S: Final = 1.0
MOST_RETRY_S: Final = 30.0
UNKNOWN_RETRY_S: Final = 5.0
"""Where nothing has ended yet that a rate could be told from; a guess."""
RATE_TAU_S: Final = 5.0
"""Time over which a rate forgets."""
SETTLED_S: Final = 2 * RATE_TAU_S
"""How long somebody must have been waiting all along before the rate says what a queue is served
at; until then it may only say how little was asked for."""
STEP: Final = 0.05
"""Weight of one answer in the mean time that an answer takes."""
RANKS: Final = 3
MOST_PROMISED: Final = 4096
"""Promises remembered of one class."""


class DrainRate:
    """Requests that end a second, lately: what a queue is served at."""

    __slots__ = ("_at", "_per_s", "service_s")

    def __init__(self) -> None:
        self.service_s = 0.0
        """Mean time from being sent to the end, s; 0 before the first."""
        self._per_s = 0.0
        self._at = 0.0

    def ended(self, now: float, service_s: float = 0.0) -> None:
        """Count one that took `service_s` since it was sent."""
        self._per_s = self.per_s(now) + 1.0 / RATE_TAU_S
        self._at = now
        self.service_s += (STEP if self.service_s else 1.0) * (service_s - self.service_s)

    def per_s(self, now: float) -> float:
        """Return the rate as of `now`; 0 where nothing ended for long."""
        return self._per_s * exp((self._at - now) / RATE_TAU_S) if self._per_s else 0.0


class Backlog:
    """Who waits for one model, by rank of class."""

    __slots__ = ("_promised", "_since", "drains", "waiting")

    def __init__(self) -> None:
        self.drains = tuple(DrainRate() for _ in range(RANKS))
        self.waiting = [0] * RANKS
        self._since = [0.0] * RANKS
        """When the first of those came who wait without a break."""
        self._promised: list[deque[float]] = [deque(maxlen=MOST_PROMISED) for _ in range(RANKS)]
        """When those come back who were told to."""

    def came(self, rank: int, now: float) -> None:
        """Count one more that waits."""
        if not self.waiting[rank]:
            self._since[rank] = now
        self.waiting[rank] += 1

    def went(self, rank: int) -> None:
        """Count one less."""
        self.waiting[rank] -= 1

    def wait_s(self, rank: int, now: float) -> float | None:
        """Return how long a newcomer would wait and be served, s; None where it cannot be told."""
        drain = self.drains[rank]
        per_s = drain.per_s(now)
        if not self.waiting[rank] or now - self._since[rank] < SETTLED_S or per_s <= 0.0:
            return None
        return (self.waiting[rank] + 1) / per_s + drain.service_s

    def retry_after_s(self, rank: int, patience_s: float, now: float, rng: Random) -> float:
        """Tell somebody of a class when to come back, s, so that it would wait no longer than it may.

        Those told before it come back before it, and are counted as if they were waiting.
        """
        promised = self._promised[rank]
        while promised and promised[0] <= now:
            promised.popleft()
        ahead = sum(self.waiting[: rank + 1]) + len(promised)
        per_s = sum(drain.per_s(now) for drain in self.drains[: rank + 1])
        back_s = retry_after_s(ahead, per_s, patience_s, rng)
        promised.append(now + back_s)
        return back_s


def retry_after_s(ahead: int, per_s: float, patience_s: float, rng: Random) -> float:
    """Return when somebody who comes back would wait no longer than `patience_s`, s, 1..30.

    `ahead`: requests before it, at `per_s` ended a second. Spread by up to half as much again, so
    that those refused together do not come back together.
    """
    if per_s * MOST_RETRY_S < LEAST_RETRY_S:
        return UNKNOWN_RETRY_S
    wait_s = (ahead + 1) / per_s - patience_s
    spread_s = float(ceil(wait_s * (1.0 + 0.5 * rng.random())))
    return min(MOST_RETRY_S, max(LEAST_RETRY_S, spread_s))
