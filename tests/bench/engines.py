"""What every figure from emulated engines rests on: `python -m tests.bench.engines`.

One after the other: the emulated GPU against the measured one, the speed of the simulation, the
simulation against the router over sockets, the load generator against itself and a public one. All
are run, whatever comes of the first; exits with 1 where one falls short. Eleven minutes, and
five more at the first time, when the public load generator is installed; `--only` runs some. A
machine that is busy otherwise makes the last two not valid.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Part:
    """One module that is run."""

    module: str
    title: str
    quick: tuple[str, ...] = ()
    """Its arguments where a look is enough."""
    whole: tuple[str, ...] = ()
    """Its arguments else."""


PARTS: Final = (
    Part(
        "calibration",
        "The emulated H100 against the measured one",
        quick=("--runs", "3"),
        whole=("--runs", "9", "--jobs", "2"),
    ),
    Part("simulation_speed", "The speed of the simulation"),
    Part("anchors", "The simulation against the router over sockets", ("--quick",)),
    Part("generator", "The load generator against itself and a public one", ("--quick",)),
)


def run(parts: Sequence[Part], *, quick: bool, status_of: Callable[[list[str]], int]) -> list[str]:
    """Run the parts; return the titles of those that fall short.

    `status_of` runs a command and returns its exit status.
    """
    short = []
    for part in parts:
        sys.stdout.write(f"\n== {part.title} (tests.bench.{part.module})\n")
        sys.stdout.flush()
        command = [sys.executable, "-m", f"tests.bench.{part.module}"]
        command += part.quick if quick else part.whole
        began_s = time.monotonic()
        status = status_of(command)
        sys.stdout.write(f"took {time.monotonic() - began_s:.0f} s\n")
        if status:
            short.append(f"{part.title}: ended with {status}")
    return short


def _status(command: list[str]) -> int:
    return subprocess.run(command, check=False).returncode  # noqa: S603 # our own modules


def main(arguments: list[str] | None = None) -> int:
    """Run all; 1 where something falls short."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs: a look, no figure")
    names = [part.module for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these parts")
    options = parser.parse_args(arguments)
    parts = [part for part in PARTS if part.module in options.only]
    short = run(parts, quick=options.quick, status_of=_status)
    sys.stdout.writelines(f"falls short: {title}\n" for title in short)
    if not short:
        sys.stdout.write("\nEverything holds.\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
