"""The `headway` command: a table of subcommands, each imported only when it is asked for."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Final, NamedTuple

from router.version import headway_version


class Command(NamedTuple):
    """A subcommand: a module with EXAMPLE, add_arguments(parser) and run(args) -> exit status."""

    module: str
    summary: str


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "serve": Command("router.cli.serve", "run the router"),
        "check": Command("router.cli.check", "show what a configuration means, or its mistakes"),
        "replicas": Command("router.cli.replicas", "show the routers of a fleet and what each has"),
        "demo": Command("router.cli.demo", "real engines, the router and live traffic, at once"),
        "emulate": Command("router.cli.emulate", "run a stand-in for an inference engine"),
        "simulate": Command("router.cli.simulate", "try policies on a trace, in virtual time"),
        "policy": Command("router.cli.policy", "look at a running router's policy, change it"),
        "pools": Command("router.cli.pools", "the pools of a running router"),
        "endpoints": Command("router.cli.endpoints", "the engines of a running router"),
        "keys": Command("router.cli.keys", "who may use a running router: make keys, revoke them"),
        "drain": Command("router.cli.drain", "send an engine nothing more"),
        "undrain": Command("router.cli.drain", "send a drained engine requests again"),
        "variants": Command("router.cli.variants", "what a model's requests go to, compared"),
        "shift": Command("router.cli.variants", "move a share of a model's requests elsewhere"),
        "status": Command("router.cli.status", "how a running router stands"),
        "requests": Command("router.cli.requests", "which requests run, ended lately, were slow"),
        "explain": Command("router.cli.explain", "where a request would go, or why one was slow"),
        "slo": Command("router.cli.slo", "which promises are kept, and burn rates"),
        "top": Command("router.cli.top", "how a running router stands, live"),
        "bench": Command("router.cli.bench", "put load on a router and measure"),
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (the process's own where none is given); returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="headway",
        description="A latency-aware request router between LLM inference engines.",
        epilog=_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"headway {headway_version()}"
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument("command", help=argparse.SUPPRESS)
    name = parser.parse_args(words[:1]).command
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
        parser.error(f"unknown command {name!r}; {meant}")
    return _run(name, words[1:])


def _run(name: str, words: Sequence[str]) -> int:
    command = COMMANDS[name]
    module = import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=f"headway {name}",
        description=f"{command.summary[:1].upper()}{command.summary[1:]}.",
        epilog=module.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    status: int = module.run(parser.parse_args(words, argparse.Namespace(command=name)))
    return status


def _table() -> str:
    lines = [f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["commands:", *lines, "", "headway COMMAND --help shows an example of each."])


if __name__ == "__main__":
    sys.exit(main())
