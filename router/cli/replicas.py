"""`headway replicas`: the routers of a fleet, their share and what each has."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from rich.console import Console
from rich.table import Table

from policies.facts import SlaClass
from router.config import load, read_secrets
from router.document import ConfigError
from router.replicas.board import BoardFailed
from router.replicas.redis import RedisBoard, connect
from router.replicas.status import on_board

EXAMPLE: Final = """\
example:
  headway replicas http://127.0.0.1:8080
  headway replicas headway.toml --json

A router's address shows the fleet as that router sees it; a configuration shows what is in its
Redis, whether or not any router answers.
"""
LIMIT_S: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "where",
        nargs="?",
        default="http://127.0.0.1:8080",
        help="a router's address, or a configuration with a [redis] section",
    )
    parser.add_argument("--json", action="store_true", help="print the document itself")


def run(args: argparse.Namespace) -> int:
    """Print how the fleet stands; returns the exit status."""
    try:
        if args.where.startswith(("http://", "https://")):
            document = _of_router(args.where)
        else:
            document = _of_board(Path(args.where))
    except ConfigError as error:
        sys.stderr.writelines(f"{sentence}\n" for sentence in error.sentences())
        return 2
    except (BoardFailed, httpx.HTTPError, OSError, ValueError) as error:
        sys.stderr.write(f"headway replicas: {args.where}: {error}\n")
        return 1
    if args.json:
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _show(document)
    return 0


def _of_router(url: str) -> Mapping[str, Any]:
    answer = httpx.get(f"{url.rstrip('/')}/status", timeout=LIMIT_S, trust_env=False)
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise ValueError("this router shares nothing: its configuration has no [redis] section")
    answer.raise_for_status()
    document: Mapping[str, Any] = answer.json()
    return document


def _of_board(path: Path) -> Mapping[str, Any]:
    config = load(path, os.environ)
    if config.redis is None:
        raise ValueError("has no [redis] section, so there is nothing that routers share")
    password = read_secrets(config, os.environ).redis_password
    board = RedisBoard(connect(config.redis.url, password, limit_s=LIMIT_S), config.redis.prefix)

    async def look() -> Mapping[str, Any]:
        try:
            return on_board(await board.look())
        finally:
            await board.close()

    return asyncio.run(look())


def _show(document: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    mode, count = document["mode"], document["count"]
    share = f", share 1/{count}" if "share" in document else ""
    asked = f"{document['replica']}: " if "replica" in document else ""
    cautious = "; no bulk permits are given away at present" if document["cautious"] else ""
    console.print(f"{asked}{mode}, {count} replica{'s' if count != 1 else ''}{share}{cautious}")
    table = Table("replica", "host", "mode", "in flight", "bulk permits", *map(str, _WAITING))
    for name, each in document["replicas"].items():
        mark = " *" if name == document.get("replica") else ""
        told = (_counts(each["in_flight"]), _counts(each["bulk_permits"]))
        table.add_row(name + mark, each["host"], each["mode"], *told, *map(str, each["waiting"]))
    console.print(table)


_WAITING: Final = tuple(f"waiting {each}" for each in SlaClass)


def _counts(by_endpoint: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(by_endpoint.items())) or "-"
