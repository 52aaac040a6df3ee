"""The load generator where there is no C compiler: the options and lines of load.c.

python -m tests.bench.overhead.load closed|streams PORT [options]
"""

import argparse
import asyncio
import json
import re
import sys
import time
from itertools import cycle
from typing import cast

import httptools
import uvloop

STAMP = re.compile(rb"@(\d{16})")
STAMP_TAIL_BYTES = 16
"""A stamp that is not whole is at most this long."""
ENDLESS_EVENTS = 100_000_000
WORDS = "the quick brown fox jumps over the lazy dog and "
OK = 200
STUCK_S = 20.0


class LoadFailed(Exception):
    """An answer was no 200, or broke off."""


def options() -> argparse.ArgumentParser:
    """Return the command line; load.c says what each means."""
    made = argparse.ArgumentParser(description="closed loops and paced streams")
    made.add_argument("mode", choices=("closed", "streams"))
    made.add_argument("port", type=int)
    made.add_argument("--connections", type=int, default=32)
    made.add_argument("--seconds", type=float, default=2.0)
    made.add_argument("--requests", type=int)
    made.add_argument("--warm-up", type=float, default=0.3)
    made.add_argument("--rate", type=float, default=0.0)
    made.add_argument("--interval-us", type=int, default=20_000)
    made.add_argument("--body-bytes", type=int, default=256)
    made.add_argument("--path", default="/v1/chat/completions")
    made.add_argument("--header", action="append", default=[])
    return made


def question(asked: argparse.Namespace) -> bytes:
    """Return the request's bytes."""
    body: dict[str, object] = {"model": "mock", "max_tokens": 64}
    if asked.mode == "streams":
        body |= {"stream": True, "mock_events": ENDLESS_EVENTS}
        body |= {"mock_interval_us": asked.interval_us}
    body["messages"] = [{"role": "user", "content": ""}]
    empty = json.dumps(body, separators=(",", ":"))
    room = max(0, asked.body_bytes - len(empty))
    body["messages"] = [{"role": "user", "content": (WORDS * (room // len(WORDS) + 1))[:room]}]
    whole = json.dumps(body, separators=(",", ":")).encode()
    lines = [
        f"POST {asked.path} HTTP/1.1",
        f"Host: 127.0.0.1:{asked.port}",
        "Content-Type: application/json",
        f"Content-Length: {len(whole)}",
        *asked.header,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + whole


class Tally:
    """What was seen since the phase began, and whether to go on."""

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate
        """Requests a second; 0: as fast as it goes."""
        self.start()
        self.failure: str | None = None
        self.changed = asyncio.Event()
        self.in_flight = 0
        self.open = 0

    def start(self, for_s: float = 0.0, most: int | None = None) -> None:
        """Begin a phase."""
        self.seen_us: list[float] = []
        self.asked = 0
        self.most = most
        self.stop_s = time.monotonic() + for_s

    @property
    def more(self) -> bool:
        """Whether the phase goes on."""
        bounded = self.most is not None and self.asked >= self.most
        return time.monotonic() < self.stop_s and not bounded

    def percentile_us(self, share: float) -> float:
        """Return a percentile of what was seen; 0 where nothing was."""
        ordered = sorted(self.seen_us)
        return ordered[int(share * (len(ordered) - 1))] if ordered else 0.0


class Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self, tally: Tally, request: bytes, *, streams: bool) -> None:
        self.tally = tally
        self.request = request
        self.streams = streams
        self.parser = httptools.HttpResponseParser(self)
        self.opened = self.asking = False
        self.tail = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"the connection was closed: {exc}")

    def fail(self, why: str) -> None:
        """End the run with the first reason there is."""
        self.tally.failure = self.tally.failure or why
        self.tally.changed.set()

    def ask(self) -> None:
        """Send the request."""
        self.asking = True
        self.tally.asked += 1
        self.tally.in_flight += 1
        self.asked_ns = time.monotonic_ns()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(f"what was answered is no HTTP: {error}")

    def on_headers_complete(self) -> None:
        if self.parser.get_status_code() != OK:
            self.fail(f"answered with status {self.parser.get_status_code()}")

    def on_body(self, body: bytes) -> None:
        if not self.streams:
            return
        now_us = time.monotonic_ns() / 1000
        body = self.tail + body
        whole_to = 0
        for stamp in STAMP.finditer(body):
            self.tally.seen_us.append(max(0.0, now_us - int(stamp[1])))
            whole_to = stamp.end()
            self.mark_opened()
        self.tail = body[max(whole_to, len(body) - STAMP_TAIL_BYTES) :]

    def on_message_complete(self) -> None:
        if self.streams:
            self.fail("a stream ended by itself")
            return
        tally = self.tally
        tally.seen_us.append((time.monotonic_ns() - self.asked_ns) / 1000)
        tally.in_flight -= 1
        self.asking = False
        self.mark_opened()
        if tally.more and not tally.rate:
            self.ask()
        elif tally.in_flight == 0:
            tally.changed.set()

    def mark_opened(self) -> None:
        """Note the first sign of life."""
        if not self.opened:
            self.opened = True
            self.tally.open += 1
            self.tally.changed.set()


async def until(tally: Tally, settled: str, bound: int) -> None:
    """Wait until a count of the tally is as wanted. Raises LoadFailed."""
    patience_s = max(0.0, tally.stop_s - time.monotonic()) + STUCK_S
    try:
        async with asyncio.timeout(patience_s):
            while getattr(tally, settled) != bound and tally.failure is None:
                tally.changed.clear()
                await tally.changed.wait()
    except TimeoutError:
        now = getattr(tally, settled)
        raise LoadFailed(f"stuck for {STUCK_S:g} s: {settled} is {now}, not {bound}") from None
    if tally.failure is not None:
        raise LoadFailed(tally.failure)


def report(tally: Tally, phase: str, elapsed_s: float) -> None:
    """Write one line."""
    line = {
        "phase": phase,
        "open": tally.open,
        "count": len(tally.seen_us),
        "elapsed_s": elapsed_s,
        "cpu_s": time.process_time(),
        "p50_us": tally.percentile_us(0.5),
        "p99_us": tally.percentile_us(0.99),
        "max_us": tally.percentile_us(1.0),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def ask_evenly(tally: Tally, askers: list[Asker]) -> None:
    """Ask so many times a second, on connections in turn that are free."""
    due_s = time.monotonic()
    turns = cycle(askers)
    while tally.more and tally.failure is None:
        free = next((each for each, _ in zip(turns, askers, strict=False) if not each.asking), None)
        if free is not None:
            free.ask()
        due_s += 1.0 / tally.rate
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def closed(tally: Tally, askers: list[Asker], for_s: float, most: int | None) -> None:
    """Ask until time or requests are up and every answer has come. Raises LoadFailed."""
    tally.start(for_s, most)
    if tally.rate:
        await ask_evenly(tally, askers)
    else:
        for asker in askers:
            if tally.more:
                asker.ask()
    await until(tally, "in_flight", 0)


async def drive(asked: argparse.Namespace) -> None:
    """Open, warm up, wait for the word, measure. Raises LoadFailed."""
    tally = Tally(asked.rate)
    request = question(asked)
    streams = asked.mode == "streams"
    askers = []
    for number in range(asked.connections):
        _, asker = await asyncio.get_running_loop().create_connection(
            lambda: Asker(tally, request, streams=streams), "127.0.0.1", asked.port
        )
        askers.append(asker)
        await until(tally, "open", number + 1)
    if not streams:
        await until(tally, "in_flight", 0)
        await closed(tally, askers, asked.warm_up, None)
    report(tally, "ready", 0.0)
    if not sys.stdin.readline():
        return
    start_s = time.monotonic()
    if streams:
        tally.start(asked.seconds)
        await asyncio.sleep(asked.seconds)
    else:
        await closed(tally, askers, asked.seconds, asked.requests)
    if tally.failure is not None:
        raise LoadFailed(tally.failure)
    report(tally, "done", time.monotonic() - start_s)


def main() -> int:
    """Return 0; 1, with the reason, where an answer was no 200 or broke off."""
    try:
        uvloop.run(drive(options().parse_args()))
    except (LoadFailed, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
