"""`headway check`: what a configuration means, or everything that is wrong with it."""

import argparse
import sys
from pathlib import Path

import orjson

from router.config import CONFIG, describe, load
from router.document import ConfigError

EXAMPLE = """\
example:
  headway check headway.toml            everything that was understood, defaults included
  headway check headway.toml --json     the same, or the mistakes, for a script

Exits with 0 where the file is right and with 2 where it is not.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("file", type=Path, help="the configuration, TOML")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace) -> int:
    """Check the file; returns the exit status."""
    try:
        config = load(args.file)
    except ConfigError as error:
        if args.json:
            flaws = [{"place": flaw.place, "message": flaw.message} for flaw in error.flaws]
            _print_json({"valid": False, "file": str(args.file), "errors": flaws})
        else:
            sys.stderr.writelines(f"{sentence}\n" for sentence in error.sentences())
        return 2
    if args.json:
        _print_json({"valid": True, "file": str(args.file), "config": CONFIG.write(config)})
    else:
        sys.stdout.write(describe(config))
    return 0


def _print_json(document: object) -> None:
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
