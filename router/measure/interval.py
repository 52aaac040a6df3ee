"""How sure a mean over seeds is."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Final

RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and where it may lie; `low` and `high` are None for a single value."""

    mean: float
    low: float | None = None
    high: float | None = None


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of at least one value with its 95 % bootstrap interval.

    Percentile bootstrap; with few values it is too narrow rather than too wide.
    Source: Efron, Bootstrap Methods: Another Look at the Jackknife, 1979.
    """
    mean = fmean(values)
    if len(values) == 1:
        return Interval(mean)
    rng = Random(0)
    count = len(values)
    means = sorted(fmean(rng.choices(values, k=count)) for _ in range(RESAMPLES))
    cut = int((1.0 - CONFIDENCE) / 2.0 * RESAMPLES)
    return Interval(mean, means[cut], means[RESAMPLES - 1 - cut])
