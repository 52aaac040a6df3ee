"""Line 5: how many engines a rate takes, together or apart, and what a token costs."""

from functools import partial
from statistics import fmean
from typing import Any, Final, NamedTuple

from policies.facts import SlaClass
from router.simulation.contenders import CONTENDERS
from router.workload.settings import Workload
from tests.bench.routing.extent import Extent
from tests.bench.routing.fleets import (
    CHUNKING_TGI,
    CLASSIC_TGI,
    USD_PER_HOUR,
    VLLM,
    pools_of,
)
from tests.bench.routing.frontier import Search, fewest_engines
from tests.bench.routing.mixes import WARM_UP_S, chat, mix_shift, one_class, summaries, w1
from tests.bench.routing.runs import MOST_BULK_WAIT_S, Job, Runner, all_hold
from tests.bench.routing.sections import Section, Sense, Verdict

W1_RATE: Final = 90.0
SHIFT_RATE: Final = 90.0
MOST_ENGINES: Final = 24
LEAST_SAVED: Final = 0.3
PREDICTABLE_SHARE: Final = 1 / 3
"""Of headway's engines, as two of six are."""
SEEDS: Final = 1


class Key(NamedTuple):
    """Engines that are counted."""

    setting: str
    who: str
    """A contender over the whole fleet, or one pool by itself."""


class Setting(NamedTuple):
    """A load, and what the predictable engines are."""

    predictable: dict[str, Any]
    load: str
    bound: bool = True
    """Whether so much has to be saved; for comparison otherwise."""


SETTINGS: Final = {
    f"W1 at {W1_RATE:g}/s, TGI at its defaults": Setting(CLASSIC_TGI, "w1"),
    f"W1 at {W1_RATE:g}/s, chunking TGI": Setting(CHUNKING_TGI, "w1", bound=False),
    f"mix shift at {SHIFT_RATE:g}/s, chunking TGI": Setting(CHUNKING_TGI, "shift"),
}
TOGETHER: Final = ("headway", "least_busy")
APART: Final = {"interactive": SlaClass.INTERACTIVE, "bulk": SlaClass.BULK}


def together_job(setting: Setting, name: str, extent: Extent, engines: int, seed: int) -> Job:
    """Return one run of a fleet that serves both."""
    predictable = round(PREDICTABLE_SHARE * engines)
    fleet = pools_of(setting.predictable, VLLM, (predictable, engines - predictable))
    if setting.load == "w1":
        workload = w1(W1_RATE, extent.search_s)
    else:
        workload = mix_shift(SHIFT_RATE, extent.search_s)
    return Job(fleet, CONTENDERS[name], workload, seed)


def apart_job(
    setting: Setting, sla_class: SlaClass, extent: Extent, engines: int, seed: int
) -> Job:
    """Return one run of a pool that serves one class, at the most that ever comes of it."""
    interactive = sla_class is SlaClass.INTERACTIVE
    counts = (engines, 0) if interactive else (0, engines)
    if setting.load == "w1":
        workload = one_class(W1_RATE, extent.search_s, sla_class)
    else:
        peak = 0.7 * SHIFT_RATE
        traffic = chat(peak, cv=1.0) if interactive else summaries(peak, cv=1.0)
        workload = Workload(duration_s=extent.search_s, warm_up_s=WARM_UP_S, traffic=(traffic,))
    fleet = pools_of(setting.predictable, VLLM, counts)
    return Job(fleet, CONTENDERS["hard_split"], workload, seed)


def cost_section(runner: Runner, extent: Extent) -> Section:
    """Run line 5."""
    seeds = extent.seeds[:SEEDS]
    jobs = {
        Key(name, who): partial(together_job, setting, who, extent)
        for name, setting in SETTINGS.items()
        for who in TOGETHER
    } | {
        Key(name, who): partial(apart_job, setting, sla_class, extent)
        for name, setting in SETTINGS.items()
        for who, sla_class in APART.items()
    }
    engines = fewest_engines(Search(runner, all_hold, seeds, "fewest engines"), jobs, MOST_ENGINES)
    tokens = _tokens_per_s(runner, extent)
    rows, verdicts, figures = [], [], []
    for name in SETTINGS:
        together = {who: engines[Key(name, who)] for who in TOGETHER}
        alone = [engines[Key(name, who)] for who in APART]
        known = [count for count in alone if count is not None]
        split = sum(known) if len(known) == len(alone) else None
        mine = together["headway"]
        saved = 1 - mine / split if mine is not None and split is not None else None
        rows += [
            [name, who, _count(count), _usd(count, tokens[name])] for who, count in together.items()
        ]
        sizes = " + ".join(map(_count, alone))
        rows.append([name, f"two pools apart, {sizes}", _count(split), _usd(split, tokens[name])])
        what = f"cost, {name}: engines saved against pools apart"
        if SETTINGS[name].bound:
            verdicts.append(Verdict(what, saved, Sense.AT_LEAST, LEAST_SAVED, "%"))
        figures.append({"setting": name, **together, "apart": alone, "saved": saved})
    return Section(
        line=5,
        name="cost",
        title="Fewest engines that keep 99 % of both classes in time",
        headings=("load", "policy", "engines", "$ for 1M output tokens"),
        rows=rows,
        note=(
            f"And 90 % of bulk begun within {MOST_BULK_WAIT_S:g} s. ${USD_PER_HOUR:g} for an engine's hour; a third of the engines of one fleet"
            " predictable. Pools apart: each as large as its class needs at its own most, by"
            " itself, least busy engine first. At a mix that never changes, with engines that nobody"
            " is kept waiting by, pools apart save as much: what is shared pays where the mix moves."
        ),
        verdicts=verdicts,
        figures=figures,
    )


def _tokens_per_s(runner: Runner, extent: Extent) -> dict[str, float]:
    """Return the output tokens that come of each load a second, where engines are plenty."""
    seeds = extent.seeds[:SEEDS]
    jobs = [(name, seed) for name in SETTINGS for seed in seeds]
    runs = runner.runs(
        (
            together_job(SETTINGS[name], "headway", extent, MOST_ENGINES, seed)
            for name, seed in jobs
        ),
        "tokens of each load",
    )
    tokens: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for (name, _), one in zip(jobs, runs, strict=True):
        tokens[name].append(one.tally.all.output_tokens / one.counted_s)
    return {name: fmean(each) for name, each in tokens.items()}


def _count(engines: int | None) -> str:
    return f"over {MOST_ENGINES}" if engines is None else str(engines)


def _usd(engines: int | None, tokens_per_s: float) -> str:
    if engines is None:
        return "-"
    return f"{1e6 * engines * USD_PER_HOUR / 3600 / tokens_per_s:.2f}"
