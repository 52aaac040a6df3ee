"""Eight replicas in virtual time, and one with the same requests: what is lost by being several.

The simulation of `headway simulate`, with as many dispatchers and a board between them, so that
each knows of the others what a replica would, and as late.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from policies.facts import SlaClass
from router.measure.tally import Tally
from router.simulation.conditions import Conditions
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import load_fleet
from router.simulation.run import run_once
from router.workload.load import load_workload
from router.workload.stream import at_rate
from tests.bench.replicas.finding import Finding

FLEET = "h100-8b"
WORKLOAD = "mixed"
REPLICAS = 8
MOST_LOST_POINTS = 2.0


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is simulated."""

    seeds: Sequence[int] = (1, 2)
    rates: Sequence[float] = (63.0, 84.0, 105.0)
    """Requests a second, all traffic together: the workload's own, more, and nearly all that the
    fleet can serve."""
    duration_s: float = 40.0
    warm_up_s: float = 8.0


def findings(extent: Extent) -> list[Finding]:
    """Return what eight replicas lose against one, by rate, mean over the seeds."""
    found = []
    for rate in extent.rates:
        one, eight = (_runs(replicas, rate, extent) for replicas in (1, REPLICAS))
        for name in ("interactive", "all"):
            before, after = (
                100 * _mean([_attained(t, name) for t in each]) for each in (one, eight)
            )
            what = f"{name} at {rate:g} requests/s"
            found += [
                Finding(f"attainment of one, {what}, %", before),
                Finding(f"lost by {REPLICAS}, {what}, points", before - after, MOST_LOST_POINTS),
            ]
    return found


def _runs(replicas: int, rate: float, extent: Extent) -> list[Tally]:
    whole = load_workload(WORKLOAD)
    workload = replace(whole, duration_s=extent.duration_s, warm_up_s=extent.warm_up_s)
    return [
        run_once(
            load_fleet(FLEET),
            CONTENDERS["headway"],
            at_rate(workload, rate),
            seed,
            conditions=Conditions(replicas=replicas),
        )[0]
        for seed in extent.seeds
    ]


def _attained(tally: Tally, name: str) -> float:
    if name == "all":
        return tally.all.attainment
    return tally.classes[SlaClass.INTERACTIVE].attainment


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
