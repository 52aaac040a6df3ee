"""What a flood of wrong keys costs a caller whose key is right: one router, with it and without.

By turns, and the medians of the turns, for two cores have other things to do as well. The good caller's engine takes its time as engines do, so what it waits for besides is the router.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.bench.access.finding import Finding
from tests.bench.access.routers import Routers
from tests.bench.overhead.tools import ROOT

PER_S = 20_000
LINES = 100
"""Connections that the wrong keys come on."""
GOOD_PER_S = 80.0
MOST_SHARE = 1.05
ANSWERED_SLOWLY = (
    b'{"model":"mock","stream":true,"mock_events":10,"mock_interval_us":10000,'
    b'"messages":[{"role":"user","content":"how are you today"}]}'
)
"""A short answer: ten tokens, a hundredth of a second each."""


async def strangers(fleet: Routers, *, quick: bool) -> list[Finding]:
    """Play it: by turns without strangers and with them."""
    (port,) = await fleet.start(1)
    key = await fleet.key(port)
    seconds, turns = (4.0, 2) if quick else (8.0, 5)
    alone: list[float] = []
    beside: list[float] = []
    offered = refused = 0.0
    for _ in range(turns):
        alone.append(_p99(await _good(port, key["key"], seconds)))
        flood = _flood(port, seconds + 1.0)
        try:
            await asyncio.sleep(0.5)
            beside.append(_p99(await _good(port, key["key"], seconds)))
        finally:
            said = await asyncio.to_thread(flood.communicate)
        sent, answered, took_s = map(float, said[0].split())
        offered += sent / took_s / turns
        refused += answered / took_s / turns
    ratios = [its / bare for bare, its in zip(alone, beside, strict=True)]
    return [
        Finding("wrong keys offered a second", offered, least=0.95 * PER_S),
        Finding("wrong keys refused a second", refused, least=0.95 * PER_S),
        Finding("good caller's p99 without them, ms", 1e3 * median(alone)),
        Finding("good caller's p99 beside them, ms", 1e3 * median(beside)),
        Finding("the one over the other", median(ratios), MOST_SHARE),
    ]


def _p99(times_s: list[float]) -> float:
    return sorted(times_s)[int(0.99 * len(times_s))]


def _flood(port: int, seconds: float) -> "subprocess.Popen[bytes]":
    """Start the strangers, in a process of their own."""
    command = [sys.executable, "-m", "tests.bench.access.flood", str(port), str(seconds)]
    return subprocess.Popen(command, cwd=Path(ROOT), stdout=subprocess.PIPE)  # noqa: S603 - ourselves


async def _good(port: int, key: str, seconds: float) -> list[float]:
    """Ask steadily with a good key; returns how long each answer took, s."""
    took: list[float] = []
    body = ANSWERED_SLOWLY
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: router\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask() -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        await reader.readuntil(b"\r\n0\r\n\r\n")
        took.append(time.monotonic() - began)
        idle.append((reader, writer))

    due = time.monotonic()
    end = due + seconds
    async with asyncio.TaskGroup() as group:
        while (due := due + 1 / GOOD_PER_S) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(ask())
    for _, writer in idle:
        writer.close()
    return took
