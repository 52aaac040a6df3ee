"""When requests come: a renewal process of any burstiness, at a rate that may change in steps."""

from collections.abc import Iterator, Sequence
from math import inf
from random import Random
from typing import Final

LEAST_CV: Final = 1e-3
"""Less variation than this is none."""
RateStep = tuple[float, float]
"""(from when on, s; requests a second)."""


def arrivals(rng: Random, cv: float, steps: Sequence[RateStep], until_s: float) -> Iterator[float]:
    """Yield times below `until_s`, ascending.

    `cv`: coefficient of variation of the time between two arrivals; 1 is Poisson, 0 a metronome,
    more is bursty (Gamma distributed times). `steps`: ascending, the first from 0 on; the process
    is stretched by the rate, so that its burstiness is the same at every rate.
    """
    ends_s = [start for start, _ in steps[1:]] + [inf]
    index, now = 0, 0.0
    while True:
        work = _gap(rng, cv)
        while (room := (ends_s[index] - now) * steps[index][1] if steps[index][1] else 0.0) < work:
            work -= room
            now = ends_s[index]
            if now >= until_s:
                return
            index += 1
        now += work / steps[index][1]
        if now >= until_s:
            return
        yield now


def _gap(rng: Random, cv: float) -> float:
    """Draw a time between two arrivals, 1 in the mean."""
    if cv < LEAST_CV:
        return 1.0
    if cv == 1:
        return rng.expovariate(1.0)
    shape = 1.0 / (cv * cv)
    return rng.gammavariate(shape, 1.0 / shape)
