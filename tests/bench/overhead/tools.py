"""The mock engine and the load generator as commands: C where there is a compiler, else Python.

The two forms take the same arguments and write the same lines. Figures of a run with the one
are not comparable with figures of a run with the other.
"""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BUILD = ROOT / ".build"


class CannotCompile(Exception):
    """The compiler is there and refused; its own words are the message."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Commands, to be followed by arguments."""

    language: str
    engine: tuple[str, ...]
    load: tuple[str, ...]


def compiler() -> str | None:
    """Return the path of a C compiler; None where there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compiled(name: str, cc: str, build: Path = BUILD) -> Path:
    """Return the program made of `name`.c, compiled unless that very source already was.

    Raises CannotCompile.
    """
    source = HERE / f"{name}.c"
    text = source.read_bytes() + (HERE / "harness.h").read_bytes()
    program = build / f"{name}-{hashlib.sha256(text).hexdigest()[:12]}"
    if not program.exists():
        build.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_suffix(".part")
        command = [cc, "-O2", "-std=c11", "-Wall", "-Wextra", "-o", str(unfinished), str(source)]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own source
        if outcome.returncode != 0:
            raise CannotCompile(f"{' '.join(command)}: {outcome.stderr.strip()}")
        unfinished.replace(program)
    return program


def in_c(cc: str) -> Tools:
    """Return the C form. Raises CannotCompile."""
    return Tools("C", (str(compiled("mock_engine", cc)),), (str(compiled("load", cc)),))


def in_python() -> Tools:
    """Return the Python form, which costs several times as much."""
    python = (sys.executable, "-m")
    return Tools(
        "Python",
        (*python, "tests.bench.overhead.mock_engine"),
        (*python, "tests.bench.overhead.load"),
    )


def tools() -> Tools:
    """Return the best form this machine can have. Raises CannotCompile."""
    cc = compiler()
    return in_python() if cc is None else in_c(cc)
