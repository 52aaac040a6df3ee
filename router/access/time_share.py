"""A share of time for work that anybody can cause: what it took is counted, not how often it came."""

from typing import Final

BURST_S: Final = 1.0
"""What was not used of the share of so long may be used at once."""
MOST_S: Final = 0.01
"""No single piece of work counts for more: a process that was stopped in the middle did not work."""


class TimeShare:
    """Time for such work: of any `t` seconds, `share` of `t` + `BURST_S` and one piece at most."""

    __slots__ = ("_at", "_left_s", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._left_s = share * BURST_S
        self._at = 0.0

    def has_any(self, now: float) -> bool:
        """Tell whether there is time left to begin."""
        grown = self._left_s + (now - self._at) * self._share
        self._left_s = min(self._share * BURST_S, grown)
        self._at = now
        return self._left_s > 0.0

    def spent(self, seconds: float) -> None:
        """Count what was begun, and is done."""
        self._left_s -= min(seconds, MOST_S)
