"""Results as one HTML page: everything inside, nothing loaded from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any, Final

from router.report import charts
from router.report.summary import as_interval
from router.report.table import milliseconds, pair, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE: Final = Template("""\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left }
.good { color: #087f23 } .bad { color: #b00020 } .note { color: #555 }
svg { max-width: 100%; height: auto } pre { overflow-x: auto; background: #f6f6f6; padding: 1rem }
</style>
<h1>$title</h1>
<p>$about</p>
$verdicts
<h2>What the callers saw</h2>
$table
<p class="note">Attained: share of all offered requests whose answer came whole and met its targets;
a refused one counts as missed. In brackets, where the mean over the seeds may lie (95&nbsp;%).
TTFT: time to first token, from the moment at which the request was due. TPOT: mean time per output
token after the first. Gap: longest time between two tokens of an answer.</p>
$pictures
<h2>What was run</h2>
<details><summary>All settings</summary><pre>$settings</pre></details>
</html>
""")


def page(
    title: str, document: Mapping[str, Any], verdicts: Sequence[tuple[bool, str]] = ()
) -> bytes:
    """Return a page about a result document; `verdicts` are (good, a sentence)."""
    rows = document["rows"]
    settings = {key: value for key, value in document.items() if key not in _SHOWN}
    return _PAGE.substitute(
        title=escape(title),
        about=escape(document["workload"]["about"]),
        verdicts="\n".join(
            f'<p class="{"good" if good else "bad"}">{escape(sentence)}</p>'
            for good, sentence in verdicts
        ),
        table=_table(rows),
        pictures="\n".join(
            f"<h2>{escape(heading)}</h2>\n{_inline(figure)}" for heading, figure in _pictures(rows)
        ),
        settings=escape(json.dumps(settings, indent=1)),
    ).encode()


_SHOWN: Final = frozenset({"rows", "differences", "highest_rates"})
_HEADINGS: Final = (
    *("", "req/s", "class", "offered", "attained %", "shed %", "TTFT ms p50 / p99"),
    *("TPOT ms p50 / p99", "gap ms p99", "output tok/s"),
)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["<table><tr>", *(f"<th>{escape(heading)}" for heading in _HEADINGS)]
    for row in rows:
        for index, (name, group) in enumerate(row["classes"].items()):
            first = index == 0
            cells = (
                row["name"] if first else "",
                f"{row['rate']:g}" if first else "",
                name,
                str(group["offered"]),
                percent(as_interval(group["attainment"])),
                f"{100 * group['shed']:.1f}",
                pair(group["first_token_s"]),
                pair(group["per_token_s"]),
                milliseconds(group["slowest_gap_s"]["p99"]),
                f"{row['output_tokens_per_s']:.0f}" if first else "",
            )
            lines.append("<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells))
    return "\n".join([*lines, "</table>"])


def _pictures(rows: Sequence[Mapping[str, Any]]) -> "list[tuple[str, Figure]]":
    if len({row["rate"] for row in rows}) > 1:
        return [("Attainment over the rate", charts.attainment_over_rate(rows))]
    return [
        ("Time to first token", charts.first_token_curves(rows)),
        ("Attainment over time", charts.attainment_over_time(rows)),
    ]


def _inline(figure: "Figure") -> str:
    """Return a picture as an element, without the head of an SVG file."""
    text = charts.drawn(figure, "svg").decode()
    return text[text.index("<svg") :]
