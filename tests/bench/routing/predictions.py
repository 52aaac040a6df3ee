"""Line 4: how right the predictions are, and how soon after a wrong start."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any, Final

from policies.facts import SlaClass
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import load_fleet
from tests.bench.routing.extent import Extent
from tests.bench.routing.fleets import (
    CHUNKING_TGI,
    CLASSIC_TGI,
    LLAMACPP,
    SGLANG,
    VLLM,
    pools_of,
    with_prior,
)
from tests.bench.routing.mixes import w1
from tests.bench.routing.runs import Job, Runner, Seen
from tests.bench.routing.sections import Section, Sense, Verdict, percent
from tests.bench.routing.watched import Prediction

KINDS: Final[dict[str, tuple[dict[str, Any], float]]] = {
    "vllm": (VLLM, 60.0),
    "tgi": (CHUNKING_TGI, 60.0),
    "tgi, classic": (CLASSIC_TGI, 35.0),
    "sglang": (SGLANG, 60.0),
    "llamacpp": (LLAMACPP, 20.0),
}
"""Engines, and the requests a second that six of them are given: no more than they keep in time."""
FACTORS: Final = (1 / 3, 1.0, 3.0)
WRONG_FLEET: Final = "h100-8b"
WRONG_RATE: Final = 60.0
UNSURE: Final = "tgi, classic"
"""Its newcomers wait for others to come: who comes, and with how long a prompt, decides."""
SETTLED_AFTER: Final = 200
"""Requests after which predictions are judged, and by which a wrong start is forgotten."""
JUDGED: Final = 200
"""Requests, from there on, by which it is judged whether it is."""
MOST_ERROR: Final = 0.25
COVERAGE: Final = (0.85, 0.95)


def kind_job(engine: dict[str, Any], rate: float, extent: Extent, seed: int) -> Job:
    """Return one run of six engines of a kind."""
    fleet = pools_of(engine, engine, (2, 4))
    return Job(fleet, CONTENDERS["headway"], w1(rate, extent.search_s), seed, watches=True)


def wrong_job(factor: float, extent: Extent, seed: int) -> Job:
    """Return one run that starts from a wrong idea of the engines' speed."""
    contender = with_prior(CONTENDERS["headway"], factor)
    workload = w1(WRONG_RATE, extent.search_s)
    return Job(load_fleet(WRONG_FLEET), contender, workload, seed, watches=True)


def settled(seen: Sequence[Seen]) -> list[Prediction]:
    """Return the predictions for each engine's requests after its first ones."""
    return [each for one in seen for each in one.predictions if each.number >= SETTLED_AFTER]


def median_error(predictions: Sequence[Prediction]) -> float | None:
    """Return the median error as a share of what was seen."""
    return median(each.error for each in predictions) if predictions else None


def coverage(predictions: Sequence[Prediction]) -> float | None:
    """Return the share of times that stayed under their bound."""
    if not predictions:
        return None
    return fmean(each.seen_s <= each.bound_s for each in predictions)


def kinds_section(runner: Runner, extent: Extent) -> Section:
    """Judge the predictions for each kind of engine."""
    jobs = [(kind, seed) for kind in KINDS for seed in extent.seeds]
    runs = runner.runs(
        (kind_job(*KINDS[kind], extent, seed) for kind, seed in jobs), "kinds of engine"
    )
    seen: dict[str, list[Seen]] = {kind: [] for kind in KINDS}
    for (kind, _), one in zip(jobs, runs, strict=True):
        seen[kind].append(one)
    judged = {kind: settled(ones) for kind, ones in seen.items()}
    verdicts = []
    for kind, predictions in judged.items():
        error, covered = median_error(predictions), coverage(predictions)
        what = f"predictions of {kind}: "
        if kind != UNSURE:
            found = Verdict(what + "median error of TTFT", error, Sense.AT_MOST, MOST_ERROR, "%")
            verdicts.append(found)
        verdicts += [
            Verdict(what + "under the bound", covered, Sense.AT_LEAST, COVERAGE[0], "%"),
            Verdict(what + "under the bound", covered, Sense.AT_MOST, COVERAGE[1], "%"),
        ]
    return Section(
        line=4,
        name="predictions",
        title="Predicted time to first token beside the true one",
        headings=(
            "engines",
            "requests/s",
            "median error %",
            "of interactive %",
            "under the 90 % bound %",
            "of interactive %",
            "interactive in time %",
        ),
        rows=[
            [
                kind,
                f"{KINDS[kind][1]:g}",
                percent(median_error(predictions)),
                percent(median_error(_interactive(predictions))),
                percent(coverage(predictions)),
                percent(coverage(_interactive(predictions))),
                percent(fmean(one.attainment(SlaClass.INTERACTIVE) for one in seen[kind])),
            ]
            for kind, predictions in judged.items()
        ],
        note=(
            f"Six engines of a kind, W1; without each engine's first {SETTLED_AFTER} requests. A"
            " classic TGI lets newcomers wait for others: its time depends on who comes next."
        ),
        verdicts=verdicts,
        figures=[
            {"kind": kind, "median_error": median_error(each), "coverage": coverage(each)}
            for kind, each in judged.items()
        ],
    )


def _interactive(predictions: Sequence[Prediction]) -> list[Prediction]:
    return [each for each in predictions if each.sla_class is SlaClass.INTERACTIVE]


def wrong_section(runner: Runner, extent: Extent) -> Section:
    """Judge how soon a wrong start is forgotten."""
    jobs = [(factor, seed) for factor in FACTORS for seed in extent.seeds]
    runs = runner.runs((wrong_job(factor, extent, seed) for factor, seed in jobs), "wrong starts")
    seen: dict[float, list[Seen]] = {factor: [] for factor in FACTORS}
    for (factor, _), one in zip(jobs, runs, strict=True):
        seen[factor].append(one)
    pieces = {
        factor: [_errors(ones, from_n) for from_n in (0, 50, 100, SETTLED_AFTER)]
        for factor, ones in seen.items()
    }
    verdicts = [
        Verdict(
            f"predictions that start {_times(factor)}: median error of TTFT from request {SETTLED_AFTER} on",
            pieces[factor][-1],
            Sense.AT_MOST,
            MOST_ERROR,
            "%",
        )
        for factor in FACTORS
    ]
    return Section(
        line=4,
        name="wrong start",
        title="Median error of predicted TTFT after a wrong start, by number of the request",
        headings=("start", "0 to 49 %", "50 to 99 %", "100 to 199 %", "200 to 399 %"),
        rows=[[_times(factor), *map(percent, pieces[factor])] for factor in FACTORS],
        note=(
            f"{WRONG_FLEET}, W1 at {WRONG_RATE:g} requests/s. Requests are counted over the whole"
            " fleet, though each engine teaches only its own predictions."
        ),
        verdicts=verdicts,
        figures={_times(factor): errors for factor, errors in pieces.items()},
    )


def _times(factor: float) -> str:
    if factor == 1.0:
        return "as measured"
    return f"{factor:g} times too long" if factor > 1 else f"{1 / factor:g} times too short"


def _errors(seen: Sequence[Seen], from_n: int) -> float | None:
    """Return the median error of one stretch of the fleet's first answers, over all seeds."""
    until_n = {0: 50, 50: 100, 100: SETTLED_AFTER, SETTLED_AFTER: SETTLED_AFTER + JUDGED}[from_n]
    return median_error([each for one in seen for each in one.predictions[from_n:until_n]])
