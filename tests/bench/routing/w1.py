"""Line 1: how much more of a mix one fleet carries, and what bulk pays for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Final

from policies.facts import SlaClass
from router.simulation.contenders import CONTENDERS, Contender
from router.simulation.fleet import load_fleet
from tests.bench.routing.extent import Extent
from tests.bench.routing.fleets import told_class
from tests.bench.routing.frontier import LEAST_RATE, Search, highest_rates
from tests.bench.routing.mixes import w1
from tests.bench.routing.runs import (
    GOOD,
    MOST_BULK_WAIT_S,
    Job,
    Runner,
    Seen,
    all_hold,
    first_token_percentile,
    mean_attainment,
)
from tests.bench.routing.sections import Section, Sense, Verdict, milliseconds, percent

CLASSIC: Final = "h100-8b-classic-tgi"
CHUNKING: Final = "h100-8b"
PRIORITY: Final = "h100-8b-priority"
OTHERS: Final = ("round_robin", "least_busy", "two_choices_tokens", "least_tokens", "peak_ewma")
BOUNDS: Final = {"round_robin": 1.5, "least_busy": 1.3, "two_choices_tokens": 1.1}
"""Ratio of headway's highest rate to each other's."""
FAIR_BOUND: Final = 1.15
BULK_BOUND: Final = 0.95
STEADY_SEEDS: Final = 1
COOL_DOWN_S: Final = 60.0
"""Bulk's deadline: what waits at the end is served while as much as ever comes after it."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One contender on one fleet."""

    fleet: str
    contender: Contender


def cases() -> list[Case]:
    """Return all that are compared."""
    names = ("headway", *OTHERS)
    listed = [Case(fleet, CONTENDERS[name]) for fleet in (CLASSIC, CHUNKING) for name in names]
    return [
        *listed,
        Case(PRIORITY, CONTENDERS["headway"]),
        Case(PRIORITY, told_class("least_busy")),
    ]


def job(case: Case, extent: Extent, rate: float, seed: int) -> Job:
    """Return one run of the search."""
    return Job(load_fleet(case.fleet), case.contender, w1(rate, extent.search_s), seed)


def interactive_holds(seen: Sequence[Seen]) -> bool:
    """Return whether interactive requests meet their targets often enough."""
    return mean_attainment(seen, SlaClass.INTERACTIVE) >= GOOD


def steady_job(case: Case, extent: Extent, rate: float, seed: int) -> Job:
    """Return one run whose bulk tokens are counted: those of answers within their deadline."""
    workload = w1(rate, extent.steady_s + COOL_DOWN_S)
    return Job(load_fleet(case.fleet), case.contender, workload, seed, cool_down_s=COOL_DOWN_S)


def w1_section(runner: Runner, extent: Extent) -> Section:
    """Run line 1."""
    listed = cases()
    rates = highest_rates(
        Search(runner, interactive_holds, extent.seeds, "highest rates on W1"),
        {case: partial(job, case, extent) for case in listed},
        extent.rung,
    )
    mine = [case for case in listed if case.contender.name == "headway"]
    both = highest_rates(
        Search(runner, all_hold, extent.seeds[:STEADY_SEEDS], "highest rates with bulk kept"),
        {case: partial(job, case, extent) for case in mine},
        extent.rung,
    )
    headway = {case.fleet: rates[case] for case in mine}
    steady = [(case, seed) for case in listed for seed in extent.seeds[:STEADY_SEEDS]]
    runs = runner.runs(
        (steady_job(case, extent, headway[case.fleet] or 1.0, seed) for case, seed in steady),
        "bulk at headway's highest rate",
    )
    seen: dict[Case, list[Seen]] = {}
    for (case, _), one in zip(steady, runs, strict=True):
        seen.setdefault(case, []).append(one)
    bulk = {
        case: fmean(one.good_tokens_per_s(SlaClass.BULK) for one in ones)
        for case, ones in seen.items()
    }
    return Section(
        line=1,
        name="w1",
        title="The highest rate of W1 at which 99 % of interactive requests are in time",
        headings=(
            "fleet",
            "policy",
            "highest rate, requests/s",
            "headway's is so many times that",
            "highest at which bulk keeps up too",
            "at headway's rate: interactive %",
            "TTFT p99 ms",
            "bulk tokens/s in time",
        ),
        rows=[
            [
                case.fleet,
                case.contender.name,
                _rate(rates[case]),
                _ratio(headway[case.fleet], rates[case]),
                _rate(both[case]) if case in both else "-",
                percent(mean_attainment(seen[case], SlaClass.INTERACTIVE)),
                milliseconds(first_token_percentile(seen[case], SlaClass.INTERACTIVE, 0.99)),
                f"{bulk[case]:.0f}",
            ]
            for case in listed
        ],
        note=(
            "Interactive: lengths of the Azure conversation trace, 500 ms to the first token and"
            " 50 ms a token; bulk: lengths of arXiv papers, 60 s for all of it; five to two, times"
            " between requests Gamma distributed with CV 2. Attainment over all that was offered;"
            f" seeds {', '.join(map(str, extent.seeds))}, {extent.search_s:g} s each, rates"
            f" {extent.rung - 1:.0%} apart. Bulk keeps up where 99 % of it is in time too and 90 %"
            f" begun within {MOST_BULK_WAIT_S:g} s. The last two are six vLLM with a chunk budget of 2048"
            " and priorities of their own."
        ),
        verdicts=verdicts(rates, bulk),
        figures=[
            {
                "fleet": case.fleet,
                "policy": case.contender.name,
                "highest_rate": rates[case],
                "highest_rate_with_bulk": both.get(case),
                "interactive": mean_attainment(seen[case], SlaClass.INTERACTIVE),
                "bulk_tokens_per_s": bulk[case],
            }
            for case in listed
        ],
    )


def verdicts(rates: dict[Case, float | None], bulk: dict[Case, float]) -> list[Verdict]:
    """Return what line 1 asks for, of both fleets with two profiles."""
    made = []
    by_name = {(case.fleet, case.contender.name): case for case in rates}
    for fleet in (CLASSIC, CHUNKING):
        headway = by_name[fleet, "headway"]
        for name, bound in BOUNDS.items():
            ratio = _quotient(rates[headway], rates[by_name[fleet, name]])
            what = f"W1 on {fleet}: highest rate over {name}'s"
            made.append(Verdict(what, ratio, Sense.AT_LEAST, bound, "times"))
        best = max(tokens for case, tokens in bulk.items() if case.fleet == fleet)
        what = f"W1 on {fleet}: bulk tokens/s in time over those of the best policy for bulk"
        made.append(Verdict(what, bulk[headway] / best, Sense.AT_LEAST, BULK_BOUND, "%"))
        fair = rates[by_name[PRIORITY, "least_busy, class told"]]
        what = f"W1 on {fleet}: highest rate over that of six vLLM with priorities, least_busy"
        ratio = _quotient(rates[headway], fair)
        made.append(Verdict(what, ratio, Sense.AT_LEAST, FAIR_BOUND, "times"))
    return made


def _quotient(rate: float | None, other: float | None) -> float | None:
    """Return a ratio of highest rates; where another has none, what the ratio is at least."""
    return None if rate is None else rate / (other or LEAST_RATE)


def _rate(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.1f}"


def _ratio(rate: float | None, other: float | None) -> str:
    ratio = _quotient(rate, other)
    return "-" if ratio is None else f"{ratio:.2f}"
