"""Line 3: tenants beside a flood, conversations beside each other, a mix that shifts."""

from collections.abc import Sequence
from statistics import fmean
from typing import Final

from policies.facts import SlaClass
from router.measure.tally import Group, merged
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import load_fleet
from router.workload.settings import Workload
from tests.bench.routing.conversations import caching, conversations
from tests.bench.routing.extent import Extent
from tests.bench.routing.mixes import FLOODER, WARM_UP_S, chat, mix_shift, tenants
from tests.bench.routing.runs import WINDOW_S, Job, Runner, Seen, first_token_percentile
from tests.bench.routing.sections import Section, Sense, Verdict, milliseconds, percent

FLEET: Final = "h100-8b"
CACHING_FLEET: Final = "h100-8b-vllm"
TENANT_RATE: Final = 100.0
FLOOD: Final = 10.0
TURNS_RATE: Final = 70.0
SHIFT_RATE: Final = 90.0
SHIFT_S: Final = 200.0
MOST_LOST: Final = 0.03
MOST_HITS_LOST: Final = 0.05
LEAST_IN_WINDOW: Final = 0.97
CHATTY: Final = SlaClass.INTERACTIVE


def tenants_job(name: str, times: float, extent: Extent, seed: int) -> Job:
    """Return one run with or without the flood."""
    workload = tenants(TENANT_RATE, extent.search_s, times)
    return Job(load_fleet(FLEET), CONTENDERS[name], workload, seed)


def turns_job(name: str, extent: Extent, seed: int) -> Job:
    """Return one run of conversations."""
    workload = Workload(
        duration_s=extent.search_s,
        warm_up_s=WARM_UP_S,
        traffic=(chat(TURNS_RATE, cv=1.0, name="conversations"),),
    )
    fleet = caching(load_fleet(CACHING_FLEET))
    return Job(fleet, CONTENDERS[name], workload, seed, source=conversations)


def shift_job(name: str, seed: int) -> Job:
    """Return one run of the mix that shifts."""
    return Job(load_fleet(FLEET), CONTENDERS[name], mix_shift(SHIFT_RATE, SHIFT_S), seed)


def others(seen: Sequence[Seen]) -> Group:
    """Return what the tenants beside the flooder had."""
    return merged(
        group
        for one in seen
        for name, group in one.tally.tenants.items()
        if name.startswith("tenant-") and name != FLOODER
    )


def hits(seen: Sequence[Seen]) -> float:
    """Return the share of prompt tokens that came from the engines' caches."""
    return sum(one.observed.cached_tokens for one in seen) / sum(one.prompt_tokens for one in seen)


def worst_window(seen: Sequence[Seen], duration_s: float) -> float:
    """Return the least share in time of any ten seconds after the warm-up, seeds apart."""
    shares = []
    for one in seen:
        at_s = 2 * WINDOW_S
        while at_s < duration_s:
            piece = one.between(CHATTY, at_s, at_s + WINDOW_S)
            if piece.offered:
                shares.append(piece.good / piece.offered)
            at_s += WINDOW_S
    return min(shares)


def tenants_section(runner: Runner, extent: Extent) -> Section:
    """Run W3."""
    names = ("headway", "no_fairness", "least_busy")
    asked = [(name, times) for name in names for times in (1.0, FLOOD)]
    jobs = [(key, seed) for key in asked for seed in extent.seeds]
    runs = runner.runs(
        (tenants_job(name, times, extent, seed) for (name, times), seed in jobs), "tenants"
    )
    seen: dict[tuple[str, float], list[Seen]] = {}
    for (key, _), one in zip(jobs, runs, strict=True):
        seen.setdefault(key, []).append(one)
    shares = {key: others(ones).attainment for key, ones in seen.items()}
    flooders = {
        name: merged(one.tally.tenants[FLOODER] for one in seen[name, FLOOD]).attainment
        for name in names
    }
    lost = shares["headway", 1.0] - shares["headway", FLOOD]
    return Section(
        line=3,
        name="tenants",
        title=f"Ten tenants' chat, one of which sends {FLOOD:g} times its share",
        headings=("policy", "others without the flood %", "others with it %", "the flooder %"),
        rows=[
            [
                name,
                percent(shares[name, 1.0]),
                percent(shares[name, FLOOD]),
                percent(flooders[name]),
            ]
            for name in names
        ],
        note=f"{FLEET}, {TENANT_RATE:g} requests/s of W1's mix without the flood.",
        verdicts=[
            Verdict("tenants: lost by the others", lost, Sense.AT_MOST, MOST_LOST, "%"),
        ],
        figures=[
            {"policy": name, "without": shares[name, 1.0], "with": shares[name, FLOOD]}
            for name in names
        ],
    )


def turns_section(runner: Runner, extent: Extent) -> Section:
    """Run W4."""
    names = ("headway", "consistent_hash", "least_busy")
    jobs = [(name, seed) for name in names for seed in extent.seeds]
    runs = runner.runs((turns_job(name, extent, seed) for name, seed in jobs), "conversations")
    seen: dict[str, list[Seen]] = {name: [] for name in names}
    for (name, _), one in zip(jobs, runs, strict=True):
        seen[name].append(one)
    share = {name: hits(ones) for name, ones in seen.items()}
    late = {name: first_token_percentile(ones, CHATTY, 0.99) for name, ones in seen.items()}
    in_time = {name: fmean(one.attainment(CHATTY) for one in ones) for name, ones in seen.items()}
    mine, theirs = late["headway"], late["least_busy"]
    return Section(
        line=3,
        name="conversations",
        title="Conversations whose prompts grow by each turn",
        headings=("policy", "prompt tokens from caches %", "TTFT p99 ms", "in time %"),
        rows=[
            [name, percent(share[name]), milliseconds(late[name]), percent(in_time[name])]
            for name in names
        ],
        note=f"{CACHING_FLEET}, {TURNS_RATE:g} turns/s, blocks of 512 tokens.",
        verdicts=[
            Verdict(
                "conversations: cached share lost against consistent_hash",
                share["consistent_hash"] - share["headway"],
                Sense.AT_MOST,
                MOST_HITS_LOST,
                "%",
            ),
            Verdict(
                "conversations: TTFT p99 over least_busy's",
                mine / theirs if mine is not None and theirs is not None else None,
                Sense.AT_MOST,
                1.0,
                "times",
            ),
        ],
        figures=[
            {"policy": name, "hits": share[name], "p99_s": late[name], "in_time": in_time[name]}
            for name in names
        ],
    )


def shift_section(runner: Runner, extent: Extent) -> Section:
    """Run W5."""
    names = ("headway", "least_busy", "hard_split")
    jobs = [(name, seed) for name in names for seed in extent.seeds]
    runs = runner.runs((shift_job(name, seed) for name, seed in jobs), "mix shift")
    seen: dict[str, list[Seen]] = {name: [] for name in names}
    for (name, _), one in zip(jobs, runs, strict=True):
        seen[name].append(one)
    worst = {name: worst_window(ones, SHIFT_S) for name, ones in seen.items()}
    in_time = {
        (name, each): fmean(one.attainment(each) for one in seen[name])
        for name in names
        for each in (CHATTY, SlaClass.BULK)
    }
    return Section(
        line=3,
        name="mix shift",
        title="70 % chat, from half-way on 30 %",
        headings=("policy", "interactive %", "worst ten seconds %", "bulk %"),
        rows=[
            [
                name,
                percent(in_time[name, CHATTY]),
                percent(worst[name]),
                percent(in_time[name, SlaClass.BULK]),
            ]
            for name in names
        ],
        note=f"{FLEET}, {SHIFT_RATE:g} requests/s all along.",
        verdicts=[
            Verdict(
                "mix shift: interactive in the worst ten seconds",
                worst["headway"],
                Sense.AT_LEAST,
                LEAST_IN_WINDOW,
                "%",
            )
        ],
        figures=[
            {"policy": name, "worst_window": worst[name], "bulk": in_time[name, SlaClass.BULK]}
            for name in names
        ],
    )
