"""Holds several routers over one fleet to what they promise: `make bench-replicas`.

Real routers and a real Redis; engines that only take time. Exits with 1 where something falls
short, and says what.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench.replicas.crowd import Crowd
from tests.bench.replicas.stage import BULK_SLOTS, SLOTS, Stage, stage
from tests.bench.replicas.stand_in import StandIn, stand_ins, worst_inversion_s
from tests.fakes.redis_server import RedisServer

SETTLE_S = 2.6
"""After this a board gives permits away."""
ENGINES = 4
COST_ENGINES = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure, and what it should be."""

    what: str
    measured: float
    most: float
    """At most this is right."""

    @property
    def right(self) -> bool:
        """Whether it is."""
        return self.measured <= self.most


Scene = Callable[["Setting"], Awaitable[list[Finding]]]


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

    async def stage(self, engines: list[StandIn], redis: RedisServer | None) -> Stage:
        """Return a stage without routers."""
        return await self._stack.enter_async_context(stage(self._folder, engines, redis))

    def crowd(self, routers: Stage, seed: int = 1) -> Crowd:
        """Return callers of all routers of a stage."""
        made = Crowd(list(routers.routers), seed)
        self._stack.callback(made.close)
        return made


async def _attainment(setting: Setting, count: int) -> tuple[float, list[StandIn], Crowd]:
    engines = await setting.engines()
    routers = await setting.stage(engines, setting.redis())
    for _ in range(count):
        await routers.start()
    await routers.agree(count)
    await asyncio.sleep(SETTLE_S)
    crowd = setting.crowd(routers)
    await crowd.run(setting.seconds, interactive_per_s=60, bulk_per_s=100)
    for port in list(routers.routers):
        routers.routers.pop(port).terminate()
    return crowd.tally.attained, engines, crowd


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
        Finding("requests that failed", sum(crowd.tally.failed.values()), 0),
    ]


async def membership(setting: Setting) -> list[Finding]:
    """A replica is killed in full load, another joins."""
    engines = await setting.engines()
    routers = await setting.stage(engines, setting.redis())
    for _ in range(3):
        await routers.start()
    await routers.agree(3)
    await asyncio.sleep(SETTLE_S)
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
        Finding("requests of others that failed", sum(crowd.tally.failed.values()), 0),
        Finding("requests counted in a fleet at rest", max(left), 0),
    ]


async def trouble(setting: Setting) -> list[Finding]:
    """Redis is frozen for 10 s, then killed, then started empty, in full load."""
    engines = await setting.engines()
    redis = setting.redis()
    routers = await setting.stage(engines, redis)
    for _ in range(3):
        await routers.start()
    await routers.agree(3)
    await asyncio.sleep(SETTLE_S)
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
        Finding("requests that failed", sum(crowd.tally.failed.values()), 0),
        Finding("router's own time, p99 at most, ms", 1000 * p99_s, 3.0),
        Finding("recovery from being frozen, s", thawed_s, 2.0),
        Finding("recovery from being killed and empty, s", back_s, 2.0),
        Finding(
            "bulk requests at one engine at once", max(e.most_bulk for e in engines), BULK_SLOTS
        ),
    ]


async def _own_time_s(routers: Stage, port: int, share: float) -> float:
    """Return the upper bound of the bucket in which a percentile of the router's own time lies."""
    counts: dict[float, float] = {}
    for labels, count in (await routers.metric(port, "headway_overhead_seconds_bucket")).items():
        bound = float(labels.partition('le="')[2].partition('"')[0])
        counts[bound] = counts.get(bound, 0.0) + count
    total = max(counts.values(), default=0.0)
    return min((b for b, count in counts.items() if count >= share * total), default=0.0)


async def cost(setting: Setting) -> list[Finding]:
    """What sharing costs a replica beside its requests, and Redis in commands."""
    engines = await setting.engines(COST_ENGINES)
    used_s = {}
    redis = setting.redis()
    for name, shared in (("alone", None), ("shared", redis)):
        routers = await setting.stage(engines, shared)
        for _ in range(3):
            await routers.start()
        crowd = setting.crowd(routers)
        if shared is not None:
            await routers.agree(3)
        before_s, commands = routers.cpu_s(), _commands(redis)
        await crowd.run(setting.seconds, interactive_per_s=150, bulk_per_s=0)
        per_s = (_commands(redis) - commands) / setting.seconds
        sent = crowd.tally.statuses["interactive"]
        used_s[name] = (routers.cpu_s() - before_s, sent)
        for port in list(routers.routers):
            routers.routers.pop(port).terminate()
    each_s = used_s["alone"][0] / used_s["alone"][1]
    more_s = used_s["shared"][0] - each_s * used_s["shared"][1]
    part = 100 * more_s / setting.seconds / 3
    return [
        Finding("of a core a replica, for sharing 8 endpoints, %", part, 2.0),
        Finding("commands a second, replica and endpoint", per_s / 3 / COST_ENGINES, 60),
    ]


def _commands(redis: RedisServer) -> int:
    text = redis.ask("INFO", "commandstats").decode()
    lines = [line for line in text.splitlines() if line.startswith("cmdstat_eval")]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)


async def workers(setting: Setting) -> list[Finding]:
    """Two workers against one, by what a request costs each: load and engines want cores too.

    Two cores full of workers serve as many times what one serves as the cost of a request stays
    the same, if the kernel gives both work.
    """
    engines = await setting.engines()
    costs = {}
    for count in (1, 2):
        routers = await setting.stage(engines, setting.redis())
        await routers.start(workers=count)
        await routers.agree(count)
        crowd = setting.crowd(routers)
        before_s = routers.cpu_s()
        await crowd.run(setting.seconds, interactive_per_s=250, bulk_per_s=0)
        costs[count] = (routers.cpu_s() - before_s) / crowd.tally.statuses["interactive"]
        for port in list(routers.routers):
            routers.routers.pop(port).terminate()
    return [
        Finding(
            "cost of a request with two workers, times that with one", costs[2] / costs[1], 2 / 1.8
        )
    ]


SCENES: dict[str, Scene] = {
    "quality": quality,
    "membership": membership,
    "trouble": trouble,
    "cost": cost,
    "workers": workers,
}


async def run(names: list[str], seconds: float) -> bool:
    """Play scenes one after the other; returns whether all was right."""
    right = True
    for name in names:
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            async with AsyncExitStack() as stack:
                findings = await SCENES[name](Setting(stack, Path(folder), seconds))
        table = Table("figure", "measured", "at most", "", title=name)
        for each in findings:
            word = "" if each.right else "falls short"
            table.add_row(each.what, f"{each.measured:.3g}", f"{each.most:g}", word)
            right = right and each.right
        Console(width=100, highlight=False).print(table)
    return right


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", default=list(SCENES), help=", ".join(SCENES))
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each run")
    args = parser.parse_args()
    return 0 if uvloop.run(run(args.scenes, args.seconds)) else 1


if __name__ == "__main__":
    sys.exit(main())
