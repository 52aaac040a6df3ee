"""`headway top`: how everything stands, live."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any, Final

import httpx
import orjson
from rich.live import Live

from router.cli.admin_client import (
    HOW_TO_REACH,
    Client,
    Failed,
    add_client_arguments,
    client_of,
    failed,
    screen,
)
from router.cli.status import view

EXAMPLE: Final = f"""\
example:
  headway top                             once a second, until Ctrl-C
  headway top --count 3 --json            three snapshots, a line each, for a script
{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--count", type=int, help="end after so many snapshots")
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Show; returns the exit status."""
    try:
        client = client_of(args)
        if args.json:
            for found in _snapshots(client, args.count):
                sys.stdout.write(orjson.dumps(found).decode() + "\n")
                sys.stdout.flush()
            return 0
        shown = screen()
        with Live(console=shown, auto_refresh=False) as live:
            for found in _snapshots(client, args.count):
                live.update(view(found), refresh=True)
        if not shown.is_terminal:
            shown.print()
    except Failed as error:
        return failed("top", error)
    except KeyboardInterrupt:
        return 0
    return 0


def _snapshots(client: Client, count: int | None) -> Iterator[dict[str, Any]]:
    """Yield snapshots until the router stops, `count` at most."""
    client.ask("HEAD", "/events")
    left = -1 if count is None else count
    try:
        with client.open() as opened, opened.stream("GET", "/events") as stream:
            for line in stream.iter_lines():
                if left == 0:
                    return
                if line.startswith("data: "):
                    left -= 1
                    yield orjson.loads(line[6:])
    except httpx.HTTPError as error:
        raise Failed(f"the router at {client.url} has gone: {error}") from error
