"""What the router costs beside a direct connection, a bare relay and nginx.

Each proxy has a core of its own; a mock engine and a load generator share another. All proxies
run in turns, so figures of one run are comparable with each other, and with no other run.
"""

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from tests.bench.markers import NoMarkers
from tests.bench.overhead.drive import LoadFailed
from tests.bench.overhead.measure import MEASUREMENTS, QUICK, CannotStart, Extent, measured
from tests.bench.overhead.processes import cores
from tests.bench.overhead.report import (
    BEGIN,
    END,
    document,
    embedded,
    markdown,
    terminal,
)
from tests.bench.overhead.targets import TARGETS, Target
from tests.bench.overhead.tools import BUILD, CannotCompile, tools

DEFAULT_TARGETS = ",".join(target.name for target in TARGETS.values() if target.by_default)
EXAMPLE = """\
example:
  python -m tests.bench.overhead --targets direct,nginx,bare,headway --check
  python -m tests.bench.overhead --quick --json /tmp/overhead.json
  python -m tests.bench.overhead --from .build/overhead.json --write-readme README.md
"""


class Unusable(Exception):
    """The arguments ask for what cannot be; the message says what would be right."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.bench.overhead",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--targets",
        default=DEFAULT_TARGETS,
        help=f"what to measure, of {', '.join(TARGETS)} (default: {DEFAULT_TARGETS}, less what "
        "this machine lacks)",
    )
    made.add_argument("--quick", action="store_true", help="one short repeat: a look, no figure")
    made.add_argument("--repeats", type=int, help="how often everything is measured (default: 5)")
    made.add_argument("--seconds", type=float, help="length of each load (default: 2)")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    made.add_argument(
        "--from", type=Path, dest="source", metavar="FILE", help="measure nothing; read figures"
    )
    made.add_argument(
        "--write-readme",
        type=Path,
        metavar="FILE",
        help=f"put the table between {BEGIN} and {END}",
    )
    made.add_argument(
        "--check", action="store_true", help="exit 1, naming each bound that is not kept"
    )
    return made


def chosen(names: str, console: Console) -> list[Target]:
    """Return the targets that can run, and say which cannot. Raises Unusable."""
    unknown = [name for name in names.split(",") if name not in TARGETS]
    if unknown:
        raise Unusable(f"--targets: no target {unknown[0]!r}; known: {', '.join(TARGETS)}")
    able = []
    for name in dict.fromkeys(names.split(",")):
        why = TARGETS[name].missing()
        if why is None:
            able.append(TARGETS[name])
        else:
            console.print(f"{name} is left out: {why}")
    if not able:
        raise Unusable(f"--targets {names}: none of them can run here")
    return able


def extent(arguments: argparse.Namespace) -> Extent:
    """Return how much to measure. Raises Unusable."""
    asked = QUICK if arguments.quick else Extent()
    if arguments.repeats is not None:
        asked = replace(asked, repeats=arguments.repeats)
    if arguments.seconds is not None:
        asked = replace(asked, seconds=arguments.seconds)
    if asked.repeats < 1 or asked.seconds <= 0:
        raise Unusable("--repeats must be at least 1, and --seconds more than 0")
    return asked


@contextlib.contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let a request to terminate unwind as an interruption does, so that no process is left."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure, with progress, and return the document."""
    targets = chosen(arguments.targets, console)
    amount = extent(arguments)
    used = tools()
    where = cores()
    steps = amount.repeats * len(MEASUREMENTS) * len(targets)
    done = 0
    with ended_by_signal(), console.status("starting") as status:

        def progress(step: str) -> None:
            nonlocal done
            done += 1
            status.update(f"{done} of {steps}: {step}")

        record = measured(targets, used, where, amount, progress)
    return document(record, targets, amount, where, used.language)


def written(made: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Write the files that were asked for. Raises NoMarkers, OSError."""
    text = json.dumps(made, indent=1) + "\n"
    if arguments.source is None:
        BUILD.mkdir(exist_ok=True)
        (BUILD / "overhead.json").write_text(text)
        (BUILD / "overhead.md").write_text(markdown(made))
    if arguments.json is not None:
        arguments.json.write_text(text)
    if arguments.write_readme is not None:
        path = arguments.write_readme
        path.write_text(embedded(path.read_text(), markdown(made), str(path)))


def main(given: Sequence[str] | None = None) -> int:
    """Return 0; 1 where a bound is not kept or measuring failed; 2 where it cannot be done."""
    arguments = parser().parse_args(given)
    console = Console(stderr=True)
    try:
        if arguments.source is None:
            made = run(arguments, console)
        else:
            made = json.loads(arguments.source.read_text())
        written(made, arguments)
    except (Unusable, NoMarkers, OSError, json.JSONDecodeError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 2
    except (CannotCompile, CannotStart, LoadFailed) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        return 1
    Console().print(*terminal(made), sep="\n")
    for doubt in made["doubts"]:
        console.print(f"[yellow]to be read with care: {escape(doubt)}[/yellow]")
    missed = [bound["says"] for bound in made["bounds"] if not bound["held"]]
    if arguments.check:
        for sentence in missed:
            console.print(f"[red]headway falls short in {escape(sentence)}[/red]")
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
