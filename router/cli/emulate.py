"""`headway emulate`: stand-ins for inference engines, with real schedulers and measured timing."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Final

import uvloop

from engines.emulator.profiles import PROFILES
from engines.emulator.server import EngineServer, Served, serve
from engines.emulator.spec import EngineSpec, Knobs, LlamaCpp, Memory, Policy, Sglang, Tgi, Vllm

EXAMPLE: Final = """\
example:
  headway emulate --kind vllm --profile h100-8b --port 8001
  headway emulate --kind vllm --port 8001 --count 2 --set max_num_seqs=32 max_num_batched_tokens=512
  curl -d '{"hang": true, "for_s": 10}' localhost:8001/emulator/faults
"""

KINDS: Final[Mapping[str, type[Knobs]]] = MappingProxyType(
    {"vllm": Vllm, "tgi": Tgi, "sglang": Sglang, "llamacpp": LlamaCpp}
)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--kind", choices=tuple(KINDS), default="vllm", help="kind of engine")
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="h100-8b",
        help="model and GPU whose timing it has",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=8001, help="first port; 0 takes any free ones")
    parser.add_argument("--count", type=int, default=1, help="engines, at successive ports")
    parser.add_argument("--model", default="emulated", help="name of the model")
    parser.add_argument(
        "--kv-tokens", type=int, help="size of the KV cache, the profile's if left out"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all noise")
    parser.add_argument("--pace", type=float, default=1.0, help="2 runs twice as fast, 0.5 half")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KNOB=VALUE",
        help="the engine's own settings, by their own names",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted; returns the exit status."""
    try:
        engines = engines_of(args)
    except ValueError as error:
        sys.stderr.write(f"headway emulate: {error}\n")
        return 2
    uvloop.run(_serve(engines, args.seed, args.pace))
    return 0


def engines_of(args: argparse.Namespace) -> list[Served]:
    """Return the engines that a command line means; raises ValueError."""
    knobs = knobs_of(KINDS[args.kind], args.set)
    if args.pace <= 0:
        raise ValueError(f"--pace {args.pace}: must be above 0")
    spec = EngineSpec(PROFILES[args.profile], knobs, Memory(kv_tokens=args.kv_tokens))
    return [
        Served(
            name=f"{args.kind}-{index}",
            spec=spec,
            model=args.model,
            host=args.host,
            port=args.port + index if args.port else 0,
        )
        for index in range(args.count)
    ]


def knobs_of(kind: type[Knobs], settings: Sequence[str]) -> Knobs:
    """Return a kind's knobs with `name=value` settings; raises ValueError."""
    readers = {field.name: _reader(field.name, field.default) for field in fields(kind)}
    values: dict[str, object] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if name not in readers:
            raise ValueError(f"--set {setting}: no setting {name!r}; known: {', '.join(readers)}")
        values[name] = readers[name](value)
    return kind(**values)  # type: ignore[arg-type]  # each value was read as its field's type


def _reader(name: str, default: object) -> Callable[[str], object]:
    def read(value: str) -> object:
        try:
            return _value(value, default)
        except ValueError:
            example = "a whole number" if default is None else f"something like {default}"
            raise ValueError(f"--set {name}={value}: must be {example}") from None

    return read


def _value(value: str, default: object) -> object:
    match default:
        case bool():
            if value.lower() in _TRUE | _FALSE:
                return value.lower() in _TRUE
            raise ValueError(value)
        case Policy():
            return Policy(value)
        case float():
            return float(value)
        case _:
            return None if value.lower() == "none" else int(value)


async def _serve(engines: Sequence[Served], seed: int, pace: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(wanted, stop.set)
    async with serve(engines, seed=seed, pace=pace) as servers:
        for server in servers:
            sys.stdout.write(_line(server))
        sys.stdout.flush()
        await stop.wait()


def _line(server: EngineServer) -> str:
    kind = server.site.spec.knobs.kind.value
    return f"{server.site.name}: {kind} serving {server.site.model!r} at {server.url}\n"
