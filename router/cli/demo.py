"""`headway demo`: two real engines, the router and mixed traffic, on this machine alone."""

import argparse
import asyncio
import importlib.util
import json
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from rich.console import Console
from rich.live import Live

from engines.launch.child import ChildFailed, free_port
from engines.launch.llamacpp import MODEL, EngineMissing, require_engine
from router.demo import screen
from router.demo.crowd import CROWD
from router.demo.stage import Stage, stage
from router.demo.tally import Tally

EXAMPLE = """\
example:
  headway demo --seconds 60     a minute of traffic, then a summary and one line of JSON
  headway demo                  until Ctrl-C; try the printed curl command beside it
"""
_REFRESH_S = 0.5
_SEED = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `headway demo`."""
    parser.add_argument(
        "--seconds", type=_positive, help="end by itself after so long; otherwise at Ctrl-C"
    )
    parser.add_argument("--port", type=int, help="the router's port; any free one by default")
    parser.add_argument("--json", action="store_true", help="print the line of JSON and no more")


def run(args: argparse.Namespace) -> int:
    """Run the demonstration; 0 when it ran, 1 when something broke, 2 when something is missing."""
    console = Console(quiet=args.json)
    try:
        _require_parts()
        with tempfile.TemporaryDirectory(prefix="headway-demo-") as folder:
            port = args.port or free_port()
            with stage(Path(folder), port, lambda step: console.print(f"- {step}")) as running:
                # Not wrapped: a command that is to be copied must stay one line.
                console.print(
                    screen.invitation(running.url, running.pools),
                    highlight=False,
                    markup=False,
                    soft_wrap=True,
                )
                tally, elapsed_s = asyncio.run(_perform(running, args.seconds, console))
    except EngineMissing as missing:
        return _fail(2, missing)
    except ChildFailed as failure:
        return _fail(1, failure)
    except KeyboardInterrupt:
        return _fail(1, "interrupted before the traffic began")
    console.print(screen.table(tally, f"What the callers saw in {elapsed_s:.0f} s"))
    sys.stdout.write(json.dumps(screen.summary(tally, elapsed_s, running.url)) + "\n")
    if not tally.answered:
        return _fail(1, "not one request was answered; the table says why under 'failed'")
    return 0


def _require_parts() -> None:
    require_engine()
    if importlib.util.find_spec("openai") is None:
        raise EngineMissing(
            "the package 'openai', whose client sends the traffic, is not installed; `make setup` "
            "installs it, or: pip install openai"
        )


async def _perform(running: Stage, seconds: float | None, console: Console) -> tuple[Tally, float]:
    """Run the traffic and keep the table fresh; return what was counted, and in how long.

    Raises `ChildFailed` as soon as one of the servers has ended by itself.
    """
    # Imported late: without the SDK there is still a helpful message to be printed.
    from router.demo.traffic import traffic  # noqa: PLC0415

    tally = Tally({callers.sla_class: callers.targets for callers in CROWD})
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    began_at = time.monotonic()
    elapsed_s = 0.0
    async with asyncio.TaskGroup() as tasks:
        callers = tasks.create_task(
            traffic(f"{running.url}/v1", MODEL, CROWD, tally, Random(_SEED))
        )
        with Live(console=console, auto_refresh=False, transient=True) as view:
            while _goes_on(running, over, elapsed_s, seconds):
                view.update(screen.live(tally, elapsed_s, seconds), refresh=True)
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), _REFRESH_S)
                elapsed_s = time.monotonic() - began_at
        callers.cancel()
    for server in running.servers:
        server.must_run()
    return tally, elapsed_s


def _goes_on(running: Stage, over: asyncio.Event, elapsed_s: float, seconds: float | None) -> bool:
    return (
        not over.is_set()
        and (seconds is None or elapsed_s < seconds)
        and all(server.exit_code is None for server in running.servers)
    )


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; a number above 0 is")
    return seconds


def _fail(code: int, why: object) -> int:
    sys.stderr.write(f"headway demo: {why}\n")
    return code
