"""Routers as processes before the stand-ins, sharing over a Redis."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.bench.replicas.stand_in import StandIn
from tests.fakes.redis_server import free_port

SLOTS, BULK_SLOTS = 8, 4
START_S = 30.0
CONFIG = """
[server]
port = {port}
access_log = "off"
{redis}
[policy.profiles.throughput.holds.bulk]
max_slots = {bulk}
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
max_in_flight = {slots}
endpoints = [{endpoints}]
"""


@dataclass(slots=True)
class Stage:
    """What runs."""

    folder: Path
    engines: Sequence[StandIn]
    redis_url: str
    routers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    """By port."""
    client: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(trust_env=False, timeout=5.0)
    )

    async def start(self) -> int:
        """Start a router; returns its port once it is ready."""
        port = free_port()
        endpoints = ", ".join(
            f'{{ engine = "openai", url = "http://127.0.0.1:{each.port}" }}'
            for each in self.engines
        )
        redis = f'[redis]\nurl = "{self.redis_url}"\n'
        path = self.folder / f"{port}.toml"
        path.write_text(
            CONFIG.format(
                port=port,
                redis=redis,
                bulk=BULK_SLOTS,
                slots=SLOTS,
                endpoints=endpoints,
            )
        )
        with (self.folder / f"{port}.log").open("wb") as log:
            self.routers[port] = subprocess.Popen(  # noqa: ASYNC220, S603 - ourselves
                [sys.executable, "-m", "router", "serve", str(path)], stderr=log
            )
        async with asyncio.timeout(START_S):
            while await self.ready(port) is None:
                await asyncio.sleep(0.05)
        return port

    async def ready(self, port: int) -> dict[str, Any] | None:
        """Return what `/readyz` says; None where nothing answers."""
        try:
            answer = await self.client.get(f"http://127.0.0.1:{port}/readyz")
        except httpx.HTTPError:
            return None
        document: dict[str, Any] = answer.json()
        return document if answer.status_code == httpx.codes.OK else None

    async def agree(self, count: int, within_s: float = START_S) -> float:
        """Wait until every router counts so many; returns how long it took, s."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(within_s):
            while not all([await self._counts(port, count) for port in self.routers]):
                await asyncio.sleep(0.02)
        return loop.time() - began

    async def _counts(self, port: int, count: int) -> bool:
        shown = ((await self.ready(port)) or {}).get("replicas", {})
        return bool(shown.get("mode") == "shared" and shown.get("count") == count)

    async def metric(self, port: int, name: str) -> dict[str, float]:
        """Return one metric's lines, by their labels."""
        text = (await self.client.get(f"http://127.0.0.1:{port}/metrics")).text
        found = re.findall(rf"^{name}(\{{.*\}}) (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def kill(self, port: int) -> None:
        """Kill a router as an operating system does that runs out of memory."""
        self.routers[port].kill()
        self.routers.pop(port).wait()


@asynccontextmanager
async def stage(folder: Path, engines: Sequence[StandIn], redis_url: str) -> AsyncIterator[Stage]:
    """Yield a stage without routers; at the end there are none again."""
    made = Stage(folder, engines, redis_url)
    try:
        yield made
    finally:
        for each in made.routers.values():
            each.terminate()
        for each in made.routers.values():
            try:
                each.wait(10.0)
            except subprocess.TimeoutExpired:
                os.kill(each.pid, 9)
        await made.client.aclose()


def quantile(counts: Mapping[float, float], share: float) -> float:
    """Return a quantile of a histogram, by upper bound the count of all at most that.

    Within a bucket values are taken to lie evenly. Infinite where it is above every bound.
    """
    wanted = share * max(counts.values(), default=0.0)
    below, before = 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= wanted and count > before:
            return below + (bound - below) * (wanted - before) / (count - before)
        below, before = bound, count
    return 0.0
