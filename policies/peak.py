"""A recent peak of times: what the endpoint policy `peak_ewma` goes by."""

from math import exp, inf
from typing import Final

DECAY_S: Final = 10.0
"""Time in which a peak that is not confirmed falls to 1/e. Source: Finagle's Peak EWMA."""


class PeakEwma:
    """A mean of times that follows a rise at once and a fall slowly.

    Source: Finagle, `PeakEwma`, as kept by linkerd2-proxy.
    """

    __slots__ = ("_at", "_value_s")

    def __init__(self) -> None:
        self._value_s = 0.0
        self._at = -inf

    def saw(self, sample_s: float, now: float) -> None:
        """Take in one time."""
        faded_s = self._faded_s(now)
        if sample_s >= faded_s:
            self._value_s = sample_s
        else:
            weight = exp(-(now - self._at) / DECAY_S)
            self._value_s = weight * self._value_s + (1.0 - weight) * sample_s
        self._at = now

    def at(self, now: float) -> float | None:
        """Return the mean as faded until `now`, s; None before the first time was seen."""
        return None if self._at == -inf else self._faded_s(now)

    def _faded_s(self, now: float) -> float:
        return self._value_s * exp(-max(0.0, now - self._at) / DECAY_S) if self._value_s else 0.0
