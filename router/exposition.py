"""The text of `/metrics`, written in slices so that a large fleet's scrape holds nobody up.

Lines are written here and not by the client library, whose encoder takes a dozen times as long;
its parsers judge the text in the tests. Sources: Prometheus text format 0.0.4, OpenMetrics 1.0.0.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from router.counters import Histogram
from router.metrics import Family, Metrics, Sort

OPEN_METRICS: Final = "application/openmetrics-text"
SLICE_LINES: Final = 200
"""Lines written without a break: about half a millisecond's work."""
_SUFFIX: Final = {Sort.COUNTER: "_total", Sort.INFO: "_info"}


async def exposition(
    metrics: Metrics, accept: str, beside: CollectorRegistry | None = None
) -> tuple[str, bytes]:
    """Return the content type that suits an `Accept` header, and every metric in it.

    `beside` holds further collectors, few and small (the process's own figures).
    """
    is_open = OPEN_METRICS in accept
    encode, content_type = choose_encoder(OPEN_METRICS if is_open else "")
    lines = _lines(metrics, is_open=is_open)
    parts = []
    while part := "".join(islice(lines, SLICE_LINES)):
        parts.append(part.encode())
        await asyncio.sleep(0)
    parts.append(encode(beside or CollectorRegistry()))
    return content_type, b"".join(parts)


def _lines(metrics: Metrics, *, is_open: bool) -> Iterator[str]:
    for family, values in metrics.families():
        yield _head(family, is_open=is_open)
        name = family.name + _SUFFIX.get(family.sort, "")
        for labels, value in values:
            text = _label_text(family.labels, labels)
            if isinstance(value, Histogram):
                yield from _distribution(family, text, value, is_open=is_open)
            else:
                yield f"{name}{{{text}}} {value}\n"


def _head(family: Family, *, is_open: bool) -> str:
    """Return the comments that introduce a family; the older format has no info and no unit."""
    name, sort = family.name, family.sort
    if is_open:
        unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
        return f"# HELP {name} {family.documentation}\n# TYPE {name} {sort}\n{unit}"
    name += _SUFFIX.get(sort, "")
    sort = Sort.GAUGE if sort is Sort.INFO else sort
    return f"# HELP {name} {family.documentation}\n# TYPE {name} {sort}\n"


def _label_text(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(
        [f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _distribution(
    family: Family, labels: str, histogram: Histogram, *, is_open: bool
) -> Iterable[str]:
    """Return one distribution's lines, all from one moment, so that they agree."""
    name, comma = family.name, "," if labels else ""
    counts = list(accumulate(histogram.counts))
    lines = []
    if family.sort is Sort.HISTOGRAM:
        bounds = (*map(str, histogram.bounds_s), "+Inf")
        lines = [
            f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}\n'
            for bound, count in zip(bounds, counts, strict=True)
        ]
        if is_open:
            for place, (trace_id, value_s, at_s) in histogram.exemplars.items():
                example = f'# {{trace_id="{trace_id}"}} {value_s} {at_s:.3f}'
                lines[place] = f"{lines[place][:-1]} {example}\n"
    lines.append(f"{name}_count{{{labels}}} {counts[-1]}\n")
    lines.append(f"{name}_sum{{{labels}}} {histogram.total_s}\n")
    return lines
