"""Writes Prometheus text, format 0.0.4."""

from engines.emulator.faces.words import Histogram

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """A page of metrics that share `labels`."""

    def __init__(self, labels: str = "") -> None:
        self._labels = labels
        self._lines: list[str] = []
        self._typed: set[str] = set()

    def gauge(self, name: str, value: float, labels: str = "") -> None:
        """Write a gauge."""
        self._sample(name, "gauge", name, value, labels)

    def counter(self, name: str, value: float, labels: str = "") -> None:
        """Write a counter."""
        self._sample(name, "counter", name, value, labels)

    def summary(self, name: str, count: int, total: float) -> None:
        """Write a histogram of which only count and sum are known."""
        self._sample(name, "histogram", f"{name}_bucket", count, 'le="+Inf"')
        self._sample(name, "histogram", f"{name}_sum", total)
        self._sample(name, "histogram", f"{name}_count", count)

    def histogram(self, name: str, histogram: Histogram, labels: str = "") -> None:
        """Write a histogram."""
        comma = "," if labels else ""
        for bound, count in zip(histogram.bounds, histogram.counts, strict=True):
            self._sample(
                name, "histogram", f"{name}_bucket", count, f'{labels}{comma}le="{bound:g}"'
            )
        self._sample(
            name, "histogram", f"{name}_bucket", histogram.count, f'{labels}{comma}le="+Inf"'
        )
        self._sample(name, "histogram", f"{name}_sum", histogram.total, labels)
        self._sample(name, "histogram", f"{name}_count", histogram.count, labels)

    def text(self) -> bytes:
        """Return the page."""
        return ("\n".join(self._lines) + "\n").encode()

    def _sample(self, family: str, kind: str, name: str, value: float, labels: str = "") -> None:
        if family not in self._typed:
            self._typed.add(family)
            self._lines.append(f"# TYPE {family} {kind}")
        all_labels = ",".join(part for part in (self._labels, labels) if part)
        braces = f"{{{all_labels}}}" if all_labels else ""
        self._lines.append(f"{name}{braces} {value:.10g}")
