"""Sections as tables in the terminal, as a document, and between a README's markers."""

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from tests.bench.markers import between
from tests.bench.routing.sections import Section

BEGIN: Final = "<!-- routing:begin -->"
END: Final = "<!-- routing:end -->"
COMMAND: Final = "make bench-routing"
IN_README: Final = ("w1", "cost", "ablation")


def terminal(section: Section) -> Table:
    """Draw one section."""
    table = Table(title=f"{section.line}. {section.title}", caption=section.note)
    for number, heading in enumerate(section.headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in section.rows:
        table.add_row(*row)
    return table


def document(sections: Sequence[Section], seeds: Sequence[int]) -> dict[str, Any]:
    """Return all in plain values."""
    return {
        "seeds": list(seeds),
        "sections": [
            {
                "line": section.line,
                "name": section.name,
                "title": section.title,
                "headings": list(section.headings),
                "rows": [list(row) for row in section.rows],
                "note": section.note,
                "figures": section.figures,
                "bounds": [
                    {"says": each.sentence(), "held": each.held, "measured": each.measured}
                    for each in section.verdicts
                ],
            }
            for section in sections
        ],
    }


def markdown(made: dict[str, Any]) -> str:
    """Write the tables for a README, and what falls short in them."""
    parts = []
    for section in made["sections"]:
        if section["name"] not in IN_README:
            continue
        head = section["headings"]
        lines = [head, ["---", *("---:" for _ in head[1:])], *section["rows"]]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        short = [bound["says"] for bound in section["bounds"] if not bound["held"]]
        note = section["note"]
        if short:
            note += f" Falls short: {'; '.join(short)}."
        parts.append(f"**{section['title']}**\n\n{table}\n\n{note}\n")
    return "\n".join([*parts, f"Simulated, by `{COMMAND}`.\n"])


def embedded(text: str, tables: str, where: str) -> str:
    """Return a file's text with the tables between its markers.

    Raises NoMarkers, naming `where`.
    """
    return between(text, BEGIN, END, tables, where)
