"""The highest rate, or the fewest engines, with which a condition holds, by bisection.

Many contenders at once, so that all cores have work.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log
from typing import Final, TypeVar

from tests.bench.routing.runs import Job, Runner, Seen

LEAST_RATE: Final = 16.0
MOST_RATE: Final = 200.0
"""Requests a second, between which rates are looked for."""
K = TypeVar("K")
StepJob = Callable[[int, int], Job]
"""From a step and a seed."""
RateJob = Callable[[float, int], Job]
"""From a rate and a seed."""
Holds = Callable[[Sequence[Seen]], bool]


@dataclass(frozen=True, slots=True)
class Search:
    """What is the same for all that is looked for."""

    runner: Runner
    holds: Holds
    """Must not hold again at steps above one at which it does not."""
    seeds: Sequence[int]
    what: str
    """For progress."""


def last_steps(search: Search, jobs: Mapping[K, StepJob], steps: int) -> dict[K, int]:
    """Return for each key the last of the steps 0 to `steps` - 1 that holds; -1 for none.

    A step has to hold with the first seed by itself, and with all of them together.
    """
    below = dict.fromkeys(jobs, -1)
    above = dict.fromkeys(jobs, steps)
    first, *others = search.seeds
    while open_keys := [key for key in jobs if above[key] - below[key] > 1]:
        asked = {key: (below[key] + above[key]) // 2 for key in open_keys}
        ones = search.runner.runs((jobs[key](at, first) for key, at in asked.items()), search.what)
        seen = {key: [one] for key, one in zip(asked, ones, strict=True)}
        more = [(key, seed) for key in asked if search.holds(seen[key]) for seed in others]
        ones = search.runner.runs((jobs[key](asked[key], seed) for key, seed in more), search.what)
        for (key, _), one in zip(more, ones, strict=True):
            seen[key].append(one)
        for key, at in asked.items():
            if search.holds(seen[key]):
                below[key] = at
            else:
                above[key] = at
    return below


def ladder(rung: float) -> list[float]:
    """Return rates from the least on, each `rung` times the one before."""
    steps = ceil(log(MOST_RATE / LEAST_RATE) / log(rung))
    return [LEAST_RATE * rung**step for step in range(steps + 1)]


def highest_rates(search: Search, jobs: Mapping[K, RateJob], rung: float) -> dict[K, float | None]:
    """Return for each key the highest rate of the ladder that holds, requests/s; None: none."""
    rates = ladder(rung)

    def at_step(make: RateJob) -> StepJob:
        return lambda step, seed: make(rates[step], seed)

    last = last_steps(search, {key: at_step(make) for key, make in jobs.items()}, len(rates))
    return {key: rates[step] if step >= 0 else None for key, step in last.items()}


def fewest_engines(search: Search, jobs: Mapping[K, StepJob], most: int) -> dict[K, int | None]:
    """Return for each key the fewest engines, 1 to `most`, that hold; None: not even `most`."""

    def at_step(make: StepJob) -> StepJob:
        return lambda step, seed: make(most - step, seed)

    last = last_steps(search, {key: at_step(make) for key, make in jobs.items()}, most)
    return {key: most - step if step >= 0 else None for key, step in last.items()}
