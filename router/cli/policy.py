"""`headway policy`: look at the routing policy of a running router, try another, change it."""

import argparse
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from router import toml
from router.cli.admin_client import (
    HOW_TO_REACH,
    Client,
    Failed,
    add_change_arguments,
    add_client_arguments,
    change_headers,
    client_of,
    difference_lines,
    failed,
    given,
    milliseconds,
    print_differences,
    print_json,
    screen,
    share,
    table,
)
from router.cli.idle import warn_of_idle_shares

MOST_SHOWN: Final = 4
"""Of what one version changed, in the list of all."""
EXAMPLE: Final = f"""\
examples:
  headway policy get                                         the whole policy, as TOML
  headway policy get classes.interactive                     a part of it
  headway policy patch classes.interactive.max_wait_s=1.5 --reason 'callers give up sooner'
  headway policy get > policy.toml                           ... edit ..., then:
  headway policy validate policy.toml                        every mistake, nothing applied
  headway policy diff policy.toml                            what it would change
  headway policy dry-run policy.toml                         what it would have done, beside today's
  headway policy put policy.toml --reason 'less spill'
  headway policy history                                     who, when, why, what
  headway policy rollback 3                                  back to version 3; 0 is the file's

Without a file, diff shows what was changed since the configuration file. "none" means no value.
{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("action", choices=list(_ACTIONS))
    parser.add_argument(
        "what",
        nargs="*",
        help="a file (TOML or JSON), a part, a version, or KEY=VALUE for patch and dry-run",
    )
    parser.add_argument("--last", type=int, help="dry-run: replay only so many requests")
    parser.add_argument(
        "--force", action="store_true", help="put, patch: also over a change made meanwhile"
    )
    add_change_arguments(parser)
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do what is asked; returns the exit status."""
    try:
        return _ACTIONS[args.action](client_of(args), args)
    except Failed as error:
        return failed(f"policy {args.action}", error)


def _get(client: Client, args: argparse.Namespace) -> int:
    document = client.get("/policy")
    for part in ".".join(args.what).split(".") if args.what else ():
        if not isinstance(document, dict) or part not in document:
            known = ", ".join(document) if isinstance(document, dict) else "nothing below it"
            raise Failed(f"the policy has no part {part!r}; it has {known}")
        document = document[part]
    if args.json or not isinstance(document, dict):
        print_json(document)
    else:
        sys.stdout.write(toml.text(document))
    return 0


def _put(client: Client, args: argparse.Namespace) -> int:
    return _change(client, args, "PUT", _file(args))


def _patch(client: Client, args: argparse.Namespace) -> int:
    return _change(client, args, "PATCH", _given(args))


def _change(client: Client, args: argparse.Namespace, method: str, document: Any) -> int:
    tag = "*" if args.force else client.ask("GET", "/policy").headers["etag"]
    headers = {**change_headers(args), "if-match": tag}
    return _changed(client, args, client.ask(method, "/policy", document, headers=headers).json())


def _changed(client: Client, args: argparse.Namespace, answer: dict[str, Any]) -> int:
    if args.json:
        print_json(answer)
    else:
        sys.stdout.write(f"version {answer['version']} is in effect\n")
        print_differences(answer["difference"])
        warn_of_idle_shares(client)
    return 0


def _diff(client: Client, args: argparse.Namespace) -> int:
    if args.what:
        found = client.ask("POST", "/policy/validate", _file(args)).json()
        _judge(found)
        difference = found["difference"]
    else:
        base = client.get("/policy/history/0")
        found = client.ask("POST", "/policy/validate", base).json()
        difference = [
            {**each, "before": each["after"], "after": each["before"]}
            for each in found["difference"]
        ]
    if args.json:
        print_json(difference)
    else:
        print_differences(difference)
    return 0


def _validate(client: Client, args: argparse.Namespace) -> int:
    found = client.ask("POST", "/policy/validate", _file(args)).json()
    if args.json:
        print_json(found)
        return 0 if found["valid"] else 2
    _judge(found)
    sys.stdout.write("valid; it would change:\n")
    print_differences(found["difference"])
    return 0


def _judge(found: dict[str, Any]) -> None:
    if not found["valid"]:
        flaws = "\n  ".join(
            f"{each['pointer'] or '/'}: {each['message']}" for each in found["errors"]
        )
        raise Failed(f"the policy is wrong:\n  {flaws}")


def _dry_run(client: Client, args: argparse.Namespace) -> int:
    is_file = len(args.what) == 1 and "=" not in args.what[0]
    asked: dict[str, Any] = {"policy": _file(args)} if is_file else {"patch": _given(args)}
    if args.last is not None:
        asked["last"] = args.last
    found = client.ask("POST", "/policy/dry-run", asked).json()
    if args.json:
        print_json(found)
        return 0
    print_differences(found["difference"])
    rows = table(
        "class", "policy", ">requests", ">attained", ">shed", ">TTFT p50", ">p99", ">TPOT p50"
    )
    for name in found["outcomes"]["present"]["classes"]:
        for policy in ("present", "proposed"):
            group = found["outcomes"][policy]["classes"][name]
            rows.add_row(
                name,
                policy,
                str(group["offered"]),
                share(group["attainment"]["mean"]),
                share(group["shed"]),
                milliseconds(group["first_token_s"].get("p50")),
                milliseconds(group["first_token_s"].get("p99")),
                milliseconds(group["per_token_s"].get("p50")),
            )
    screen().print(rows)
    sys.stdout.writelines(f"note: {note}\n" for note in found["notes"])
    return 0


def _history(client: Client, args: argparse.Namespace) -> int:
    found = client.get("/policy/history")
    if args.json:
        print_json(found)
        return 0
    for each in found["versions"]:
        mark = "*" if each["version"] == found["present"] else " "
        at = (each["at"] or "")[:19].replace("T", " ")
        origin = f" from {each['origin']}" if each["origin"] else ""
        why = f": {each['reason']}" if each["reason"] else ""
        words = (
            f"{mark}{each['version']:>3}",
            at,
            each["action"],
            f"by {each['who']}{origin}{why}",
        )
        sys.stdout.write("  ".join(word for word in words if word) + "\n")
        for line in difference_lines(each["difference"][:MOST_SHOWN]):
            sys.stdout.write(f"      {line}\n")
        more = len(each["difference"]) - MOST_SHOWN
        if more > 0:
            sys.stdout.write(f"      and {more} more: headway policy history --json\n")
    return 0


def _rollback(client: Client, args: argparse.Namespace) -> int:
    if len(args.what) != 1 or not args.what[0].isdigit():
        raise Failed("name one version: headway policy rollback 3; see headway policy history")
    path = f"/policy/rollback/{args.what[0]}"
    return _changed(client, args, client.ask("POST", path, headers=change_headers(args)).json())


_ACTIONS: Final[Mapping[str, Callable[[Client, argparse.Namespace], int]]] = {
    "get": _get,
    "put": _put,
    "patch": _patch,
    "diff": _diff,
    "validate": _validate,
    "dry-run": _dry_run,
    "history": _history,
    "rollback": _rollback,
}


def _file(args: argparse.Namespace) -> Any:
    """Return the policy in a file: the whole of it, or its `[policy]` table."""
    if len(args.what) != 1:
        raise Failed(f"name one file: headway policy {args.action} policy.toml")
    path = Path(args.what[0])
    try:
        text = sys.stdin.read() if args.what[0] == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{str(path)!r} cannot be read: {error}") from error
    try:
        document = orjson.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as error:
        raise Failed(f"{str(path)!r} is neither TOML nor JSON: {error}") from error
    return document.get("policy", document)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Return the merge patch that `KEY=VALUE` words, or a file, mean."""
    if len(args.what) == 1 and "=" not in args.what[0]:
        return dict(_file(args))
    if not args.what:
        raise Failed("nothing to change; e.g. headway policy patch classes.bulk.max_wait_s=30")
    return given(args.what)
