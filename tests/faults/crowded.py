"""Thousands of streams on one worker, a quarter of whose callers do not read."""

import asyncio
import json
import os
import re
import resource
import socket
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from engines.launch.child import Child, free_port
from tests.faults.lines import Line
from tests.faults.stage import START_S, endpoint_line

SLOW_SHARE = 0.25
WARM_S = 6.0
LASTS_S = 16.0
MOST_MB = 400.0
MOST_DELAY_S = 0.05
AT_ONCE = 64
_STAMP = re.compile(rb'"text":"(\d+\.\d+) ')


class Reader(asyncio.Protocol):
    """A caller that reads, or does not, and notes how late each event is."""

    def __init__(self, delays: list[float], *, slow: bool) -> None:
        self._delays = delays
        self._slow = slow
        self.has_begun = asyncio.get_running_loop().create_future()
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        prompt = "large" if self._slow else "small"
        body = json.dumps({"model": "m", "prompt": prompt, "stream": True}).encode()
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: r\r\nx-sla-class: standard\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        """Note how late it is."""
        now = time.monotonic()
        self._delays += [now - float(stamp) for stamp in _STAMP.findall(data)]
        if not self.has_begun.done():
            self.has_begun.set_result(data.startswith(b"HTTP/1.1 200"))
            if self._slow:
                self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note."""
        self.is_over = True
        if not self.has_begun.done():
            self.has_begun.set_result(False)

    def leave(self) -> None:
        """Hang up."""
        self._transport.abort()


async def crowded(streams: int) -> Line:
    """Hold so many streams for a while."""
    line = Line(f"{streams} streams on one worker, a quarter of them not read")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headway-crowd-")))
        engine_port, port = free_port(), free_port()
        engine = Child("tests.faults.ticker", ["--port", str(engine_port)], folder / "engine.log")
        stack.callback(engine.stop)
        engine.wait_until_ready(f"http://127.0.0.1:{engine_port}/health", START_S)
        path = folder / "headway.toml"
        path.write_text(_configuration(port, engine_port, streams))
        router = Child("router", ["serve", str(path)], folder / "router.log")
        stack.callback(router.stop)
        router.wait_until_ready(f"http://127.0.0.1:{port}/readyz", START_S)
        before_mb = memory_mb(router.pid)
        delays: list[float] = []
        readers = await _readers(port, streams, delays)
        for reader in readers:
            stack.callback(reader.leave)
        begun = sum([await reader.has_begun for reader in readers])
        await asyncio.sleep(WARM_S)
        delays.clear()
        peak_mb = 0.0
        for _ in range(int(LASTS_S)):
            await asyncio.sleep(1.0)
            peak_mb = max(peak_mb, memory_mb(router.pid))
        broken = sum(reader.is_over for reader in readers)
    delays.sort()
    p50_s, p99_s = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    line.said = (
        f"{begun} begun, {broken} broken, {len(delays)} events: p50 {p50_s * 1e3:.1f} ms, p99"
        f" {p99_s * 1e3:.1f} ms late; memory {before_mb:.0f} MB before, {peak_mb:.0f} MB at most"
    )
    if begun < streams or broken:
        line.flaws.append(f"{streams - begun} streams did not begin, {broken} broke")
    if peak_mb > MOST_MB:
        line.flaws.append(f"memory reached {peak_mb:.0f} MB")
    if p99_s > MOST_DELAY_S:
        line.flaws.append(f"p99 delay {p99_s * 1e3:.0f} ms")
    return line


async def _readers(port: int, streams: int, delays: list[float]) -> list[Reader]:
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)
    every = round(1 / SLOW_SHARE)

    async def begin(number: int) -> Reader:
        slow = number % every == 0
        async with gate:
            raw = socket.socket()
            raw.setblocking(False)  # noqa: FBT003 # the socket's own signature
            if slow:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(raw, ("127.0.0.1", port))
            _, reader = await loop.create_connection(
                lambda: Reader([] if slow else delays, slow=slow), sock=raw
            )
            await reader.has_begun
            return reader

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(begin(number)) for number in range(streams)]
    return [task.result() for task in tasks]


def memory_mb(pid: int) -> float:
    """Return a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files(pid: int) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _configuration(port: int, engine_port: int, streams: int) -> str:
    line = endpoint_line("ticker", "openai", f"http://127.0.0.1:{engine_port}")
    return f"""
[server]
port = {port}
access_log = "off"
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
max_in_flight = {streams + 100}
endpoints = [{line}]
"""
