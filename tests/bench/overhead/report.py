"""A run as a document, and the document as a table: in the terminal, in Markdown, in a README."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.table import Table

from tests.bench.markers import between
from tests.bench.overhead.measure import Extent, Record
from tests.bench.overhead.processes import Cores
from tests.bench.overhead.summary import Spread, doubts, judged, ratio, spread, with_added
from tests.bench.overhead.targets import HEADWAY, Target

Document = Mapping[str, Any]
"""What `document` returns and overhead.json holds."""

COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("CPU µs / request, c={connections}", "request_us", 0),
    ("requests/s, one core", "requests_per_s", 0),
    ("CPU µs / chunk, {streams} streams", "chunk_us", 1),
    ("added p50 ms, c=1", "added_p50_ms", 2),
    ("p99 ms, c=1", "p99_ms", 2),
    ("RSS MB, start", "rss_start_mb", 0),
    ("RSS MB, {idle_streams} idle streams", "rss_streams_mb", 0),
    ("CPU µs, {large_body_bytes} byte body", "large_us", 0),
)
"""Heading, figure, decimals."""
RATIOS = (("bare", "nginx"), (HEADWAY, "nginx"), (HEADWAY, "bare"))
BEGIN = "<!-- overhead:begin -->"
END = "<!-- overhead:end -->"
COMMAND = "make bench-overhead"


def document(
    record: Record, targets: Sequence[Target], extent: Extent, cores: Cores, language: str
) -> dict[str, Any]:
    """Gather all that was measured, and what may be concluded, in plain JSON values."""
    values = with_added(record.values)
    verdicts = judged(values)
    return {
        "made": {
            "extent": asdict(extent),
            "harness": language,
            "cores_apart": cores.apart,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "targets": {
            target.name: {
                "about": target.about,
                "version": target.version(),
                "values": values[target.name],
            }
            for target in targets
        },
        "bounds": [
            {"says": verdict.sentence(), "held": verdict.held, "measured": verdict.measured}
            for verdict in verdicts
        ],
        "foreign_share": median(record.foreign_shares),
        "doubts": doubts(values, record.foreign_shares, apart=cores.apart),
    }


def headings(made: Document) -> list[str]:
    """Return the columns' headings, without the first."""
    extent = made["made"]["extent"]
    return [heading.format(**extent) for heading, _, _ in COLUMNS]


def _number(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}"


def cell(seen: Spread | None, decimals: int, *, extremes: bool) -> str:
    """Write one figure: the median and, if asked for and different, the extremes."""
    if seen is None:
        return "-"
    middle = _number(seen.median, decimals)
    low, high = _number(seen.low, decimals), _number(seen.high, decimals)
    return f"{middle} ({low} to {high})" if extremes and low != high else middle


def rows(made: Document, *, extremes: bool) -> list[list[str]]:
    """Return one row a target, its name first."""
    table = []
    for name, target in made["targets"].items():
        values = target["values"]
        cells = [
            cell(spread(values[figure]) if figure in values else None, decimals, extremes=extremes)
            for _, figure, decimals in COLUMNS
        ]
        table.append([name, *cells])
    return table


def ratios(made: Document, target: str, beside: str) -> list[str]:
    """Return one target's figures as multiples of another's; a dash where they are none."""
    values = {name: one["values"] for name, one in made["targets"].items()}
    multiples = [ratio(values, figure, target, beside) for _, figure, _ in COLUMNS]
    return ["-" if multiple is None else f"{multiple:.2f} x" for multiple in multiples]


def _sideways(title: str, made: Document, columns: Mapping[str, Sequence[str]]) -> Table:
    """Draw figures downwards and `columns` across."""
    table = Table(title=title)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for line in zip(headings(made), *columns.values(), strict=True):
        table.add_row(*line)
    return table


def terminal(made: Document) -> list[Table]:
    """Draw the figures with their extremes, and what the proxies are of each other."""
    figures = {
        name: [one.replace(" (", "\n(") for one in cells]
        for name, *cells in rows(made, extremes=True)
    }
    repeats = made["made"]["extent"]["repeats"]
    title = f"Medians of {repeats} interleaved repeats (lowest to highest)"
    tables = [_sideways(title, made, figures)]
    tables[
        0
    ].caption = (
        f"Harness: {made['made']['harness']}. Others took {made['foreign_share']:.0%} of the cores."
    )
    multiples = {
        f"{name} / {beside}": ratios(made, name, beside)
        for name, beside in RATIOS
        if name in figures and beside in figures
    }
    if multiples:
        tables.append(_sideways("Medians of the ratios within a repeat", made, multiples))
    return tables


def markdown(made: Document) -> str:
    """Write the table for a README: medians, and what they were measured with."""
    head = ["", *headings(made)]
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows(made, extremes=False)]
    extent = made["made"]["extent"]
    versions = [
        f"{name} is {one['about']}" + (f" ({one['version']})" if one["version"] else "")
        for name, one in made["targets"].items()
    ]
    note = (
        f"Medians of {extent['repeats']} interleaved repeats by `{COMMAND}`; "
        f"{'; '.join(versions)}. Python {made['made']['python']}, {made['made']['system']}; "
        "each proxy on one core, a mock engine and a load generator "
        f"in {made['made']['harness']} on another core."
    )
    doubts_note = "".join(f"\n\nTo be read with care: {doubt}." for doubt in made["doubts"])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{note}{doubts_note}\n"


def embedded(text: str, table: str, where: str) -> str:
    """Return a file's text with the table between its markers.

    Raises NoMarkers, naming `where`.
    """
    return between(text, BEGIN, END, table, where)
