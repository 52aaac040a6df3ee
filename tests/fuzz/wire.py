"""The fuzzer as a command: mutated requests and answers against both ends of the wire.

    python -m tests.fuzz.wire --inputs 1000000 --seed 1

Ends with 1 at the first promise that does not hold, and shows the input.
"""

import argparse
import sys
import time
from collections.abc import Callable
from random import Random

from router.wire.heads import HeadReader, KnownRequests
from tests.fuzz.callers import fuzz_inbound, fuzz_intake
from tests.fuzz.engines import fuzz_upstream

STEP = 10_000
"""Inputs between two reports."""


def fuzz(inputs: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> None:
    """Try so many inputs; raises what one of them brought about, with its number as a note."""
    known, heads = KnownRequests(), HeadReader()
    targets: tuple[Callable[[Random], None], ...] = (
        lambda rng: fuzz_inbound(rng, known),
        lambda rng: fuzz_upstream(rng, heads),
        fuzz_intake,
    )
    for number in range(inputs):
        # Each input has a seed of its own, so that one can be tried again by itself.
        rng = Random(f"{seed}-{number}")
        try:
            targets[number % len(targets)](rng)
        except Exception as error:
            error.add_note(f"input {number} of seed {seed}")
            raise
        if number % STEP == 0:
            progress(number)


def main() -> int:
    """Run it and say how fast it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began_at = time.monotonic()

    def progress(number: int) -> None:
        share, elapsed_s = number / args.inputs, time.monotonic() - began_at
        sys.stderr.write(f"\r{share:4.0%}  {number} inputs, {elapsed_s:.0f} s ")

    fuzz(args.inputs, args.seed, progress)
    elapsed_s = time.monotonic() - began_at
    sys.stderr.write("\n")
    sys.stdout.write(
        f"{args.inputs} inputs in {elapsed_s:.0f} s, {args.inputs / elapsed_s:.0f}/s: all held\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
