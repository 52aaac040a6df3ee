"""Runs: one, or a grid of contenders, rates and seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from router.measure.tally import Tally
from router.simulation.conditions import USUAL, Conditions, Observed
from router.simulation.contenders import Contender
from router.simulation.fleet import Fleet
from router.simulation.world import World
from router.workload.settings import Workload
from router.workload.stream import at_rate, offers

SEEN_EVERY: Final = 256
"""Outcomes from one word on progress to the next."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one contender at one rate with one seed."""

    contender: str
    rate: float
    """Requests a second, all traffic together."""
    seed: int
    tally: Tally
    observed: Observed


def run_once(
    fleet: Fleet,
    contender: Contender,
    workload: Workload,
    seed: int,
    *,
    conditions: Conditions = USUAL,
    seen: Callable[[float], None] = lambda _at_s: None,
) -> tuple[Tally, Observed]:
    """Return what came of a workload; `seen` is told how far it is, s, now and then."""
    tally = Tally(workload.duration_s, workload.warm_up_s)
    world = World(fleet, contender, seed=seed, faults=workload.faults, conditions=conditions)
    reached_s = 0.0
    for outcome in world.run(offers(workload, seed)):
        tally.add(outcome)
        reached_s = max(reached_s, outcome.offer.at_s)
        if not tally.offered % SEEN_EVERY:
            seen(reached_s)
    return tally, world.observed


@dataclass(frozen=True, slots=True)
class Grid:
    """What is to be run: every contender at every rate with every seed."""

    fleet: Fleet
    contenders: Sequence[Contender]
    workload: Workload
    rates: Sequence[float]
    """Requests a second, all traffic together."""
    seeds: Sequence[int]
    conditions: Conditions = USUAL

    @property
    def runs(self) -> int:
        """How many runs that is."""
        return len(self.contenders) * len(self.rates) * len(self.seeds)

    @property
    def points(self) -> Iterator["Point"]:
        """The runs in their order."""
        for rate in self.rates:
            for contender in self.contenders:
                for seed in self.seeds:
                    yield Point(rate, contender, seed)


class Point(NamedTuple):
    """One run of a grid."""

    rate: float
    contender: Contender
    seed: int


def sweep(
    grid: Grid, seen: Callable[[str, float], None] = lambda _name, _at_s: None
) -> Iterator[Run]:
    """Yield the runs of a grid: at each rate and seed, the same requests for all contenders.

    `seen` is told which contender is how far, s, now and then.
    """
    for point in grid.points:
        yield run_point(grid, point, seen)


def run_point(
    grid: Grid, point: Point, seen: Callable[[str, float], None] = lambda _name, _at_s: None
) -> Run:
    """Return what came of one run of a grid."""
    rate, contender, seed = point
    tally, observed = run_once(
        grid.fleet,
        contender,
        at_rate(grid.workload, rate),
        seed,
        conditions=grid.conditions,
        seen=lambda at_s: seen(contender.name, at_s),
    )
    return Run(contender.name, rate, seed, tally, observed)
