"""`headway status`: how everything stands at this moment."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from router.cli.admin_client import (
    HOW_TO_REACH,
    Failed,
    add_client_arguments,
    client_of,
    failed,
    milliseconds,
    print_json,
    screen,
    share,
    table,
)

EXAMPLE: Final = f"""\
example:
  headway status
  headway status --json | jq .queue
{HOW_TO_REACH}"""
MOST_ENDPOINTS: Final = 40
"""Endpoints that a terminal shows, those with trouble first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Show; returns the exit status."""
    try:
        found = client_of(args).get("/status")
    except Failed as error:
        return failed("status", error)
    if args.json:
        print_json(found)
    else:
        screen().print(view(found))
    return 0


def view(found: dict[str, Any]) -> Group:
    """Return a snapshot as tables."""
    return Group(*_parts(found))


def _parts(found: dict[str, Any]) -> Iterator[Any]:
    queue = ", ".join(f"{count} {name}" for name, count in found["queue"].items())
    yield Text(
        f"{found['in_flight']} in flight; waiting: {queue}; policy version"
        f" {found['policy_version']}{'; draining' if found['draining'] else ''}"
    )
    away = found["away"]
    if away["requests"]:
        yield Text(
            f"spill, last 5 min: {away['requests']} requests served away from home"
            f" ({share(away['share'])}), {share(away['met'])} of them within their targets"
        )
    yield Text()
    yield _classes(found)
    yield Text()
    yield _endpoints(found)


def _classes(found: dict[str, Any]) -> Any:
    rows = table(
        "class", ">requests 5m", ">attained", ">burn 5m", ">1h", ">6h", ">TTFT p50", ">p99"
    )
    for name, each in found["classes"].items():
        windows = each["windows"]
        last = each["trend"][-1] if each["trend"] else [0.0, None, None]
        burn = [_rate(windows[window]["burn_rate"]) for window in ("5m", "1h", "6h")]
        rows.add_row(
            name,
            str(windows["5m"]["requests"]),
            share(windows["5m"]["attainment"]),
            *burn,
            milliseconds(last[1]),
            milliseconds(last[2]),
        )
    return rows


def _endpoints(found: dict[str, Any]) -> Any:
    rows = table("endpoint", "pool", "state", ">in flight", ">slots", ">pending", ">TTFT", "why")
    endpoints = sorted(
        found["endpoints"], key=lambda each: (each["state"] == "up", -each["in_flight"])
    )
    for each in endpoints[:MOST_ENDPOINTS]:
        rows.add_row(
            each["id"],
            each["pool"],
            each["state"],
            str(each["in_flight"]),
            str(each["slots"]),
            str(each["pending_prompt_tokens"]),
            milliseconds(each["first_token_s"]),
            each["why"],
        )
    if len(endpoints) > MOST_ENDPOINTS:
        rows.add_row(f"... and {len(endpoints) - MOST_ENDPOINTS} more")
    return rows


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
