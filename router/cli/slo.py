"""`headway slo`: which promises are kept, and how fast the error budget goes."""

import argparse
from typing import Any, Final

from router.cli.admin_client import (
    HOW_TO_REACH,
    Failed,
    add_client_arguments,
    client_of,
    failed,
    print_json,
    screen,
    share,
    table,
)

EXAMPLE: Final = f"""\
example:
  headway slo
  headway slo --json

A burn rate of 1 uses the error budget up exactly at the end of its period; 14.4 over an hour
uses up a fiftieth of a month's. The objective is admin.objective in the configuration.
{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Show; returns the exit status."""
    try:
        found = client_of(args).get("/slo")
    except Failed as error:
        return failed("slo", error)
    if args.json:
        print_json(found)
        return 0
    rows = table("class", "tenant", "window", ">requests", ">attained", ">burn", ">good/s")
    for name, windows in found["classes"].items():
        _add(rows, name, "", windows)
    for each in found["tenants"]:
        _add(rows, each["class"], each["tenant"], each["windows"])
    screen().print(rows)
    return 0


def _add(rows: Any, name: str, tenant: str, windows: dict[str, Any]) -> None:
    for window, each in windows.items():
        burn = each["burn_rate"]
        rows.add_row(
            name,
            tenant or "all",
            window,
            str(each["requests"]),
            share(each["attainment"]),
            "-" if burn is None else f"{burn:.2f}",
            f"{each['goodput_per_s']:.2f}",
        )
