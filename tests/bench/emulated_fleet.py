"""A whole fleet of emulated engines in one process: `python -m tests.bench.emulated_fleet`.

At its end it writes how late it attended to their steps, seconds, as JSON.
"""

import argparse
import asyncio
import gc
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from engines.emulator.server import Served, serve
from router.measure.distribution import Distribution
from router.simulation.fleet import MODEL, Fleet, load_fleet

ENDLESS_TOKENS: Final = 1e12
"""A model that never ends an answer by itself: TGI knows no `ignore_eos`, and callers' bounds are
to decide everywhere."""


def served(fleet: Fleet, ports: Sequence[int]) -> list[Served]:
    """Return the engines of a fleet, one at each port."""
    return [
        Served(
            name=member.plan.id,
            spec=member.spec,
            model=MODEL,
            port=port,
            mean_output_tokens=ENDLESS_TOKENS,
        )
        for member, port in zip(fleet.members, ports, strict=True)
    ]


def lateness(late: Distribution) -> dict[str, float]:
    """Return what is told of it; infinite where there was no step."""
    shares = {"p50": 0.5, "p99": 0.99}
    found = {name: late.percentile(share) for name, share in shares.items()}
    return {name: float("inf") if value is None else value for name, value in found.items()} | {
        "steps": float(late.count)
    }


async def run(engines: Sequence[Served], seed: int, report: Path) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    late = Distribution()
    async with serve(engines, seed=seed, late=late.add):
        # What is there stays: looking through it again and again would make steps late.
        gc.collect()
        gc.freeze()
        await stop.wait()
    report.write_text(json.dumps(lateness(late)))  # noqa: ASYNC240 # nothing is served any more


def main() -> None:
    """Serve what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fleet", help="a built-in fleet or a TOML file")
    parser.add_argument("--ports", nargs="+", type=int, required=True, help="one an engine")
    parser.add_argument("--seed", type=int, default=0, help="of all noise")
    parser.add_argument("--report", type=Path, required=True, help="where lateness is written")
    args = parser.parse_args()
    uvloop.run(run(served(load_fleet(args.fleet), args.ports), args.seed, args.report))


if __name__ == "__main__":
    main()
