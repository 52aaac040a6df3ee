"""Results as plain values: what JSON holds, and what tables and pictures are drawn from.

A row is one contender at one rate, its seeds together: counts and percentiles over all of them,
attainment as the mean over seeds with an interval. Shares are 0..1, times seconds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from policies.facts import SlaClass
from router.measure.distribution import Distribution
from router.measure.interval import Interval, interval
from router.measure.tally import BINS, Group, Part, Tally, merged

PERCENTILES: Final = (0.50, 0.90, 0.99)
DISTRIBUTIONS: Final = ("first_token", "per_token", "slowest_gap", "total", "queued")
HEADLINES: Final = (0.90, 0.99)
"""Attainments whose highest rate is told."""
CURVE_POINTS: Final = 200
"""Most points kept of a cumulative distribution."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One contender at one rate: its tallies, one a seed, and what else is known of it."""

    name: str
    rate: float
    """Requests a second that were to be offered."""
    tallies: Sequence[Tally]
    extra: Mapping[str, Any] = field(default_factory=dict)


def row(entry: Entry, usd_per_hour: float | None = None) -> dict[str, Any]:
    """Return one row."""
    tallies = entry.tallies
    whole = merged([tally.all for tally in tallies])
    window_s = sum(tally.window_s for tally in tallies)
    classes = {
        sla_class: group(
            [tally.classes[sla_class] for tally in tallies],
            timeline=timeline(tallies, sla_class),
        )
        for sla_class in SlaClass
        if any(tally.classes[sla_class].offered for tally in tallies)
    }
    tenants = sorted({name for tally in tallies for name in tally.tenants})
    endpoints = sorted({name for tally in tallies for name in tally.endpoints})
    return {
        "name": entry.name,
        "rate": entry.rate,
        "offered_per_s": whole.offered / window_s,
        "good_per_s": whole.good / window_s,
        "output_tokens_per_s": whole.output_tokens / window_s,
        "prompt_tokens_per_s": whole.prompt_tokens / window_s,
        **cost(whole, window_s, usd_per_hour),
        "all": group([tally.all for tally in tallies]),
        "classes": classes,
        "tenants": {
            name: group([t.tenants[name] for t in tallies if name in t.tenants]) for name in tenants
        },
        "endpoints": {
            name: share([t.endpoints[name] for t in tallies if name in t.endpoints])
            for name in endpoints
        },
        **entry.extra,
    }


def cost(whole: Group, window_s: float, usd_per_hour: float | None) -> dict[str, float | None]:
    """Return what the fleet's time cost for each million output tokens and good requests."""
    if usd_per_hour is None:
        return {}
    usd = usd_per_hour * window_s / 3600.0
    return {
        "usd_per_million_output_tokens": 1e6 * usd / whole.output_tokens
        if whole.output_tokens
        else None,
        "usd_per_thousand_good": 1e3 * usd / whole.good if whole.good else None,
    }


def group(
    groups: Sequence[Group], *, timeline: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return one group of requests, from each of the seeds."""
    whole = merged(groups)
    values: dict[str, Any] = {
        "offered": whole.offered,
        "good": whole.good,
        "attainment": asdict(interval([each.attainment for each in groups])),
        "attainment_of_served": whole.good / whole.served if whole.served else None,
        "shed": whole.shed,
        "fates": dict(sorted(whole.fates.items())),
        "refusals": dict(sorted(whole.refusals.items())),
        "reasons": dict(sorted(whole.reasons.items())),
        "attempts_per_request": whole.attempts / whole.offered if whole.offered else 0.0,
        "output_tokens": whole.output_tokens,
    }
    for name in DISTRIBUTIONS:
        values[f"{name}_s"] = percentiles(getattr(whole, name))
    values["first_token_curve"] = curve(whole.first_token)
    if timeline is not None:
        values["timeline"] = timeline
    return values


def share(parts: Sequence[Part]) -> dict[str, Any]:
    """Return what one endpoint had of the requests."""
    reasons = sum((each.reasons for each in parts), Counter[str]())
    return {
        "requests": sum(each.requests for each in parts),
        "good": sum(each.good for each in parts),
        "output_tokens": sum(each.output_tokens for each in parts),
        "reasons": dict(sorted(reasons.items())),
    }


def percentiles(times: Distribution) -> dict[str, float | None]:
    """Return the percentiles, mean and maximum of a distribution."""
    found = {f"p{round(100 * each)}": times.percentile(each) for each in PERCENTILES}
    return {**found, "mean": times.mean_s, "max": times.most_s if times.count else None}


def curve(times: Distribution) -> list[tuple[float, float]]:
    """Return a cumulative distribution with a bounded number of points, the last one included."""
    points = times.cumulative()
    stride = -(-len(points) // CURVE_POINTS) or 1
    return [*points[:-1:stride], *points[-1:]]


def timeline(tallies: Sequence[Tally], sla_class: SlaClass) -> list[dict[str, Any]]:
    """Return one class over time, all seeds together."""
    width_s = tallies[0].duration_s / BINS
    pieces = []
    for index in range(BINS):
        bins = [tally.timeline[sla_class][index] for tally in tallies]
        pieces.append(
            {
                "at_s": index * width_s,
                "offered": sum(each.offered for each in bins),
                "good": sum(each.good for each in bins),
                "refused": sum(each.refused for each in bins),
            }
        )
    return pieces


def differences(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return how each contender's attainment differs from the first one's, seed by seed.

    The same seed means the same requests, so that the difference is surer than either.
    """
    found = []
    firsts = {entry.rate: entry for entry in reversed(entries)}
    for entry in entries:
        first = firsts[entry.rate]
        if entry is first or len(entry.tallies) != len(first.tallies):
            continue
        difference: dict[str, Any] = {"name": entry.name, "than": first.name, "rate": entry.rate}
        for sla_class in SlaClass:
            if first.tallies[0].classes[sla_class].offered:
                difference[sla_class] = asdict(_difference(entry, first, sla_class))
        found.append(difference)
    return found


def _difference(entry: Entry, first: Entry, sla_class: SlaClass) -> Interval:
    pairs = zip(entry.tallies, first.tallies, strict=True)
    return interval(
        [
            mine.classes[sla_class].attainment - theirs.classes[sla_class].attainment
            for mine, theirs in pairs
        ]
    )


def highest_rates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each contender, class and headline, the highest rate that still attained it.

    Between two rates of the sweep it is interpolated; None where already the lowest fell short.
    A contender that attained it at every rate is given the highest one, `beyond` true.
    """
    found = []
    for name in dict.fromkeys(each["name"] for each in rows):
        own = sorted((each for each in rows if each["name"] == name), key=lambda each: each["rate"])
        for sla_class in own[0]["classes"]:
            points = [
                (each["rate"], each["classes"][sla_class]["attainment"]["mean"])
                for each in own
                if sla_class in each["classes"]
            ]
            for headline in HEADLINES:
                rate, beyond = crossing(points, headline)
                found.append(
                    {
                        "name": name,
                        "class": sla_class,
                        "attainment": headline,
                        "rate": rate,
                        "beyond": beyond,
                    }
                )
    return found


def crossing(points: Sequence[tuple[float, float]], level: float) -> tuple[float | None, bool]:
    """Return the rate at which a curve first falls below a level, and whether it never does."""
    before: tuple[float, float] | None = None
    for rate, attained in points:
        if attained < level:
            if before is None:
                return None, False
            below = (before[1] - level) / (before[1] - attained)
            return before[0] + below * (rate - before[0]), False
        before = rate, attained
    return (None if before is None else before[0]), True


def as_interval(values: Mapping[str, float | None]) -> Interval:
    """Return an interval from its plain values."""
    return Interval(values["mean"] or 0.0, values["low"], values["high"])
