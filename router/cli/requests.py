"""`headway requests`: the requests that run, and those that ended lately, each with its id."""

import argparse
from typing import Any, Final
from urllib.parse import urlencode

from policies.facts import SlaClass
from router.cli.admin_client import (
    HOW_TO_REACH,
    Failed,
    add_client_arguments,
    client_of,
    failed,
    milliseconds,
    print_json,
    screen,
    table,
)

EXAMPLE: Final = f"""\
examples:
  headway requests --missed                  those that missed a target, newest first
  headway requests --slowest --limit 5       of all that are remembered, those that took longest
  headway requests --endpoint vllm-0 --class interactive
  headway explain --request ID               what the time of one went into

{HOW_TO_REACH}"""
MOST: Final = 1000
"""As many as the router lists at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--missed", action="store_true", help="those that missed a target")
    parser.add_argument(
        "--slowest", action="store_true", help="those that ended and took longest, first"
    )
    parser.add_argument("--class", dest="of_class", choices=[*SlaClass], help="of one class")
    parser.add_argument("--endpoint", metavar="ID", help="those that were sent there")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="so many; 20")
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Show; returns the exit status."""
    asked = {
        "limit": MOST if args.slowest else args.limit,
        "class": args.of_class,
        "endpoint": args.endpoint,
        "missed": "true" if args.missed else None,
    }
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    try:
        found = client_of(args).get(f"/requests?{query}")
    except Failed as error:
        return failed("requests", error)
    if args.slowest:
        found["in_flight"] = []
        found["recent"].sort(key=lambda each: -each["total_s"])
        del found["recent"][args.limit :]
    if args.json:
        print_json(found)
        return 0
    rows = table("id", "class", "model", "endpoint", "outcome", ">queue", ">TTFT", ">total")
    rows.columns[0].no_wrap = True
    for each in found["in_flight"]:
        rows.add_row(*_what(each), each["state"], "", "", milliseconds(each["since_s"]))
    for each in found["recent"]:
        rows.add_row(
            *_what(each),
            _outcome(each),
            milliseconds(each["queue_s"]),
            milliseconds(each["first_token_s"]),
            milliseconds(each["total_s"]),
        )
    screen().print(rows)
    return 0


def _what(each: dict[str, Any]) -> tuple[str, str, str, str]:
    return each["request_id"], each["class"] or "-", each["model"], each["endpoint"] or "-"


def _outcome(each: dict[str, Any]) -> str:
    if each["dropped_reason"]:
        return str(each["dropped_reason"])
    return "missed" if each["met"] is False else str(each["outcome"])
