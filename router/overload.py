"""When the router itself has too much to do: who is turned away first, so that the rest is on time.

The measure is how late the event loop runs what is due. A pause now and then is not overload; one
reading after another is. Bulk goes first, then standard; interactive requests are never shed here.
"""

import resource
from typing import Final

from policies.facts import RefusalReason, Refuse, SlaClass

LATE_READINGS: Final = 3
"""Readings in a row above the limit that shed the next class."""
EARLY_READINGS: Final = 8
"""Readings in a row below half of it that let the last one in again."""
RETRY_AFTER_S: Final = 2.0
SHED: Final = (SlaClass.BULK, SlaClass.STANDARD)
"""In this order."""
SPARE_FILES: Final = 128
"""Open files kept for logs, probes, and engines' connections between two answers."""


class Overload:
    """Judges readings of the loop's lag, a few a second."""

    def __init__(self, limit_s: float | None) -> None:
        """`limit_s`: lag above which the loop is late; None: never."""
        self._limit_s = limit_s
        self.level = 0
        """Classes that are shed: 0 none, 1 bulk, 2 standard too."""
        self.lag_s = 0.0
        """The last reading."""
        self._late = 0
        self._early = 0

    def observe(self, lag_s: float) -> None:
        """Take in one reading."""
        self.lag_s = lag_s
        if self._limit_s is None:
            return
        if lag_s > self._limit_s:
            self._late, self._early = self._late + 1, 0
        elif lag_s < self._limit_s / 2:
            self._late, self._early = 0, self._early + 1
        else:
            self._late = self._early = 0
        if self._late >= LATE_READINGS and self.level < len(SHED):
            self.level += 1
            self._late = 0
        elif self._early >= EARLY_READINGS and self.level:
            self.level -= 1
            self._early = 0

    def refusal(self, sla_class: SlaClass) -> Refuse | None:
        """Return why a request of a class is turned away; None where it is not."""
        if sla_class not in SHED[: self.level]:
            return None
        return Refuse(
            RefusalReason.SATURATED,
            f"the router itself is overloaded (its event loop is {self.lag_s * 1e3:.0f} ms late)"
            f" and sheds class {sla_class}; run more replicas, or send less",
            retry_after_s=RETRY_AFTER_S,
        )


def most_connections(limit: int | None) -> int:
    """Return how many callers may be connected: as configured, else as many as files allow.

    A request takes two open files, the caller's connection and the engine's.
    """
    if limit is not None:
        return limit
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 30
    return max(16, (soft - SPARE_FILES) // 2)
