"""`make bench-admin`: what administration promises, measured on this machine.

Routers as processes of their own, a real Redis, a real browser where there is one. Exits 1 and says
what falls short; `--only` runs some scenes.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final

from tests.bench.administration.changes import changes
from tests.bench.administration.dry_runs import dry_runs
from tests.bench.administration.explain import explain
from tests.bench.administration.forecast import forecast
from tests.bench.administration.page import page

Scene = Callable[[Path, Callable[[str], None]], Coroutine[Any, Any, list[str]]]
SCENES: Final[Mapping[str, Scene]] = MappingProxyType(
    {
        "changes": changes,
        "dry-runs": dry_runs,
        "forecast": forecast,
        "explain": explain,
        "page": page,
    }
)


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(SCENES), default=list(SCENES))
    short: list[str] = []
    for name in parser.parse_args(arguments).only:
        began_s = time.monotonic()
        with TemporaryDirectory(prefix="headway-") as folder:
            short += asyncio.run(SCENES[name](Path(folder), say))
        say(f"({name}: {time.monotonic() - began_s:.0f} s)")
    for each in short:
        say(f"FALLS SHORT: {each}")
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
