"""Times as a histogram with narrow buckets: any number of them in little memory."""

from bisect import bisect_left
from itertools import accumulate
from math import ceil, exp, log
from typing import Final

GROWTH: Final = 1.01
"""Ratio of two neighbouring bounds: a percentile is right within half a percent."""
LEAST_S: Final = 1e-5
"""Shorter times are counted as this."""
_LOG_GROWTH: Final = log(GROWTH)


class Distribution:
    """How often times of each length were seen. Deterministic, and the same in any order."""

    __slots__ = ("buckets", "count", "most_s", "total_s")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        """Times by the power of `GROWTH` that is next above them, in units of `LEAST_S`."""
        self.count = 0
        self.total_s = 0.0
        self.most_s = 0.0

    def add(self, time_s: float) -> None:
        """Count one time, s, at least 0."""
        bucket = ceil(log(time_s / LEAST_S) / _LOG_GROWTH) if time_s > LEAST_S else 0
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1
        self.total_s += time_s
        self.most_s = max(self.most_s, time_s)

    def merge(self, other: "Distribution") -> None:
        """Count all that `other` has counted."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.count += other.count
        self.total_s += other.total_s
        self.most_s = max(self.most_s, other.most_s)

    @property
    def mean_s(self) -> float | None:
        """The mean; None where nothing was counted."""
        return self.total_s / self.count if self.count else None

    def percentile(self, share: float) -> float | None:
        """Return the nearest-rank percentile for a share 0..1, s; None where nothing was counted."""
        if not self.count:
            return None
        rank = max(1, ceil(share * self.count))
        buckets = sorted(self.buckets)
        upto = list(accumulate(self.buckets[bucket] for bucket in buckets))
        return min(_middle_s(buckets[bisect_left(upto, rank)]), self.most_s)

    def cumulative(self) -> list[tuple[float, float]]:
        """Return (time, s; share of times up to it), ascending, one point a bucket."""
        points = []
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            points.append((LEAST_S * exp(bucket * _LOG_GROWTH), seen / self.count))
        return points


def _middle_s(bucket: int) -> float:
    return LEAST_S * exp((bucket - 0.5) * _LOG_GROWTH) if bucket else LEAST_S
