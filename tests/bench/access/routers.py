"""Routers as processes that ask for keys, before one mock engine, with or without a Redis."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from policies.keys import Allowance, Key
from router.access.keyring import Keyring
from router.access.office import Office
from router.access.secret import pepper_of
from router.access.store import Journal
from tests.bench.overhead.targets import compiled_router, compiler_missing
from tests.fakes.redis_server import RedisServer, free_port

TOKEN = "bench-token"  # noqa: S105 # opens nothing but a benchmark's routers
START_S = 30.0
CONFIG = """\
[server]
port = {port}
access_log = "off"
{sections}
[[pools]]
name = "fast"
profile = "predictable"
models = ["mock"]
endpoints = [{{ engine = "vllm", url = "http://127.0.0.1:{engine}", max_in_flight = 4096 }}]
"""


@dataclass(slots=True)
class Routers:
    """What runs."""

    folder: Path
    engine_port: int
    redis: RedisServer | None = None
    runner: list[str] = field(default_factory=list)
    """What a router's command begins with: compiled, as it is installed, where that can be."""
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    """By port."""
    client: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(
            trust_env=False, timeout=5.0, headers={"authorization": f"Bearer {TOKEN}"}
        )
    )

    async def start(self, count: int) -> list[int]:
        """Start routers; returns their ports once all are ready and know of each other."""
        ports = [self._start() for _ in range(count)]
        async with asyncio.timeout(START_S):
            for port in ports:
                while not await self._stands(port, count):
                    await asyncio.sleep(0.05)
        return ports

    def _start(self) -> int:
        port = free_port()
        sections = "[access]\n[admin]\n"
        if self.redis is not None:
            sections += f'[redis]\nurl = "{self.redis.url}"\n'
        path = self.folder / f"{port}.toml"
        path.write_text(CONFIG.format(port=port, sections=sections, engine=self.engine_port))
        with (self.folder / f"{port}.log").open("wb") as log:
            self.processes[port] = subprocess.Popen(  # noqa: S603 - ourselves
                [*self.runner, sys.executable, "-m", "router", "serve", str(path)],
                stderr=log,
                env={**os.environ, "HEADWAY_ADMIN_TOKEN": TOKEN},
            )
        return port

    async def _stands(self, port: int, count: int) -> bool:
        try:
            answer = await self.client.get(f"http://127.0.0.1:{port}/readyz")
        except httpx.HTTPError:
            return False
        if self.redis is None:
            return answer.status_code == httpx.codes.OK
        shown = answer.json().get("replicas") or {}
        return answer.status_code == httpx.codes.OK and shown.get("count") == count

    async def key(self, port: int, **said: Any) -> dict[str, Any]:
        """Have one router make a key, and wait until all know it."""
        url = f"http://127.0.0.1:{port}/admin/v1/keys"
        answer = await self.client.post(url, json={"tenant": "bench", **said})
        answer.raise_for_status()
        made: dict[str, Any] = answer.json()
        shown = {"authorization": f"Bearer {made['key']}"}
        async with asyncio.timeout(START_S):
            for each in self.processes:
                models = f"http://127.0.0.1:{each}/v1/models"
                while (await self.client.get(models, headers=shown)).status_code != httpx.codes.OK:
                    await asyncio.sleep(0.02)
        return made

    async def revoke(self, port: int, id_: str) -> None:
        """Have one router revoke a key."""
        url = f"http://127.0.0.1:{port}/admin/v1/keys/{id_}"
        (await self.client.delete(url)).raise_for_status()

    def stop(self) -> None:
        """Stop all of them."""
        for each in self.processes.values():
            each.terminate()
        for each in self.processes.values():
            try:
                each.wait(10.0)
            except subprocess.TimeoutExpired:
                each.kill()
        self.processes.clear()


@asynccontextmanager
async def routers(
    folder: Path, engine_port: int, redis: RedisServer | None
) -> AsyncIterator[Routers]:
    """Yield a fleet without routers; at the end there are none again."""
    runner = [] if compiler_missing() else compiled_router()
    made = Routers(folder, engine_port, redis, runner)
    try:
        yield made
    finally:
        made.stop()
        await made.client.aclose()


async def key_in(folder: Path, allowance: Allowance) -> str:
    """Put a key into a state directory, for a router that starts there; return its text."""
    keyring, pepper = Keyring(pepper_of(None), {}), pepper_of(None)
    office = Office(Journal(folder / "keys.jsonl"), keyring, pepper, lambda: 1.0)
    _, text = await office.issue(Key(id="", tenant="bench", allowance=allowance))
    return text
