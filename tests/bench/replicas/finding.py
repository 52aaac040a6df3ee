"""One figure beside what it should be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure of one scene."""

    what: str
    measured: float
    most: float | None = None
    """At most this is right; None: whatever it is."""
    least: float | None = None
    """At least this is right."""

    @property
    def right(self) -> bool:
        """Whether it is as it should be."""
        low_enough = self.most is None or self.measured <= self.most
        return low_enough and (self.least is None or self.measured >= self.least)

    @property
    def bound(self) -> str:
        """What it should be, in words."""
        if self.most is not None:
            return f"at most {self.most:g}"
        return "" if self.least is None else f"at least {self.least:g}"
