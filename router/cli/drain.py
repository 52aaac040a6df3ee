"""`headway drain` and `headway undrain`: let an endpoint run empty, and use it again."""

import argparse
from typing import Final

from router.cli.admin_client import (
    HOW_TO_REACH,
    Failed,
    add_change_arguments,
    add_client_arguments,
    client_of,
    failed,
)
from router.cli.endpoints import change
from router.cli.idle import warn_of_idle_shares

EXAMPLE: Final = f"""\
example:
  headway drain vllm-0 --reason 'driver update'
  headway endpoints                        how many requests still run there
  headway undrain vllm-0

What runs there goes on to its end; nothing more is sent.
{HOW_TO_REACH}"""
_DONE: Final = {"drain": "is sent nothing more", "undrain": "is sent requests again"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the commands take."""
    parser.add_argument("what", nargs=1, metavar="ENDPOINT")
    add_change_arguments(parser)
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Do what the command's name says; returns the exit status."""
    try:
        client = client_of(args)
        change(client, args, "POST", f"/{args.command}", _DONE[args.command])
        if not args.json:
            warn_of_idle_shares(client)
    except Failed as error:
        return failed(args.command, error)
    return 0
