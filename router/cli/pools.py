"""`headway pools`: the pools of a running router."""

import argparse
import tomllib
from pathlib import Path
from typing import Final

from router.cli.admin_client import (
    HOW_TO_REACH,
    Client,
    Failed,
    add_change_arguments,
    add_client_arguments,
    change_headers,
    client_of,
    done,
    failed,
    given,
    print_json,
    screen,
    table,
)

EXAMPLE: Final = f"""\
examples:
  headway pools                                       all, with what they have in flight
  headway pools add pool.toml                         a file with one [[pools]] table
  headway pools set bulk max_in_flight=128 --reason 'larger cards'
  headway pools delete old
{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "action", nargs="?", default="list", choices=["list", "add", "set", "delete"]
    )
    parser.add_argument("what", nargs="*", help="a file for add, else NAME, then KEY=VALUE for set")
    add_change_arguments(parser)
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do what is asked; returns the exit status."""
    try:
        client = client_of(args)
        if args.action == "list":
            return _show(client, args)
        method, path, document = _change(args)
        answer = client.ask(method, path, document, headers=change_headers(args)).json()
        return done(args, f"done; the fleet has version {answer['version']}", answer)
    except Failed as error:
        return failed(f"pools {args.action}", error)


def _show(client: Client, args: argparse.Namespace) -> int:
    pools = client.get("/pools")
    if args.json:
        print_json(pools)
        return 0
    rows = table("pool", "profile", "models", ">endpoints", ">up", ">in flight")
    for pool in pools:
        states = [each["now"] or {} for each in pool["endpoints"]]
        rows.add_row(
            pool["name"],
            pool["profile"],
            ", ".join(pool["models"]),
            str(len(states)),
            str(sum(each.get("state") in ("up", "suspect") for each in states)),
            str(sum(each.get("in_flight", 0) for each in states)),
        )
    screen().print(rows)
    return 0


def _change(args: argparse.Namespace) -> tuple[str, str, object]:
    """Return the call that the arguments mean."""
    if not args.what:
        raise Failed("say which: see headway pools --help")
    first, *words = args.what
    match args.action:
        case "add":
            return "POST", "/pools", _pool(Path(first))
        case "set":
            return "PATCH", f"/pools/{first}", given(words)
        case _:
            return "DELETE", f"/pools/{first}", None


def _pool(path: Path) -> object:
    try:
        pools = tomllib.loads(path.read_text(encoding="utf-8")).get("pools", [])
    except (OSError, ValueError) as error:
        raise Failed(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(pools, list) or len(pools) != 1:
        raise Failed(f"{str(path)!r} must hold exactly one [[pools]] table")
    return pools[0]
