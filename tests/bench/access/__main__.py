"""Holds access to its promises: `make bench-access`.

Real routers, a real Redis, a mock engine. Exits with 1 where something falls short, and says what.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench.access import scenes
from tests.bench.access.finding import Finding
from tests.bench.access.overhead import overhead
from tests.bench.access.routers import Routers, routers
from tests.bench.access.strangers import strangers
from tests.bench.overhead.measure import engine
from tests.bench.overhead.processes import cores
from tests.bench.overhead.tools import in_python, tools
from tests.fakes.redis_server import RedisServer

OVERHEAD: Final = "overhead"


class Scene(Protocol):
    """What is played on routers of its own."""

    def __call__(self, fleet: Routers, *, quick: bool) -> Awaitable[list[Finding]]:
        """Return the figures."""
        ...


SCENES: Final[dict[str, Scene]] = {
    "revocation": scenes.revocation,
    "requests": scenes.requests,
    "tokens": scenes.tokens,
    "without-redis": scenes.without_redis,
    "strangers": strangers,
}
ALONE: Final = frozenset({"strangers"})
"""Scenes of one router, without a Redis."""


async def played(scene: Scene, *, shares: bool, quick: bool) -> list[Finding]:
    """Play one scene on a fleet of its own."""
    with tempfile.TemporaryDirectory(prefix="headway-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            # The one in C never sleeps, and nobody else has its core: here callers need it as well.
            port, _ = stack.enter_context(engine(in_python(), cores()))
            redis: RedisServer | None = None
            if shares:
                redis = RedisServer(folder)
                redis.start()
                stack.callback(redis.kill)
            fleet = await stack.enter_async_context(routers(folder, port, redis))
            return await scene(fleet, quick=quick)


def figures(name: str, *, quick: bool) -> list[Finding]:
    """Return the figures of one part."""
    if name == OVERHEAD:
        return overhead(tools(), cores(), quick=quick)
    return uvloop.run(played(SCENES[name], shares=name not in ALONE, quick=quick))


def shown(name: str, findings: list[Finding]) -> Table:
    """Return a table of one part."""
    table = Table("figure", "measured", "right is", "", title=name)
    for each in findings:
        word = "" if each.is_right else "falls short"
        table.add_row(each.what, f"{each.measured:.4g}", each.bounds, word)
    return table


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.access", description=__doc__)
    names = [*SCENES, OVERHEAD]
    parser.add_argument("parts", nargs="*", default=names, help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="short loads: a look, no figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    args = parser.parse_args()
    if unknown := [each for each in args.parts if each not in names]:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(names)}")
    found = {}
    for name in args.parts:
        found[name] = figures(name, quick=args.quick)
        Console(width=100, highlight=False).print(shown(name, found[name]))
    if args.json is not None:
        document = {
            name: [{"figure": f.what, "measured": f.measured, "right": f.is_right} for f in each]
            for name, each in found.items()
        }
        args.json.write_text(json.dumps(document, indent=2))
    short = [f"{n}: {f.what}" for n, each in found.items() for f in each if not f.is_right]
    for each in short:
        sys.stderr.write(f"falls short: {each}\n")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
