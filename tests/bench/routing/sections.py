"""What one part of the benchmark says: a table, and what it has to say for itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Sense(StrEnum):
    """On which side of its bound a figure has to be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bound, and whether it is kept."""

    what: str
    """What is measured, in words."""
    measured: float | None
    """None: it could not be measured, which falls short."""
    sense: Sense
    bound: float
    unit: str = ""
    """What the figure is in; "%" for a share 0..1."""

    @property
    def held(self) -> bool:
        """Whether the bound is kept."""
        if self.measured is None:
            return False
        if self.sense is Sense.AT_LEAST:
            return self.measured >= self.bound
        return self.measured <= self.bound

    def sentence(self) -> str:
        """Say it all."""
        return (
            f"{self.what}: {self._in_unit(self.measured)}, {self.sense} {self._in_unit(self.bound)}"
        )

    def _in_unit(self, value: float | None) -> str:
        if value is None:
            return "not measured"
        if self.unit == "%":
            return f"{100 * value:.2f} %"
        return f"{value:.3g} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the benchmark."""

    line: int
    """Its number, for `--only`."""
    name: str
    """One of the tables of a README, where it is one."""
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    verdicts: Sequence[Verdict] = ()
    figures: Any = field(default=None)
    """The figures of the table in plain values."""


def percent(share: float | None) -> str:
    """Write a share 0..1."""
    return "-" if share is None else f"{100 * share:.1f}"


def milliseconds(time_s: float | None) -> str:
    """Write a time."""
    return "-" if time_s is None else f"{1e3 * time_s:.0f}"
