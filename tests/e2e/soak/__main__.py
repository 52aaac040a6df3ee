"""The soak as a command.

    python -m tests.e2e.soak --requests 20000 --seed 1

Ends with 1 where anything leaked or any answer was wrong.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import uvloop

from tests.e2e.soak.crowd import Tally
from tests.e2e.soak.quiet import hang_ups
from tests.e2e.soak.run import Outcome, soak

SHOWN = 10
"""Wrong answers told in full."""
ALONE = 100
"""Hang-ups that are timed by themselves."""


def main() -> int:
    """Run it and say what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--callers", type=int, default=48, help="at the same time")
    args = parser.parse_args()
    began_at = time.monotonic()

    def progress(tally: Tally) -> None:
        share = tally.asked / args.requests
        elapsed_s = time.monotonic() - began_at
        sys.stderr.write(f"\r{share:4.0%}  {tally.asked} asked, {elapsed_s:.0f} s ")

    outcome = uvloop.run(soak(args.requests, args.seed, args.callers, progress))
    elapsed_s = time.monotonic() - began_at
    sys.stderr.write("\n")
    sys.stdout.write(summary(outcome, elapsed_s))
    alone = felt(uvloop.run(hang_ups(ALONE)))
    sys.stdout.write(f"hung up with nothing else going on: {alone}\n")
    return 0 if outcome.is_clean else 1


def summary(outcome: Outcome, elapsed_s: float) -> str:
    """Return what a soak found, for people."""
    tally, ledger = outcome.tally, outcome.ledger
    deeds = Counter(deed for done in ledger.deeds.values() for deed in done)
    lines = [
        f"{tally.asked} requests in {elapsed_s:.1f} s, {tally.asked / elapsed_s:.0f}/s",
        f"answered: {_counted(tally.statuses)}",
        f"streams: {tally.streams_complete} complete, {tally.streams_broken} ended by an error",
        f"large plain answers cut: {tally.plain_broken}",
        f"unanswered behind what broke: {tally.behind_broken}",
        f"hung up: {tally.hung_up}; {felt(ledger.hang_up_s)}",
        f"engines: {_counted(deeds)}",
        f"attempts failed: {_counted(outcome.failures)}",
        f"given up on as silent without being so: {outcome.unexplained}",
        f"longest that the process stood still: {outcome.longest_still_s:.2f} s",
        f"wrong answers: {len(tally.wrong)}",
        *(f"  {each}" for each in tally.wrong[:SHOWN]),
        f"left over: {len(outcome.leaks)}",
        *(f"  {each}" for each in outcome.leaks),
    ]
    return "\n".join(lines) + "\n"


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} x {count}" for name, count in sorted(counts.items()))


def felt(hang_up_s: list[float]) -> str:
    """Return how soon hang-ups reached engines, for people."""
    if not hang_up_s:
        return "felt by no engine"
    ordered = sorted(1e3 * each for each in hang_up_s)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    return (
        f"{len(ordered)} felt by an engine after {ordered[len(ordered) // 2]:.1f} ms (median), "
        f"{p99:.1f} ms (p99), {ordered[-1]:.1f} ms (longest)"
    )


if __name__ == "__main__":
    sys.exit(main())
