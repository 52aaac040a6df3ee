"""Results as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from router.measure.interval import Interval
from router.report.summary import as_interval

WIDTH: Final = 120
"""Characters that a table takes; a narrower terminal breaks lines, which nobody can read."""


def console() -> Console:
    """Return standard output, wide enough for a table."""
    usual = Console()
    return usual if usual.width >= WIDTH else Console(width=WIDTH)


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows of `summary.row` as a table: one line a contender, rate and class."""
    shown = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        collapse_padding=True,
    )
    for heading in ("policy", "req/s", "class"):
        shown.add_column(heading, justify="right" if heading == "req/s" else "left", no_wrap=True)
    for heading in (
        "attained %",
        "shed %",
        "TTFT ms\np50 / p99",
        "TPOT ms\np50 / p99",
        "gap ms\np99",
        "tok/s",
        "$/Mtok",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    for each in rows:
        _add(shown, each)
    return shown


def _add(shown: Table, row: Mapping[str, Any]) -> None:
    usd = row.get("usd_per_million_output_tokens")
    whole = f"{row['output_tokens_per_s']:.0f}", "" if usd is None else f"{usd:.2f}"
    for index, (name, group) in enumerate(row["classes"].items()):
        first = index == 0
        shown.add_row(
            row["name"] if first else "",
            f"{row['rate']:g}" if first else "",
            name,
            percent(as_interval(group["attainment"])),
            f"{100 * group['shed']:.1f}",
            pair(group["first_token_s"]),
            pair(group["per_token_s"]),
            milliseconds(group["slowest_gap_s"]["p99"]),
            *(whole if first else ("", "")),
            end_section=index == len(row["classes"]) - 1,
        )


def percent(share: Interval) -> str:
    """Return a share 0..1 as a percentage, with where it may lie."""
    if share.low is None or share.high is None:
        return f"{100 * share.mean:.1f}"
    return f"{100 * share.mean:.1f} ({100 * share.low:.1f}-{100 * share.high:.1f})"


def milliseconds(time_s: float | None) -> str:
    """Return a time as whole milliseconds, a dash for none."""
    return "-" if time_s is None else f"{1000 * time_s:.0f}"


def pair(times: Mapping[str, float | None]) -> str:
    """Return median and 99th percentile."""
    return f"{milliseconds(times['p50'])} / {milliseconds(times['p99'])}"


def highest(rates: Sequence[Mapping[str, Any]]) -> Table:
    """Return `summary.highest_rates` as a table."""
    shown = Table(
        title="Highest rate at an attainment, req/s", title_justify="left", box=box.SIMPLE_HEAD
    )
    for heading in ("policy", "class", "90 %", "99 %"):
        shown.add_column(heading, justify="right" if "%" in heading else "left")
    cells: dict[tuple[str, str], list[str]] = {}
    for each in rates:
        rate = each["rate"]
        text = "-" if rate is None else f"{rate:.1f}{'+' if each['beyond'] else ''}"
        cells.setdefault((each["name"], each["class"]), []).append(text)
    for key, texts in cells.items():
        shown.add_row(*key, *texts)
    return shown
