"""`headway keys`: the keys that open a running router."""

import argparse
import re
import sys
import time
from typing import Any, Final

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
    only,
    print_json,
    screen,
    table,
)

EXAMPLE: Final = f"""\
examples:
  headway keys                                                      all, without their secrets
  headway keys create --tenant acme                                 anything, without limits
  headway keys create --tenant acme --models 'llama-*' --highest-class standard \\
      --requests-per-minute 600 --tokens-per-minute 100000 --concurrent 20 --expires-in 90d
  headway keys show 3f9c1a7be204
  headway keys set 3f9c1a7be204 requests_per_minute=1200 labels.team=search
  headway keys rotate 3f9c1a7be204 --overlap 1h                     the secret before opens 1 h more
  headway keys revoke 3f9c1a7be204                                  for good, within a second

A key is shown once, when it is made. Callers send it as 'Authorization: Bearer KEY', which is what
OpenAI's libraries do with api_key, or as 'x-api-key: KEY'.
{HOW_TO_REACH}"""
_AMOUNTS: Final = {
    "requests_per_minute": "requests in any minute",
    "tokens_per_minute": "tokens in any minute, prompt and answer",
    "tokens_per_day": "tokens a day (UTC)",
    "concurrent": "requests at once",
}
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    actions = ["list", "create", "show", "set", "rotate", "revoke"]
    parser.add_argument("action", nargs="?", default="list", choices=actions)
    parser.add_argument("what", nargs="*", help="the key's id; for set, KEY=VALUE after it")
    parser.add_argument("--tenant", help="create: whose it is")
    parser.add_argument("--models", nargs="+", help="create: models, '*' stands for any characters")
    classes = ["interactive", "standard", "bulk"]
    parser.add_argument("--classes", nargs="+", choices=classes, help="create: classes allowed")
    parser.add_argument("--highest-class", choices=classes, help="create: the highest of them")
    for name, words in _AMOUNTS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, metavar="N", help=f"create: {words}")
    parser.add_argument("--weight", type=float, help="create: share beside other tenants")
    parser.add_argument("--expires-in", metavar="TIME", help="create: e.g. 12h or 90d")
    parser.add_argument("--label", nargs="+", metavar="KEY=VALUE", help="create: for people")
    parser.add_argument("--overlap", default="0s", metavar="TIME", help="rotate: e.g. 10m or 1h")
    add_change_arguments(parser)
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:  # noqa: PLR0911 # one for each action
    """Do what is asked; returns the exit status."""
    try:
        client = client_of(args)
        match args.action:
            case "list":
                return _list(client, args)
            case "create":
                return _create(client, args)
            case "rotate":
                return _rotate(client, args)
            case "set":
                return _set(client, args)
            case "revoke":
                return _revoke(client, args)
            case _:
                return _show(client.get(f"/keys/{_one(args)}"), as_json=args.json)
    except Failed as error:
        return failed(f"keys {args.action}", error)


def seconds(text: str) -> int:
    """Return a time such as 90s, 10m, 12h or 30d in seconds; raises `Failed`."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None:
        raise Failed(f"{text!r} is no time; say 90s, 10m, 12h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def _create(client: Client, args: argparse.Namespace) -> int:
    if not args.tenant:
        raise Failed("say whose the key is: headway keys create --tenant acme")
    names = ("tenant", "models", "classes", "highest_class", *_AMOUNTS, "weight")
    document = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.expires_in is not None:
        now_s = time.time()  # noqa: TID251 # a moment that the router's machine knows as well
        document["expires_at_s"] = now_s + seconds(args.expires_in)
    if args.label:
        document["labels"] = {name: str(value) for name, value in given(args.label).items()}
    return _made(args, client.ask("POST", "/keys", document, headers=change_headers(args)).json())


def _made(args: argparse.Namespace, answer: dict[str, Any]) -> int:
    if args.json:
        print_json(answer)
    else:
        sys.stdout.write(f"{answer['key']}\n")
        sys.stderr.write(f"key {answer['id']}; this is the only time that it is shown\n")
    return 0


def _rotate(client: Client, args: argparse.Namespace) -> int:
    path, query = f"/keys/{_one(args)}/rotate", {"overlap_s": str(seconds(args.overlap))}
    answer = client.ask("POST", path, headers=change_headers(args), query=query)
    return _made(args, answer.json())


def _revoke(client: Client, args: argparse.Namespace) -> int:
    answer = client.ask("DELETE", f"/keys/{_one(args)}", headers=change_headers(args)).json()
    return done(args, f"{_one(args)} is revoked", answer)


def _set(client: Client, args: argparse.Namespace) -> int:
    if len(args.what) < 2:  # noqa: PLR2004 - an id and a change
        raise Failed("say what to set: headway keys set 3f9c1a7be204 requests_per_minute=600")
    id_, *words = args.what
    patch = given(words)
    if isinstance(labels := patch.get("labels"), dict):
        # A label is text, also where it looks like a number.
        patch["labels"] = {n: None if value is None else str(value) for n, value in labels.items()}
    answer = client.ask("PATCH", f"/keys/{id_}", patch, headers=change_headers(args)).json()
    return done(args, f"{id_} is changed", answer)


def _list(client: Client, args: argparse.Namespace) -> int:
    keys = client.get("/keys")
    if args.json:
        print_json(keys)
        return 0
    rows = table("key", "tenant", "state", "highest", "models", ">req/min", ">tok/min", "expires")
    for each in keys:
        rows.add_row(
            each["id"],
            each["tenant"],
            each["state"],
            each["highest_class"],
            " ".join(each["models"]),
            _amount(each["requests_per_minute"]),
            _amount(each["tokens_per_minute"]),
            each["expires_at"] or "never",
        )
    screen().print(rows)
    return 0


def _show(key: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(key)
        return 0
    for name, value in key.items():
        sys.stdout.write(f"{name:<20} {'-' if value is None else value}\n")
    return 0


def _amount(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _one(args: argparse.Namespace) -> str:
    return only(args.what, "name one key by its id; headway keys lists them")
