"""One figure, and what it should be."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Finding:
    """See the module."""

    what: str
    measured: float
    most: float = inf
    """At most this is right."""
    least: float = -inf
    """At least this is."""

    @property
    def is_right(self) -> bool:
        """Whether it is."""
        return self.least <= self.measured <= self.most

    @property
    def bounds(self) -> str:
        """What it should be, in words; empty where it is only told."""
        words = []
        if self.least > -inf:
            words.append(f"at least {self.least:g}")
        if self.most < inf:
            words.append(f"at most {self.most:g}")
        return ", ".join(words)
