"""The router, whole and on a real socket, in the loop of a test; and what it holds at a moment."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import uvicorn

from engines.engine import Kind
from engines.registry import ENGINES
from policies.facts import Profile
from policies.policy import Policy
from router.access_log import AccessLog
from router.admin.administration import Administration
from router.app import Router, server
from router.config import Config
from router.credentials import Secrets
from router.settings import (
    Access,
    Admin,
    CallersTls,
    Endpoint,
    Limits,
    Pool,
    Probes,
    Redis,
    Server,
    State,
    Timeouts,
    Tls,
    Tracing,
)
from tests.canary import secret
from tests.fakes.lines import KeptLines
from tests.fakes.scripted import ScriptedEngine

TOKEN = secret("admin")
SELDOM = Probes(health_s=3600.0, load_s=3600.0, canary_s=None)
"""Engines are asked once, at the start."""
PATIENCE_S = 10.0
"""How long anything may take that is waited for; only a test that fails gets there."""


def pool(  # every key of a pool that some test sets
    name: str,
    *engines: ScriptedEngine | str,
    kind: Kind = Kind.OPENAI,
    profile: Profile = Profile.THROUGHPUT,
    models: Sequence[str] = ("m",),
    slots: int = 8,
    model: str | None = None,
) -> Pool:
    """Return a pool of engines, given as themselves or by URL; the first one's id is `name-0`."""
    return Pool(
        name=name,
        profile=profile,
        models=tuple(models),
        max_in_flight=slots,
        tls=Tls(verify=False),
        endpoints=tuple(
            Endpoint(
                id=f"{name}-{number}",
                engine=kind,
                url=engine if isinstance(engine, str) else engine.url,
                max_in_flight=slots,
                model=model,
            )
            for number, engine in enumerate(engines)
        ),
    )


@dataclass(slots=True)
class Serving:
    """A router that serves."""

    router: Router
    server: uvicorn.Server
    port: int
    lines: KeptLines

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "http" if self.router.config.server.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it wrote down of each request."""
        return [json.loads(line) for line in self.lines.kept]

    @property
    def held(self) -> dict[str, object]:
        """Whatever it holds on behalf of requests; empty when it is idle."""
        return held(self.router)


@asynccontextmanager
async def serving(  # noqa: PLR0913 # every section of the configuration that some test sets
    *pools: Pool,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 # frozen
    limits: Limits = Limits(),  # noqa: B008 # frozen
    policy: Policy = Policy(),  # noqa: B008 # frozen
    probes: Probes = SELDOM,
    api_keys: dict[str, str] | None = None,
    show_routing: bool = True,
    seed: int = 1,
    within_s: float | None = PATIENCE_S,
    send_bytes: int | None = None,
    admin: Admin | None = None,
    state: State | None = None,
    redis: Redis | None = None,
    tls: CallersTls | None = None,
    access: Access | None = None,
    tracing: Tracing | None = None,
    tracing_headers: dict[str, str] | None = None,
) -> AsyncGenerator[Serving]:
    """Serve on a free port, `within_s` at most; afterwards nothing is held and no task is left.

    `send_bytes`: what the kernel takes of what a caller does not read; None leaves it to grow.
    """
    before = asyncio.all_tasks()
    config = Config(
        server=Server(limits=limits, show_routing=show_routing, tls=tls),
        pools=pools,
        timeouts=timeouts,
        probes=probes,
        policy=policy,
        admin=admin,
        state=state,
        redis=redis,
        access=access,
        tracing=tracing,
    )
    secrets = Secrets(
        api_keys=api_keys or {},
        admin_token=TOKEN if admin else None,
        tracing_headers=tracing_headers,
    )
    lines = KeptLines()
    router = Router(
        config,
        secrets,
        engines=ENGINES,
        clock=time.monotonic,
        rng=Random(seed),
        access_log=AccessLog(lines, lambda: 0.0),
        logs={},
    )
    if admin is not None:
        router.administration = Administration(router, admin, secrets, wall_clock=lambda: 0.0)
    listener = socket.socket()
    if send_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
    listener.bind(("127.0.0.1", 0))
    serves = server(router, started_at_s=1)
    serves.config.load()
    serves.lifespan = serves.config.lifespan_class(serves.config)
    await serves.startup([listener])
    try:
        async with asyncio.timeout(within_s):
            yield Serving(router, serves, listener.getsockname()[1], lines)
    except TimeoutError as error:
        tasks = sorted(repr(task.get_coro()) for task in asyncio.all_tasks() - before)
        error.add_note(f"held: {held(router)}; tasks: {tasks}")
        raise
    finally:
        await _stop(serves, listener)
    assert (left := held(router)) == {}, left
    await until(lambda: _left_over(before) == [])


async def _stop(serves: uvicorn.Server, listener: socket.socket) -> None:
    """Stop as uvicorn does, without its pauses of a tenth of a second."""
    for each in serves.servers:
        each.close()
    listener.close()
    for connection in list(serves.server_state.connections):
        connection.shutdown()
    try:
        await until(lambda: not serves.server_state.connections)
    finally:
        await serves.lifespan.shutdown()


def held(router: Router) -> dict[str, object]:
    """Return every count that is not 0, of what is held for a request or its connection.

    Less what other routers have at an endpoint, as last heard: that is theirs to let go of.
    """
    door, dispatcher = router.door, router.dispatcher
    counts: dict[str, object] = {
        "exchanges": len(door.active),
        "queued exchanges": len(door._waiting),
        "callers": len(door.connections),
        "waiting": dispatcher.waiting,
        "tickets": dispatcher._queue.waiting,
    }
    for id_, endpoint in dispatcher.endpoints.items():
        others = endpoint.others
        ours = [held - theirs for held, theirs in zip(endpoint.held, others.in_flight, strict=True)]
        counts |= {
            f"{id_} in flight": endpoint.in_flight - sum(others.in_flight),
            f"{id_} own in flight": endpoint.own_in_flight,
            f"{id_} by class": sum(map(abs, ours)),
            f"{id_} pending prompt tokens": endpoint.pending_prompt_tokens
            - others.pending_prompt_tokens,
            f"{id_} kv tokens": endpoint.kv_tokens - others.kv_tokens,
            f"{id_} trial": int(endpoint.health.trying),
        }
        connections = door.endpoints[id_].pool
        counts[f"{id_} busy connections"] = (
            connections.open_connections - connections.idle_connections
        )
    return {name: count for name, count in counts.items() if count}


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds that no event tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


def _left_over(before: set[asyncio.Task[object]]) -> list[asyncio.Task[object]]:
    """Return the router's and the server's own tasks that were started since and run still."""
    return [
        task
        for task in asyncio.all_tasks() - before
        if any(part in repr(task) for part in ("/router/", "/uvicorn/"))
    ]
