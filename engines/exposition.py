"""Reads Prometheus text (and OpenMetrics) for a few metrics among many.

Engines expose hundreds of lines, most of them histogram buckets; only lines whose name is asked for
are taken apart. Lines that make no sense are passed over.
Source: Prometheus, "Exposition formats", text format 0.0.4; OpenMetrics 1.0.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

_LINE = re.compile(r'([\w:]+)[ \t]*(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)')
_LABEL = re.compile(r'(\w+)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line's labels and value; the value is finite."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples by metric name.

    Each question takes several names, for engines rename their metrics: the first that is there
    answers.
    """

    by_name: Mapping[str, Sequence[Sample]]

    def of(self, *names: str) -> Sequence[Sample]:
        """Return the samples of the first name that has any."""
        return next((found for name in names if (found := self.by_name.get(name))), ())

    def where(self, label: str, value: str) -> "Samples":
        """Return only the samples whose `label` is `value` or that have no such label."""
        return Samples(
            {
                name: [sample for sample in found if sample.labels.get(label, value) == value]
                for name, found in self.by_name.items()
            }
        )

    def total(self, *names: str) -> float | None:
        """Return the sum over all labels; None where no name is there."""
        found = self.of(*names)
        return sum(sample.value for sample in found) if found else None

    def count(self, *names: str) -> int | None:
        """Return the sum as a whole number; None where no name is there."""
        total = self.total(*names)
        return None if total is None else round(total)

    def mean(self, *names: str) -> float | None:
        """Return the mean over all labels; None where no name is there."""
        found = self.of(*names)
        return sum(sample.value for sample in found) / len(found) if found else None


def read(text: str, names: Collection[str]) -> Samples:
    """Return the samples of `names` in `text`."""
    by_name: dict[str, list[Sample]] = {}
    beginnings = tuple(names)
    for line in text.split("\n"):
        # Most lines are not asked for; a name that only begins like one is told apart below.
        match = _LINE.match(line) if line.startswith(beginnings) else None
        if match is None or match[1] not in names:
            continue
        value = _value(match[3])
        if value is not None:
            by_name.setdefault(match[1], []).append(Sample(_labels(match[2] or ""), value))
    return Samples(by_name)


def _value(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _labels(text: str) -> dict[str, str]:
    return {
        name: _ESCAPE.sub(_unescape, value) if "\\" in value else value
        for name, value in _LABEL.findall(text)
    }


def _unescape(escape: re.Match[str]) -> str:
    return _ESCAPED.get(escape[1], escape[1])
