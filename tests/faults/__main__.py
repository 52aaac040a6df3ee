"""`python -m tests.faults`: plays every fault and exits 1 with what falls short."""

import argparse
import asyncio
import sys
import time

from tests.faults.catalogue import FAULTS
from tests.faults.matrix import Row, rows, table


async def _matrix(only: str | None, seed: int) -> list[Row]:
    played = []
    faults = [fault for fault in FAULTS if only is None or only in fault.name]
    async for row in rows(faults, seed):
        played.append(row)
        verdict = "; ".join(row.flaws) or "as promised"
        sys.stderr.write(f"{row.name} ({row.total} requests): {verdict}\n")
        for said, count in row.notes.most_common(4):
            sys.stderr.write(f"    {count} x {said}\n")
    return played


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of callers and prompts")
    parser.add_argument("--only", help="faults whose name has this in it")
    args = parser.parse_args()
    began = time.monotonic()
    played = asyncio.run(_matrix(args.only, args.seed))
    sys.stdout.write(table(played) + "\n")
    flaws = [f"{row.name}: {flaw}" for row in played for flaw in row.flaws]
    sys.stderr.write(f"{len(played)} faults in {time.monotonic() - began:.0f} s\n")
    sys.stderr.writelines(f"FALLS SHORT: {flaw}\n" for flaw in flaws)
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main())
