"""When two ways to find the same figure agree, and when a measurement can be believed at all. Pure.

A figure of the one way is known from several runs, that of the other from a single one. They agree
where the single one is within a tolerance of the median of the several. Where it is further off but
no further than the several runs are from each other, chance alone explains it: a 99th percentile
of a few hundred requests is the third worst of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class Verdict(StrEnum):
    """How a figure compares."""

    AGREES = " "
    CHANCE = "~"
    SHORT = "!"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, found in both ways."""

    name: str
    expected: tuple[float, ...]
    """Of each of several runs, at least one."""
    found: float
    tolerance: float
    """Largest difference from the median of `expected`."""
    relative: bool
    """The tolerance is a share of that median, else it is in the figure's own unit."""

    @property
    def middle(self) -> float:
        """What is to be expected."""
        return median(self.expected)

    @property
    def error(self) -> float:
        """How far off it is, as the tolerance is given; NaN or infinite where one is unknown."""
        off = self.found - self.middle
        if not self.relative:
            return off
        return off / self.middle if self.middle else float("nan")

    @property
    def verdict(self) -> Verdict:
        """How it compares."""
        if abs(self.error) <= self.tolerance:
            return Verdict.AGREES
        if min(self.expected) <= self.found <= max(self.expected) < float("inf"):
            return Verdict.CHANCE
        return Verdict.SHORT


@dataclass(frozen=True, slots=True)
class Gate:
    """What must hold for a measurement to be one of what it is meant to be."""

    name: str
    value: float
    limit: float
    """The value must be below it."""

    @property
    def holds(self) -> bool:
        """Whether it does; an unknown value (NaN) does not."""
        return self.value < self.limit


def shortcomings(where: str, gates: Sequence[Gate], figures: Sequence[Figure]) -> list[str]:
    """Return a sentence for each thing that falls short; figures that cannot be believed do not."""
    invalid = [
        f"{where}: not valid: {gate.name} is {gate.value:.4g}, less than {gate.limit:g} would do"
        for gate in gates
        if not gate.holds
    ]
    return invalid or [
        f"{where}: {figure.name} is {figure.found:.4g}, expected {figure.middle:.4g}"
        f" (runs: {min(figure.expected):.4g} to {max(figure.expected):.4g}), off by"
        f" {_as_text(figure, figure.error, '+')}, up to {_as_text(figure, figure.tolerance)} would do"
        for figure in figures
        if figure.verdict is Verdict.SHORT
    ]


def _as_text(figure: Figure, value: float, sign: str = "") -> str:
    return f"{value:{sign}.1%}" if figure.relative else f"{value:{sign}.4g}"
