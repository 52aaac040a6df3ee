"""`make bench-admin`: what administration promises, measured on one router on this machine.

Exits 1 and says what falls short.
"""

import asyncio
import sys
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from router.admin.page import files
from router.settings import Admin, State
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool
from tests.fakes.scripted import answering, scripted_engine
from tests.router.admin.asking import Asking, administered

CHANGES: Final = 1000
INVALID_SHARE: Final = 0.1
CALLERS: Final = 4
REPLAYED: Final = 10_000
DRY_RUN_S: Final = 5.0
ADDED_P99_S: Final = 0.001
PAGE_BYTES: Final = 500_000
ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'


class Load:
    """Callers that ask again and again, and what they were answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.failed = 0
        self.times_s: list[float] = []
        self.stopped = False

    async def call(self) -> None:
        """Ask until stopped."""
        while not self.stopped:
            began = time.perf_counter()
            answer = await ask(self.port, chat())
            self.times_s.append(time.perf_counter() - began)
            self.failed += answer.status != 200

    def p99_s(self) -> float:
        """Return the 99th percentile since the last time, s."""
        times, self.times_s = sorted(self.times_s), []
        return times[int(0.99 * (len(times) - 1))]


async def changes(admin: Asking, folder: Path, load: Load) -> list[str]:
    """Change the policy under load, a part of it wrongly, from two writers."""
    rng = Random(1)
    said = {200: 0, 412: 0, 422: 0}

    async def write(count: int) -> None:
        for number in range(count):
            tag = (await admin.get("/policy")).headers["etag"]
            wrong = rng.random() < INVALID_SHARE
            wait_s = -1.0 if wrong else 1.0 + number / count
            patch = {"classes": {"bulk": {"max_wait_s": wait_s}}}
            answer = await admin.send("PATCH", "/policy", patch, If_Match=tag)
            said[answer.status_code] += 1

    began = time.perf_counter()
    await asyncio.gather(write(CHANGES // 2), write(CHANGES // 2))  # noqa: TID251 - a script
    took_s = time.perf_counter() - began
    version = admin.router.router.administration.policy.version  # type: ignore[union-attr] # set
    lines = len((folder / "policy.jsonl").read_bytes().splitlines())
    sys.stdout.write(
        f"{CHANGES} changes by two writers in {took_s:.1f} s: {said[200]} made, {said[412]} refused"
        f" as stale, {said[422]} as wrong; version {version}, {lines} lines stored;"
        f" {load.failed} requests failed\n"
    )
    lost = [] if version == lines == said[200] else ["a change was lost or made twice"]
    return lost + (["requests failed while the policy changed"] if load.failed else [])


async def dry_runs(admin: Asking, load: Load) -> list[str]:
    """Replay many requests beside the load."""
    rng, at_s, rows = Random(2), 0.0, []
    for _ in range(REPLAYED):
        at_s += rng.expovariate(40.0)
        prompt, output = rng.randint(50, 2000), rng.randint(20, 300)
        rows.append({"at_s": at_s, "prompt_tokens": prompt, "output_tokens": output})
    path, quiet = "/admin/v1/policy/dry-run", {"requests": rows[:10]}
    await admin.client.post(path, json=quiet, timeout=60)
    load.times_s = []
    await asyncio.sleep(3.0)
    before_s = load.p99_s()
    began = time.perf_counter()
    patch = {"spill": {"to_throughput": False}}
    answer = await admin.client.post(path, json={"requests": rows, "patch": patch}, timeout=100)
    took_s = time.perf_counter() - began
    added_s = load.p99_s() - before_s
    sys.stdout.write(
        f"dry-run of {answer.json()['requests']} requests under two policies: {took_s:.1f} s"
        f" (goal {DRY_RUN_S:g}); live p99 {1e3 * before_s:.2f} ms, {1e3 * added_s:+.2f} beside it"
        f" (goal {1e3 * ADDED_P99_S:g})\n"
    )
    slow = [f"a dry-run takes {took_s:.1f} s"] if took_s > DRY_RUN_S else []
    return slow + (["a dry-run is felt by live traffic"] if added_s > ADDED_P99_S else [])


async def measure() -> list[str]:
    """Return what falls short."""
    size = sum(map(len, files().values()))
    sys.stdout.write(f"the dashboard has {size} bytes (goal {PAGE_BYTES})\n")
    short = ["the dashboard is too large"] if size > PAGE_BYTES else []
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            scripted_engine(answering(ANSWER)) as engine,
            administered(
                pool("bulk", engine, slots=64),
                state=State(folder),
                admin=Admin(),
                within_s=None,
            ) as admin,
        ):
            load = Load(admin.router.port)
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(load.call())
                short += await changes(admin, folder, load)
                short += await dry_runs(admin, load)
                load.stopped = True
    return short


def main() -> int:
    """Measure; returns the exit status."""
    short = asyncio.run(measure())
    sys.stdout.writelines(f"FALLS SHORT: {each}\n" for each in short)
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
