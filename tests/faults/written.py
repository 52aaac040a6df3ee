"""Puts what was played between the marks of a document; what was not played stays as it was."""

from collections.abc import Sequence
from pathlib import Path

from tests.bench.markers import between
from tests.faults.catalogue import FAULTS
from tests.faults.lines import Line
from tests.faults.matrix import Row, table

BEGIN = "<!-- matrix of faults: made by `make faults` -->"
END = "<!-- end of the matrix -->"
HEAD_LINES = 2


def write(path: Path, played: Sequence[Row], lines: Sequence[Line]) -> None:
    """Put rows and lines into a document."""
    text = path.read_text()
    _, _, rest = text.partition(BEGIN)
    before, _, _ = rest.partition(END)
    path.write_text(between(text, BEGIN, END, merged(before, played, lines), str(path)))


def merged(before: str, played: Sequence[Row], lines: Sequence[Line]) -> str:
    """Return the tables with these rows and lines in the place of those that were there."""
    head, fresh = table(()), table(played).splitlines()[HEAD_LINES:]
    rows = {_name(each): each for each in before.splitlines() if each.startswith("| ")}
    rows |= {_name(each): each for each in fresh}
    known = [fault.name for fault in FAULTS]
    told = {
        each.removeprefix("* ").split(": ", 1)[0]: each
        for each in before.splitlines()
        if each.startswith("* ")
    }
    told |= {line.name: f"* {line.name}: {_judged(line)}" for line in lines}
    body = "\n".join(rows[name] for name in known if name in rows)
    return f"{head}\n{body}\n\n" + "".join(f"{each}\n" for each in told.values())


def _name(row: str) -> str:
    return row.split("|")[1].strip()


def _judged(line: Line) -> str:
    return f"{line.said}." + "".join(f" Falls short: {flaw}." for flaw in line.flaws)
