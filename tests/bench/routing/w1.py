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
    steady = [(case, seed) for case in listed for seed in extent.seeds[:STEADY_SEEDS]]
    kept = {case.fleet: both[case] for case in mine}
    runs = runner.runs(
        (steady_job(case, extent, kept[case.fleet] or 1.0, seed) for case, seed in steady),
        "bulk where headway keeps both",
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
            "highest at which bulk keeps up too",
            "headway's, bulk kept, is so many times the highest",
            "at headway's, bulk kept: interactive %",
            "TTFT p99 ms",
            "bulk tokens/s in time",
        ),
        rows=[
            [
                case.fleet,
                case.contender.name,
                _rate(rates[case]),
                _rate(both[case]) if case in both else "-",
                _ratio(kept[case.fleet], rates[case]),
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
            f" begun within {MOST_BULK_WAIT_S:g} s. {CHUNKING}: TGI reads prompts in chunks, so that nobody"
            f" is kept waiting by them and plain balancing comes near what the engines can do."
            f" {PRIORITY}: six vLLM with a chunk budget of 2048 and priorities of their own."
        ),
        verdicts=verdicts(rates, both, bulk),
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


def verdicts(
    rates: dict[Case, float | None], both: dict[Case, float | None], bulk: dict[Case, float]
) -> list[Verdict]:
    """Return what line 1 asks for: of headway with bulk kept, of the others without."""
    made = []
    by_name = {(case.fleet, case.contender.name): case for case in rates}
    headway = by_name[CLASSIC, "headway"]
    for name, bound in BOUNDS.items():
        ratio = _quotient(both[headway], rates[by_name[CLASSIC, name]])
        what = f"W1 on {CLASSIC}: headway's rate with bulk kept over {name}'s highest"
        made.append(Verdict(what, ratio, Sense.AT_LEAST, bound, "times"))
    best = max(tokens for case, tokens in bulk.items() if case.fleet == CLASSIC)
    what = f"W1 on {CLASSIC}: bulk tokens/s in time over those of the best policy for bulk"
    made.append(Verdict(what, bulk[headway] / best, Sense.AT_LEAST, BULK_BOUND, "%"))
    return made


def _quotient(rate: float | None, other: float | None) -> float | None:
    """Return a ratio of highest rates; where another has none, what the ratio is at least."""
    return None if rate is None else rate / (other or LEAST_RATE)


def _rate(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.1f}"


def _ratio(rate: float | None, other: float | None) -> str:
    ratio = _quotient(rate, other)
    return "-" if ratio is None else f"{ratio:.2f}"
