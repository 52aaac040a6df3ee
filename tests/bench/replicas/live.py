"""Real routers over stand-ins and a real Redis: what holds while nothing, or everything, goes wrong."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from tests.bench.replicas.crowd import Crowd
from tests.bench.replicas.finding import Finding
from tests.bench.replicas.stage import BULK_SLOTS, SLOTS, Stage, quantile, stage
from tests.bench.replicas.stand_in import StandIn, stand_ins, worst_inversion_s
from tests.fakes.redis_server import RedisServer
from tests.fakes.sentinel import watched_master

SETTLE_S = 2.6
"""After this a board gives permits away."""
ENGINES = 4
ALONE_S = 1.3
"""After this, without a word from Redis, every replica knows that it is alone."""
FAILOVER_S = 6.0
"""Sentinels take 0.3 s to miss a master and up to 2 s and more to agree on the next."""


class Setting:
    """Engines, a Redis and a folder of one scene's own."""

    def __init__(self, stack: AsyncExitStack, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        self._stack = stack
        self._folder = folder

    def redis(self) -> RedisServer:
        """Start a Redis."""
        server = RedisServer(self._folder)
        server.start()
        self._stack.callback(server.kill)
        return server

    async def engines(self, count: int = ENGINES) -> list[StandIn]:
        """Start stand-ins."""
        return await self._stack.enter_async_context(stand_ins(count))

    def watched(self) -> tuple[RedisServer, str]:
        """Start a master with a copy and a sentinel; return the master and the URL of all."""
        return self._stack.enter_context(watched_master(self._folder))

    async def stage(self, engines: list[StandIn], redis_url: str, count: int) -> Stage:
        """Return a stage with so many routers, which know of each other and have settled."""
        made = await self._stack.enter_async_context(stage(self._folder, engines, redis_url))
        for _ in range(count):
            await made.start()
        await made.agree(count)
        await asyncio.sleep(SETTLE_S)
        return made

    def crowd(self, routers: Stage, seed: int = 1) -> Crowd:
        """Return callers of all routers of a stage."""
        made = Crowd(list(routers.routers), seed)
        self._stack.callback(made.close)
        return made


async def _attainment(setting: Setting, count: int) -> tuple[float, list[StandIn], Crowd]:
    engines = await setting.engines()
    routers = await setting.stage(engines, setting.redis().url, count)
    crowd = setting.crowd(routers)
    await crowd.run(setting.seconds, interactive_per_s=60, bulk_per_s=100)
    for port in list(routers.routers):
        routers.routers.pop(port).terminate()
    return crowd.tally.attained, engines, crowd


def _failed(crowd: Crowd, what: str) -> Finding:
    """Count requests that were not served whole, and name what became of them."""
    failed = crowd.tally.failed
    how = ", ".join(f"{count} x {name}" for name, count in sorted(failed.items()))
    return Finding(f"{what} ({how})" if how else what, sum(failed.values()), 0)


async def quality(setting: Setting) -> list[Finding]:
    """Three replicas against one at the same load: attainment, caps and the order of bulk."""
    one, _, _ = await _attainment(setting, 1)
    three, engines, crowd = await _attainment(setting, 3)
    came = [each for engine in engines for each in engine.came]
    return [
        Finding("attainment lost with three replicas, points", 100 * (one - three), 1.0),
        Finding(
            "bulk requests at one engine at once", max(e.most_bulk for e in engines), BULK_SLOTS
        ),
        Finding("requests at one engine at once", max(e.most for e in engines), SLOTS + 2),
        Finding("worst inversion of bulk, s", worst_inversion_s(came), 0.1),
        _failed(crowd, "requests that failed"),
    ]


async def membership(setting: Setting) -> list[Finding]:
    """A replica is killed in full load, another joins."""
    engines = await setting.engines()
    routers = await setting.stage(engines, setting.redis().url, 3)
    crowd = setting.crowd(routers)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.run(14.0, interactive_per_s=60, bulk_per_s=60))
        await asyncio.sleep(3.0)
        victim = crowd.ports.pop()
        crowd.spared.add(victim)
        routers.kill(victim)
        released_s = await routers.agree(2)
        joined = await routers.start()
        joined_s = await routers.agree(3)
        crowd.ports.append(joined)
    await asyncio.sleep(3.0)
    left = [
        sum((await routers.metric(port, "headway_in_flight")).values()) for port in routers.routers
    ]
    return [
        Finding("until a killed replica's share is released, s", released_s, 3.0),
        Finding("until one that joins has its share, s", joined_s, 2.0),
        _failed(crowd, "requests of others that failed"),
        Finding("requests counted in a fleet at rest", max(left), 0),
    ]


async def trouble(setting: Setting) -> list[Finding]:
    """Redis is frozen for 10 s, then killed, then started empty, in full load."""
    engines = await setting.engines()
    redis = setting.redis()
    routers = await setting.stage(engines, redis.url, 3)
    crowd = setting.crowd(routers)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.run(22.0, interactive_per_s=60, bulk_per_s=40))
        await asyncio.sleep(2.0)
        redis.freeze()
        await asyncio.sleep(10.0)
        redis.thaw()
        thawed_s = await routers.agree(3)
        await asyncio.sleep(2.0)
        redis.kill()
        await asyncio.sleep(2.0)
        redis.start()
        back_s = await routers.agree(3)
    p99_s = max([await _own_time_s(routers, port, 0.99) for port in routers.routers])
    return [
        _failed(crowd, "requests that failed"),
        Finding("router's own time, p99 at most, ms", 1000 * p99_s, 3.0),
        Finding("recovery from being frozen, s", thawed_s, 2.0),
        Finding("recovery from being killed and empty, s", back_s, 2.0),
        Finding(
            "bulk requests at one engine at once", max(e.most_bulk for e in engines), BULK_SLOTS
        ),
    ]


async def _own_time_s(routers: Stage, port: int, share: float) -> float:
    """Return a percentile of the router's own time, as `histogram_quantile` of Prometheus does."""
    counts: dict[float, float] = {}
    for labels, count in (await routers.metric(port, "headway_overhead_seconds_bucket")).items():
        bound = float(labels.partition('le="')[2].partition('"')[0])
        counts[bound] = counts.get(bound, 0.0) + count
    return quantile(counts, share)


async def failover(setting: Setting) -> list[Finding]:
    """The master dies in full load, and sentinels make its copy the next."""
    engines = await setting.engines()
    master, url = setting.watched()
    routers = await setting.stage(engines, url, 3)
    crowd = setting.crowd(routers)
    async with asyncio.TaskGroup() as group:
        group.create_task(crowd.run(12.0, interactive_per_s=60, bulk_per_s=40))
        await asyncio.sleep(2.0)
        master.kill()
        await asyncio.sleep(ALONE_S)
        moved_s = ALONE_S + await routers.agree(3)
    return [
        _failed(crowd, "requests that failed"),
        Finding("from the master's death until all share over the next, s", moved_s, FAILOVER_S),
        Finding(
            "bulk requests at one engine at once", max(e.most_bulk for e in engines), BULK_SLOTS
        ),
    ]


SCENES: dict[str, Callable[[Setting], Awaitable[list[Finding]]]] = {
    "quality": quality,
    "membership": membership,
    "trouble": trouble,
    "failover": failover,
}


def play(name: str, seconds: float) -> list[Finding]:
    """Play a scene from nothing to nothing."""

    async def whole() -> list[Finding]:
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            async with AsyncExitStack() as stack:
                return await SCENES[name](Setting(stack, Path(folder), seconds))

    return uvloop.run(whole())
