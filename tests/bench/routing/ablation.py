"""Line 6: what each part of the router buys, and where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from policies.facts import SlaClass
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import Fleet, load_fleet
from router.workload.load import load_workload
from router.workload.settings import Workload
from tests.bench.routing.conversations import caching, conversations
from tests.bench.routing.extent import Extent
from tests.bench.routing.fleets import with_prior
from tests.bench.routing.mixes import WARM_UP_S, chat, mix_shift, overload, tenants, w1
from tests.bench.routing.neighbours import SHIFT_RATE, TENANT_RATE, TURNS_RATE, others
from tests.bench.routing.runs import Job, Runner, Seen
from tests.bench.routing.sections import Section, Sense, Verdict, percent

WHOLE: Final = "headway"
NOT_NAMED_SO: Final = ("by_requests",)
"""Ablations besides those whose name begins with `no_`."""
SEEDS: Final = 1
LEAST_GAIN: Final = 0.5
"""Points, of a hundred, below which a gain is taken for chance."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A load on a fleet, and what is looked at."""

    fleet: Fleet
    workload: Workload
    prior: float = 1.0
    """Times that predictions start from, as multiples of the measured."""
    of_others: bool = False
    """The flooder among the tenants does not count."""
    talks: bool = False
    """Conversations: the cached share counts beside what is in time."""

    def job(self, name: str, seed: int) -> Job:
        """Return one run."""
        contender = CONTENDERS[name]
        if self.prior != 1.0:
            contender = with_prior(contender, self.prior)
        if self.talks:
            return Job(self.fleet, contender, self.workload, seed, source=conversations)
        return Job(self.fleet, contender, self.workload, seed)

    def score(self, seen: Sequence[Seen]) -> tuple[float, ...]:
        """Return shares, of a hundred: interactive in time, and bulk in time or what is cached."""
        interactive = (
            others(seen).attainment
            if self.of_others
            else fmean(one.attainment(SlaClass.INTERACTIVE) for one in seen)
        )
        if self.talks:
            cached = sum(one.observed.cached_tokens for one in seen)
            second = cached / sum(one.prompt_tokens for one in seen)
        else:
            second = fmean(one.attainment(SlaClass.BULK) for one in seen)
        return 100 * interactive, 100 * second


def trials(extent: Extent) -> dict[str, Trial]:
    """Return all loads."""
    classic, chunking = load_fleet("h100-8b-classic-tgi"), load_fleet("h100-8b")
    vllm = load_fleet("h100-8b-vllm")
    talk = Workload(
        duration_s=extent.search_s,
        warm_up_s=WARM_UP_S,
        traffic=(chat(TURNS_RATE, cv=1.0, name="conversations"),),
    )
    return {
        "W1, 90/s, TGI's defaults": Trial(classic, w1(90.0, extent.search_s)),
        "W1, 90/s": Trial(chunking, w1(90.0, extent.search_s)),
        "all vLLM, 90/s": Trial(vllm, w1(90.0, extent.search_s)),
        "overload": Trial(chunking, overload(95.0, 0.8, 1.2, 30.0, 90.0, 120.0)),
        "tenants": Trial(chunking, tenants(TENANT_RATE, extent.search_s, 10.0), of_others=True),
        "mix shift": Trial(chunking, mix_shift(SHIFT_RATE, extent.search_s)),
        "start of 3 x": Trial(chunking, w1(80.0, extent.search_s), prior=3.0),
        "start of 1/3": Trial(classic, w1(80.0, extent.search_s), prior=1 / 3),
        "code bursts": Trial(chunking, load_workload("code_bursts")),
        "faults": Trial(chunking, load_workload("faults")),
        "conversations": Trial(caching(vllm), talk, talks=True),
    }


def ablations() -> list[str]:
    """Return the names of the router with a part switched off."""
    parts = [name for name in CONTENDERS if name.startswith("no_")]
    return parts + [name for name in NOT_NAMED_SO if name in CONTENDERS]


def ablation_section(runner: Runner, extent: Extent) -> Section:
    """Run line 6."""
    loads = trials(extent)
    seeds = extent.seeds[:SEEDS]
    names = [WHOLE, *ablations()]
    asked = [(load, name, seed) for load in loads for name in names for seed in seeds]
    runs = runner.runs(
        (loads[load].job(name, seed) for load, name, seed in asked), "parts switched off"
    )
    seen: dict[tuple[str, str], list[Seen]] = {}
    for (load, name, _), one in zip(asked, runs, strict=True):
        seen.setdefault((load, name), []).append(one)
    scores = {(load, name): loads[load].score(ones) for (load, name), ones in seen.items()}
    verdicts = [_verdict(name, loads, lambda load, who: scores[load, who]) for name in names[1:]]
    return Section(
        line=6,
        name="ablation",
        title="The router with one part switched off: interactive / bulk in time %",
        headings=("load", *names),
        rows=[[load, *(_cell(scores[load, name]) for name in names)] for load in loads],
        note=(
            "Tenants: of those beside the flood. Conversations: cached share instead of bulk."
            f" Seeds {', '.join(map(str, seeds))}."
        ),
        verdicts=verdicts,
        figures=[
            {"load": load, "policy": name, "interactive": score[0], "second": score[1]}
            for (load, name), score in scores.items()
        ],
    )


def _verdict(
    name: str, loads: dict[str, Trial], score: Callable[[str, str], tuple[float, ...]]
) -> Verdict:
    """Judge whether a part buys anything of either share on any load."""
    gains = {
        load: max(
            whole - part for whole, part in zip(score(load, WHOLE), score(load, name), strict=True)
        )
        for load in loads
    }
    best = max(gains, key=lambda load: gains[load])
    what = f"{name}: most that the part buys (on {best}), points"
    return Verdict(what, gains[best], Sense.AT_LEAST, LEAST_GAIN)


def _cell(score: tuple[float, ...]) -> str:
    return " / ".join(percent(share / 100) for share in score)
