"""Line 2: a minute of more than the fleet can do, and what is left of it ten seconds later."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from policies.facts import SlaClass
from router.measure.tally import Bin
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import load_fleet
from tests.bench.routing.extent import Extent
from tests.bench.routing.frontier import Search, highest_rates
from tests.bench.routing.mixes import overload
from tests.bench.routing.runs import GOOD, MOST_BULK_WAIT_S, Job, Runner, Seen, all_hold
from tests.bench.routing.sections import Section, Sense, Verdict, percent

FLEET: Final = "h100-8b"
BEFORE: Final = 0.8
OVER: Final = 1.2
FAR_OVER: Final = 1.6
"""Shares of the capacity."""
FROM_S, UNTIL_S, BACK_S, END_S = 60.0, 120.0, 130.0, 190.0
"""Overload begins, ends; everything is as before; end of the run."""
SAME: Final = 0.01
"""Difference in attainment that counts as none."""
HONEST: Final = 0.8
PHASES: Final = (
    ("before", 20.0, FROM_S),
    ("overload", FROM_S, UNTIL_S),
    ("ten seconds", UNTIL_S, BACK_S),
    ("after", BACK_S, END_S),
)


def capacity_job(extent: Extent, rate: float, seed: int) -> Job:
    """Return one run at a constant rate."""
    workload = overload(rate, 1.0, 1.0, 1.0, 2.0, extent.search_s)
    return Job(load_fleet(FLEET), CONTENDERS["headway"], workload, seed)


def overload_job(capacity: float, name: str, during: float, seed: int) -> Job:
    """Return one run through the overload, with callers that come back."""
    workload = overload(capacity, BEFORE, during, FROM_S, UNTIL_S, END_S)
    return Job(load_fleet(FLEET), CONTENDERS[name], workload, seed, comes_back=True)


def phase(seen: Sequence[Seen], sla_class: SlaClass, from_s: float, until_s: float) -> Bin:
    """Return what was offered in one phase over all seeds."""
    whole = Bin()
    for one in seen:
        each = one.between(sla_class, from_s, until_s)
        whole.offered += each.offered
        whole.good += each.good
        whole.refused += each.refused
    return whole


def share(piece: Bin) -> float:
    """Return the attainment; 1 where nothing was offered."""
    return piece.good / piece.offered if piece.offered else 1.0


def overload_section(runner: Runner, extent: Extent) -> Section:
    """Run line 2."""
    capacity = highest_rates(
        Search(runner, all_hold, extent.seeds, "capacity"),
        {"headway": partial(capacity_job, extent)},
        extent.rung,
    )["headway"]
    if capacity is None:
        nothing = Verdict("overload: capacity, requests/s", None, Sense.AT_LEAST, 1.0)
        return Section(2, "overload", "Overload", ("capacity",), [["none"]], verdicts=[nothing])
    asked = [("headway", OVER), ("headway", FAR_OVER), ("least_busy", OVER)]
    jobs = [(key, seed) for key in asked for seed in extent.seeds]
    runs = runner.runs(
        (overload_job(capacity, name, during, seed) for (name, during), seed in jobs), "overload"
    )
    seen: dict[tuple[str, float], list[Seen]] = {}
    for (key, _), one in zip(jobs, runs, strict=True):
        seen.setdefault(key, []).append(one)
    rows = [
        [f"{name}, {during:g} x", sla_class.value, *_cells(seen[name, during], sla_class)]
        for name, during in asked
        for sla_class in (SlaClass.INTERACTIVE, SlaClass.BULK)
    ]
    return Section(
        line=2,
        name="overload",
        title=f"A minute of 1.2 times the capacity of {FLEET}, {capacity:.1f} requests/s",
        headings=(
            "policy",
            "class",
            *(f"{name}: in time % (refused %)" for name, _, _ in PHASES),
            "came back, admitted %",
        ),
        rows=rows,
        note=(
            "Capacity: the highest rate, arrivals Poisson, at which 99 % of both classes are in"
            f" time and 90 % of bulk has begun within {MOST_BULK_WAIT_S:g} s. {BEFORE:g} of it, from {FROM_S:g} s to {UNTIL_S:g} s more. Refused callers"
            " come back when they were told to, three times at most; their returns are not among"
            " those of the table."
        ),
        verdicts=verdicts(seen["headway", OVER]),
        figures={
            "capacity": capacity,
            "phases": [
                {
                    "policy": name,
                    "times": during,
                    "class": sla_class,
                    "returned": sum(one.returned for one in ones),
                    "admitted": sum(one.admitted for one in ones),
                    **{
                        what: share(phase(ones, sla_class, from_s, until_s))
                        for what, from_s, until_s in PHASES
                    },
                }
                for (name, during), ones in seen.items()
                for sla_class in (SlaClass.INTERACTIVE, SlaClass.BULK)
            ],
        },
    )


def _cells(seen: Sequence[Seen], sla_class: SlaClass) -> list[str]:
    cells = []
    for _, from_s, until_s in PHASES:
        piece = phase(seen, sla_class, from_s, until_s)
        refused = piece.refused / piece.offered if piece.offered else 0.0
        cells.append(f"{percent(share(piece))} ({percent(refused)})")
    returned = sum(one.returned for one in seen)
    admitted = sum(one.admitted for one in seen)
    cells.append(f"{returned}, {percent(admitted / returned)}" if returned else "0")
    return cells


def verdicts(over: Sequence[Seen]) -> list[Verdict]:
    """Return what line 2 asks for."""
    during = phase(over, SlaClass.INTERACTIVE, FROM_S, UNTIL_S)
    made = [
        Verdict("overload: interactive in time during it", share(during), Sense.AT_LEAST, GOOD, "%")
    ]
    for sla_class in (SlaClass.INTERACTIVE, SlaClass.BULK):
        before = share(phase(over, sla_class, 20.0, FROM_S))
        after = share(phase(over, sla_class, BACK_S, END_S))
        what = f"overload: {sla_class} ten seconds after it, lost against before"
        made.append(Verdict(what, before - after, Sense.AT_MOST, SAME, "%"))
    returned = sum(one.returned for one in over)
    honest = sum(one.admitted for one in over) / returned if returned else 1.0
    what = f"overload: of {returned} callers that came back when told, admitted"
    made.append(Verdict(what, honest, Sense.AT_LEAST, HONEST, "%"))
    return made
