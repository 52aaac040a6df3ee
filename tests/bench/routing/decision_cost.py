"""Line 7: what one decision costs."""

from functools import partial
from statistics import median
from typing import Final

from policies.facts import SlaClass, Targets, Wish
from tests.bench.decision import arrival_of, facts, life_of, run_costs_us
from tests.bench.routing.extent import Extent
from tests.bench.routing.runs import Runner
from tests.bench.routing.sections import Section, Sense, Verdict

BOUNDS_US: Final = {6: 25.0, 64: 60.0}
"""Medians by number of endpoints."""
ARRIVALS: Final = 64
WISHES: Final = {
    "interactive": Wish(SlaClass.INTERACTIVE, Targets(first_token_s=0.3, per_token_s=0.05)),
    "standard": Wish(SlaClass.STANDARD),
    "bulk": Wish(SlaClass.BULK),
}


def costs_us(asked: tuple[int, str, int]) -> tuple[list[float], list[float]]:
    """Return runs of a decision and of a request's whole life, µs of CPU."""
    size, wish, runs = asked
    request = facts(WISHES[wish])
    decided = run_costs_us(partial(arrival_of, size, request), ARRIVALS, runs)
    return decided, run_costs_us(partial(life_of, size, request), runs=runs)


def decision_section(runner: Runner, extent: Extent) -> Section:
    """Run line 7."""
    asked = [(size, wish, extent.decision_runs) for size in BOUNDS_US for wish in WISHES]
    costs = runner.each(costs_us, asked, "decisions")
    rows, verdicts, figures = [], [], []
    for (size, wish, _), (decided, lived) in zip(asked, costs, strict=True):
        rows.append(
            [
                str(size),
                wish,
                f"{median(decided):.1f} ({min(decided):.1f})",
                f"{median(lived):.1f} ({min(lived):.1f})",
            ]
        )
        what = f"decision for a request of class {wish} among {size} endpoints"
        verdicts.append(Verdict(what, median(decided), Sense.AT_MOST, BOUNDS_US[size], "µs"))
        figures.append({"endpoints": size, "class": wish, "median_us": median(decided)})
    return Section(
        line=7,
        name="decision",
        title="CPU time of one decision, µs: median (least)",
        headings=("endpoints", "class", "arrival", "arrival, first token and end"),
        rows=rows,
        note="A busy machine takes the caches: the least is what it costs on a quiet one.",
        verdicts=verdicts,
        figures=figures,
    )
