"""Runs: one, or a grid of contenders, rates and seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from router.measure.tally import Tally
from router.simulation.contenders import Contender
from router.simulation.fleet import Fleet
from router.simulation.world import Observed, Pace, World
from router.workload.settings import Workload
from router.workload.stream import at_rate, offers


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
    pace: Pace | None = None,
    seen: Callable[[float], None] = lambda _at_s: None,
) -> tuple[Tally, Observed]:
    """Return what came of a workload; `seen` is told how far it is, s, now and then."""
    tally = Tally(workload.duration_s, workload.warm_up_s)
    world = World(fleet, contender, seed=seed, faults=workload.faults, pace=pace)
    for outcome in world.run(offers(workload, seed)):
        tally.add(outcome)
        if not tally.offered % 256:
            seen(outcome.offer.at_s)
    return tally, world.observed


def sweep(
    fleet: Fleet,
    contenders: Sequence[Contender],
    workload: Workload,
    rates: Sequence[float],
    seeds: Sequence[int],
    *,
    pace: Pace | None = None,
    seen: Callable[[str, float], None] = lambda _name, _at_s: None,
) -> Iterator[Run]:
    """Yield the runs of all contenders at all rates: at each, the same requests for all."""
    for rate in rates:
        offered = at_rate(workload, rate)
        for contender in contenders:
            for seed in seeds:

                def progress(at_s: float, name: str = contender.name) -> None:
                    seen(name, at_s)

                tally, observed = run_once(
                    fleet, contender, offered, seed, pace=pace, seen=progress
                )
                yield Run(contender.name, rate, seed, tally, observed)
