"""What there is a steady trickle of, such as log lines about the same thing."""


class Allotment:
    """So many a second, and as many at once; the others go without."""

    __slots__ = ("_at", "_left", "_per_s")

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at = 0.0

    def would_have_one(self, now: float) -> bool:
        """Tell whether there is one left."""
        return self._left + (now - self._at) * self._per_s >= 1.0

    def has_one(self, now: float) -> bool:
        """Tell whether there is one left, and take it."""
        self._left = min(self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
