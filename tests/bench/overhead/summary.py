"""What a run's values say: medians, ratios of what ran side by side, and the bounds held or not.

Pure: values in, values out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.overhead.targets import DIRECT, HEADWAY, SHARING

Values = Mapping[str, Mapping[str, Sequence[float]]]
"""By target and figure, one value a repeat."""

MOST_OF_DIRECT = 0.8
"""A proxy that comes closer to the direct way's rate is held up by the harness, not by itself."""
MOST_FOREIGN_SHARE = 0.15
"""Above it times on the clock say more of the neighbours than of the proxy."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the repeats."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bound:
    """What the router promises of one figure."""

    figure: str
    says: str
    most: float
    beside: str | None = None
    """Times that target's figure; None: the figure itself."""
    of: str = HEADWAY
    """Whose figure."""
    less: str | None = None
    """That target's figure is taken off, repeat by repeat."""


BOUNDS = (
    Bound("request_us", "CPU per request", 3.2, beside="nginx"),
    Bound("chunk_us", "CPU per chunk", 1.3, beside="nginx"),
    Bound("added_p50_ms", "added p50 at c=1, in ms", 0.3),
    Bound("rss_streams_mb", "RSS with idle streams, in MB", 90),
    Bound("large_us", "CPU for a large body", 2, beside="bare"),
    Bound("request_us", "CPU per request that sharing adds, in µs", 5, of=SHARING, less=HEADWAY),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bound beside what was measured."""

    bound: Bound
    measured: float | None
    """None where it, or what it is held against, was not measured."""

    @property
    def held(self) -> bool:
        """Whether the promise is kept. What was not measured is not kept."""
        return self.measured is not None and self.measured <= self.bound.most

    def sentence(self) -> str:
        """Say it, as in `CPU per request: 2.40 x nginx, at most 3.2`."""
        unit = f" x {self.bound.beside}" if self.bound.beside else ""
        value = "not measured" if self.measured is None else f"{self.measured:.2f}{unit}"
        return f"{self.bound.says}: {value}, at most {self.bound.most:g}{unit}"


def with_added(values: Values) -> dict[str, dict[str, list[float]]]:
    """Add each proxy's `added_p50_ms`: its p50 less that of the direct way in the same repeat.

    There is no such difference of p99s: it is no percentile of anything.
    """
    direct = values.get(DIRECT, {}).get("p50_ms", ())
    whole = {}
    for target, figures in values.items():
        whole[target] = {name: list(several) for name, several in figures.items()}
        if target != DIRECT and direct and "p50_ms" in figures:
            pairs = zip(figures["p50_ms"], direct, strict=True)
            whole[target]["added_p50_ms"] = [through - without for through, without in pairs]
    return whole


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the extremes; `values` is not empty."""
    return Spread(median(values), min(values), max(values))


def ratio(values: Values, figure: str, target: str, beside: str) -> float | None:
    """Return the median ratio of two targets' figures, repeat by repeat; None where one lacks it.

    Repeats are paired, because what drifts between repeats drifts for both.
    """
    above = values.get(target, {}).get(figure, ())
    below = values.get(beside, {}).get(figure, ())
    ratios = [high / low for high, low in zip(above, below, strict=False) if low > 0]
    return median(ratios) if ratios else None


def difference(values: Values, figure: str, target: str, less: str) -> float | None:
    """Return by how much a target's figure is above another's, median of the repeats' pairs."""
    above = values.get(target, {}).get(figure, ())
    below = values.get(less, {}).get(figure, ())
    gaps = [high - low for high, low in zip(above, below, strict=False)]
    return median(gaps) if gaps else None


def judged(values: Values, bounds: Sequence[Bound] = BOUNDS) -> list[Verdict]:
    """Hold the router's figures to its bounds."""
    verdicts = []
    for bound in bounds:
        own = values.get(bound.of, {}).get(bound.figure, ())
        measured = median(own) if own else None
        if bound.beside is not None:
            measured = ratio(values, bound.figure, bound.of, bound.beside)
        elif bound.less is not None:
            measured = difference(values, bound.figure, bound.of, bound.less)
        verdicts.append(Verdict(bound, measured))
    return verdicts


def doubts(values: Values, foreign_shares: Sequence[float], *, apart: bool) -> list[str]:
    """Say what speaks against believing a run's figures; nothing where nothing does."""
    found = []
    if not apart:
        found.append("proxy and harness share one core: every figure is too high")
    for target in values:
        share = None if target == DIRECT else ratio(values, "requests_per_s", target, DIRECT)
        if share is not None and share > MOST_OF_DIRECT:
            found.append(
                f"{target} came to {share:.0%} of the direct way's requests/s, at most "
                f"{MOST_OF_DIRECT:.0%}: the harness held it up"
            )
    foreign = median(foreign_shares) if foreign_shares else 0.0
    if foreign > MOST_FOREIGN_SHARE:
        found.append(
            f"other processes took {foreign:.0%} of the cores, at most {MOST_FOREIGN_SHARE:.0%}: "
            "times and requests/s are theirs too, CPU figures less so"
        )
    return found
