"""A dry-run of all that is recorded, beside live traffic: how long it takes, and who feels it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from tests.bench.administration.fleet import Load, Running, ready, routers
from tests.fakes.scripted import answering, scripted_engine

RECORDED: Final = 10_000
CALLERS: Final = 8
STEADY: Final = 8
"""Callers at a steady rate, and how often each asks, s."""
EVERY_S: Final = 0.04
ROUNDS: Final = 5
QUIET_S: Final = 5.0
DRY_RUN_S: Final = 5.0
ADDED_P99_S: Final = 0.001
ANSWER: Final = b'{"choices":[],"usage":{"prompt_tokens":300,"completion_tokens":60}}'
PATCH: Final = {"patch": {"spill": {"to_throughput": False}}, "last": RECORDED}


async def dry_runs(folder: Path, say: Callable[[str], None]) -> list[str]:
    """Replay the latest requests beside the load; returns what falls short."""
    async with scripted_engine(answering(ANSWER)) as engine:
        with routers(folder, (engine.url,)) as started:
            (router,) = started
            await ready(started)
            async with router.client() as client:
                await _record(router)
                # The workers are started with the first question.
                await client.post("/policy/dry-run", json={"last": 1})
                return await _beside_load(router, client, say)


async def _record(router: Running) -> None:
    load = Load([router.port])
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(load.call(router.port))
        while load.answered < RECORDED:
            await asyncio.sleep(0.05)
        load.stopped = True


async def _beside_load(
    router: Running, client: httpx.AsyncClient, say: Callable[[str], None]
) -> list[str]:
    load = Load([router.port])
    took_s, before_s, beside_s = [], [], []
    async with asyncio.TaskGroup() as group:
        for number in range(STEADY):
            group.create_task(load.call(router.port, EVERY_S, EVERY_S * number / STEADY))
        await asyncio.sleep(1.0)
        for _ in range(ROUNDS):
            load.times_s.clear()
            await asyncio.sleep(QUIET_S)
            before_s.append(load.percentile(0.99))
            load.times_s.clear()
            began = time.perf_counter()
            answer = await client.post("/policy/dry-run", json=PATCH)
            took_s.append(time.perf_counter() - began)
            beside_s.append(load.percentile(0.99))
        load.stopped = True
    added_s = median(beside - before for before, beside in zip(before_s, beside_s, strict=True))
    slowest_s = max(took_s)
    say(
        f"{ROUNDS} dry-runs of {answer.json()['requests']} recorded requests under two policies:"
        f" {median(took_s):.1f} s, {slowest_s:.1f} s at most (goal {DRY_RUN_S:g}); live p99 at"
        f" {STEADY / EVERY_S:g} requests a second {1e3 * median(before_s):.2f} ms without,"
        f" {1e3 * added_s:+.2f} ms beside (goal {1e3 * ADDED_P99_S:g}); {load.failed} failed"
    )
    findings = (
        (slowest_s <= DRY_RUN_S, f"one takes {slowest_s:.1f} s"),
        (added_s <= ADDED_P99_S, f"one adds {1e3 * added_s:.2f} ms to the live p99"),
        (not load.failed, f"{load.failed} live requests failed"),
    )
    return [f"dry-runs: {text}" for holds, text in findings if not holds]
