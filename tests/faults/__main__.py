"""`python -m tests.faults`: plays every fault and exits 1 with what falls short."""

import argparse
import asyncio
import sys
import time
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.crowded import crowded
from tests.faults.lines import REAL, SPEAKERS, Line, illnesses, kill_under_load
from tests.faults.long import long_prompts
from tests.faults.matrix import Row, rows, table
from tests.faults.schedules import schedules
from tests.faults.soak import soak
from tests.faults.written import write

PARTS = ("matrix", "kill", "ill", "long", "schedules", "crowd")


async def _matrix(only: str | None, seed: int) -> list[Row]:
    played = []
    faults = [fault for fault in FAULTS if only is None or only in fault.name]
    async for row in rows(faults, seed):
        played.append(row)
        verdict = "; ".join(row.flaws) or "as promised"
        _say(f"{row.name} ({row.total} requests): {verdict}")
        if row.flaws:
            for said, count in row.notes.most_common(4):
                _say(f"    {count} x {said}")
    return played


async def _lines(parts: set[str], args: argparse.Namespace) -> list[Line]:
    lines = []
    if "kill" in parts:
        lines += [await kill_under_load(args.seed, fleet) for fleet in (SPEAKERS, REAL)]
    if "ill" in parts:
        lines += [line async for line in illnesses(args.seed)]
    if "long" in parts:
        lines.append(await long_prompts(args.seed))
    if "schedules" in parts:
        lines.append(schedules(args.seed, args.schedules))
    if "crowd" in parts:
        lines.append(await crowded(args.streams))
    if "soak" in parts:
        lines.append(await soak(args.seed, args.seconds, _say, args.result))
    return lines


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of callers and prompts")
    parser.add_argument("--only", help="faults whose name has this in it")
    parser.add_argument("--part", action="append", choices=(*PARTS, "soak"), help="all but soak")
    parser.add_argument("--schedules", type=int, default=10_000, help="in virtual time")
    parser.add_argument("--streams", type=int, default=4000, help="of the crowd")
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long the soak lasts")
    parser.add_argument("--result", type=Path, help="where the soak's document goes, in JSON")
    parser.add_argument("--write", type=Path, help="put the tables into this document")
    args = parser.parse_args()
    parts = set(args.part or PARTS)
    began = time.monotonic()
    played = asyncio.run(_matrix(args.only, args.seed)) if "matrix" in parts else []
    lines = asyncio.run(_lines(parts, args))
    sys.stdout.write(table(played) + "\n" if played else "")
    sys.stdout.writelines(f"{line.name}: {line.said}\n" for line in lines)
    if args.write is not None:
        write(args.write, played, lines)
    judged: list[Row | Line] = [*played, *lines]
    flaws = [f"{each.name}: {flaw}" for each in judged for flaw in each.flaws]
    _say(f"{time.monotonic() - began:.0f} s")
    sys.stderr.writelines(f"FALLS SHORT: {flaw}\n" for flaw in flaws)
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main())
