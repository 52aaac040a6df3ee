"""Routers with administration, as processes, and callers that keep their connection."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from engines.launch.child import Child, ChildFailed, child, free_port

TOKEN = "let-me-in"  # noqa: S105 # opens nothing but this benchmark's routers
START_S = 30.0
CONFIG = """
[server]
port = {port}
access_log = "off"
log_level = "warning"
[admin]
token_file = "token"
{more}
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
max_in_flight = 256
endpoints = [{endpoints}]
"""


@dataclass(slots=True)
class Running:
    """One router."""

    port: int
    process: Child

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.AsyncClient:
        """Return a client of its administration, to be closed."""
        return httpx.AsyncClient(
            base_url=f"{self.url}/admin/v1",
            headers={"authorization": f"Bearer {TOKEN}"},
            trust_env=False,
            timeout=120.0,
        )


@contextmanager
def routers(
    folder: Path, engines: Sequence[str], count: int = 1, more: str = ""
) -> Iterator[list[Running]]:
    """Run routers before engines, given by URL; `more` stands in each one's configuration."""
    (folder / "token").write_text(TOKEN)
    endpoints = ", ".join(f'{{ engine = "openai", url = "{each}" }}' for each in engines)
    with ExitStack() as stack:
        started = []
        for number in range(count):
            port = free_port()
            path = folder / f"{number}-{port}.toml"
            path.write_text(CONFIG.format(port=port, more=more, endpoints=endpoints))
            log = folder / f"{number}-{port}.log"
            process = stack.enter_context(child("router", ["serve", str(path)], log))
            started.append(Running(port, process))
        yield started


async def ready(started: Sequence[Running]) -> None:
    """Return once every router is; engines that they ask may run in this loop."""
    async with asyncio.timeout(START_S), httpx.AsyncClient(trust_env=False) as client:
        for each in started:
            while not await _is_ready(client, each):
                each.process.must_run()
                await asyncio.sleep(0.05)


async def _is_ready(client: httpx.AsyncClient, router: Running) -> bool:
    try:
        return (await client.get(f"{router.url}/readyz")).is_success
    except httpx.HTTPError:
        return False


@dataclass(slots=True)
class Load:
    """Callers that ask again and again over kept connections, and what they were answered."""

    ports: Sequence[int]
    failed: int = 0
    answered: int = 0
    mixed: int = 0
    """Answers that were judged by one policy's target and another one's."""
    times_s: list[float] = field(default_factory=list)
    stopped: bool = False

    async def call(self, port: int, pause_s: float = 0.0, after_s: float = 0.0) -> None:
        """Ask until stopped; with a pause, at a steady rate."""
        await asyncio.sleep(after_s)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: {len(body)}\r\n"
            "x-sla-class: interactive\r\nx-sla-receipt: 1\r\n\r\n"
        )
        question = (head + body).encode()
        due = time.perf_counter()
        while not self.stopped:
            if pause_s:
                due = max(due + pause_s, time.perf_counter() - pause_s)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            try:
                writer.write(question)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = int(_header(answer, b"content-length"))
                await reader.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                self.failed += not self.stopped
                return
            self.times_s.append(time.perf_counter() - began)
            self._judge(answer)
        writer.close()

    def _judge(self, answer: bytes) -> None:
        self.answered += 1
        if not answer.startswith(b"HTTP/1.1 200"):
            self.failed += 1
            return
        targets = json.loads(_header(answer, b"x-sla-receipt"))["targets"]
        self.mixed += not is_whole(targets)

    def percentile(self, share: float) -> float:
        """Return a percentile of the times since it was last asked for, s; infinite for none."""
        times, self.times_s = sorted(self.times_s), []
        return times[int(share * (len(times) - 1))] if times else float("inf")


def targets_of(number: int) -> dict[str, float]:
    """Return the two targets of one version, which belong together."""
    return {"first_token_s": 1.0 + number / 1000, "per_token_s": 2.0 + number / 1000}


def is_whole(targets: dict[str, Any]) -> bool:
    """Tell whether two targets, as a receipt shows them, are of one version."""
    first, pace = (value for name, value in targets.items() if "deadline" not in name)
    usual = first in (500, 500.0)
    return usual or abs(pace - first - 1000.0) < 0.01  # milliseconds


def _header(head: bytes, name: bytes) -> bytes:
    _, _, after = head.lower().partition(b"\r\n" + name + b": ")
    start = len(head) - len(after)
    return head[start:].partition(b"\r\n")[0]


__all__ = ["ChildFailed", "Load", "Running", "ready", "routers", "targets_of"]
