"""What routing buys: the policies against each other on the same simulated engines.

All lines are run, whatever comes of the first; exits with 1 and says what falls short.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from tests.bench.markers import NoMarkers
from tests.bench.routing.ablation import ablation_section
from tests.bench.routing.cost import cost_section
from tests.bench.routing.decision_cost import decision_section
from tests.bench.routing.extent import QUICK, Extent
from tests.bench.routing.neighbours import shift_section, tenants_section, turns_section
from tests.bench.routing.overload import overload_section
from tests.bench.routing.predictions import kinds_section, wrong_section
from tests.bench.routing.report import (
    BEGIN,
    END,
    document,
    embedded,
    markdown,
    terminal,
)
from tests.bench.routing.runs import Runner
from tests.bench.routing.sections import Section
from tests.bench.routing.w1 import w1_section

Makes = Callable[[Runner, Extent], Section]
LINES: Final[dict[int, Sequence[Makes]]] = {
    1: (w1_section,),
    2: (overload_section,),
    3: (tenants_section, turns_section, shift_section),
    4: (kinds_section, wrong_section),
    5: (cost_section,),
    6: (ablation_section,),
    7: (decision_section,),
}
EXAMPLE = """\
lines:
  1 highest rate of a mix   2 overload   3 tenants, conversations, mix shift   4 predictions
  5 engines needed   6 parts switched off   7 cost of a decision
example:
  python -m tests.bench.routing --quick --only 1,4
  python -m tests.bench.routing --json .build/routing.json --write-readme README.md
"""


class Unusable(Exception):
    """The arguments ask for what cannot be; the message says what would be right."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.bench.routing",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", metavar="1,4", help="these lines alone (default: all)")
    made.add_argument("--quick", action="store_true", help="one seed, short runs: no figure")
    made.add_argument("--seeds", metavar="1,2,3", help="the seeds (default: 1,2,3)")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    made.add_argument(
        "--from", type=Path, dest="source", metavar="FILE", help="run nothing; read such figures"
    )
    made.add_argument(
        "--write-readme",
        type=Path,
        metavar="FILE",
        help=f"put tables between {BEGIN} and {END}",
    )
    return made


def numbers(option: str, text: str) -> list[int]:
    """Return the whole numbers of an option. Raises Unusable."""
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise Unusable(f"{option} {text}: not whole numbers, as in {option} 1,2") from None


def chosen(only: str | None) -> list[Makes]:
    """Return what is run. Raises Unusable."""
    lines = list(LINES) if only is None else numbers("--only", only)
    for line in lines:
        if line not in LINES:
            raise Unusable(f"--only: no line {line}; there are {', '.join(map(str, LINES))}")
    return [make for line in lines for make in LINES[line]]


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run what is asked for, show each table as soon as it is there, return the document."""
    extent = QUICK if arguments.quick else Extent()
    if arguments.seeds is not None:
        extent = replace(extent, seeds=numbers("--seeds", arguments.seeds))
    sections = []
    tables = Console()
    with (
        ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool,
        console.status("starting") as status,
    ):
        runner = Runner(pool, status.update)
        for make in chosen(arguments.only):
            section = make(runner, extent)
            tables.print(terminal(section))
            sections.append(section)
    return document(sections, extent.seeds)


def main(given: Sequence[str] | None = None) -> int:
    """Return 0; 1 where something falls short; 2 where it cannot be done."""
    arguments = parser().parse_args(given)
    console = Console(stderr=True)
    try:
        if arguments.source is None:
            made = run(arguments, console)
        else:
            made = json.loads(arguments.source.read_text())
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(made, indent=1) + "\n")
        if arguments.write_readme is not None:
            path = arguments.write_readme
            path.write_text(embedded(path.read_text(), markdown(made), str(path)))
    except (Unusable, NoMarkers, OSError, json.JSONDecodeError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    bounds = [bound for section in made["sections"] for bound in section["bounds"]]
    for bound in bounds:
        mark = "[green]holds[/green]" if bound["held"] else "[red]falls short[/red]"
        Console(highlight=False).print(f"{mark}: {escape(bound['says'])}", soft_wrap=True)
    return 0 if all(bound["held"] for bound in bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
