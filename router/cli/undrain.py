"""`headway undrain`: send a drained endpoint requests again."""

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

EXAMPLE: Final = f"""\
example:
  headway undrain vllm-0

{HOW_TO_REACH}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("what", nargs=1, metavar="ENDPOINT")
    add_change_arguments(parser)
    add_client_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Undrain; returns the exit status."""
    try:
        return change(client_of(args), args, "POST", "/undrain", "is sent requests again")
    except Failed as error:
        return failed("undrain", error)
