"""What sharing costs a replica, and what a second worker brings, by CPU time at equal work."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.overhead.drive import Driven
from tests.bench.overhead.measure import Subject
from tests.bench.overhead.processes import cpu_s
from tests.bench.replicas.finding import Finding
from tests.bench.replicas.mill import mill
from tests.fakes.redis_server import RedisServer

REPLICAS = 3
ENDPOINTS = 8
RATE = 500
"""Requests a second to each replica."""
CLOSED_CONNECTIONS = 32
WORKERS_CONNECTIONS = 256
"""So many that the kernel's way of giving them to workers comes out even."""
WORKERS_RATE = 1500
"""Requests a second, less than one worker could serve."""
MOST_PART, MOST_COMMANDS, MOST_US, LEAST_TIMES, MOST_SHARE = 2.0, 60, 5.0, 1.8, 0.56
SETTLE_S, REST_S = 2.5, 3.0
CLASSES = ("interactive", "bulk")
"""With bulk replicas exchange twice as often as without."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    repeats: int = 6
    seconds: float = 2.0
    """Of each load."""


def sharing(folder: Path, redis: RedisServer, extent: Extent) -> list[Finding]:
    """Three replicas with Redis against three without, loaded alike and at the same time.

    So whatever else goes on hits both: what is left is the difference.
    """
    with mill(folder) as bench:
        alone, shared = (
            [bench.router(endpoints=ENDPOINTS, redis=url) for _ in range(REPLICAS)]
            for url in (None, redis.url)
        )
        time.sleep(SETTLE_S)
        commands, began = _commands(redis), time.monotonic()
        at_rest = _at_rest(shared) - _at_rest(alone)
        parts: dict[str, list[float]] = {name: [] for name in CLASSES}
        more_us = []
        for number in range(extent.repeats):
            for name, mine in parts.items():
                paced = {"connections": 16, "rate": RATE, "seconds": extent.seconds}
                driven = bench.drive([*alone, *shared], header=f"x-sla-class: {name}", **paced)
                mine.append(_part(driven[REPLICAS:]) - _part(driven[:REPLICAS]))
            pair = [each[number % REPLICAS] for each in (alone, shared)]
            without, with_redis = bench.drive(
                pair, connections=CLOSED_CONNECTIONS, seconds=extent.seconds
            )
            more_us.append(with_redis.proxy_us - without.proxy_us)
        per_s = (_commands(redis) - commands) / (time.monotonic() - began)
    return [
        Finding("of a core a replica, for sharing, at rest, %", at_rest, MOST_PART),
        *(
            Finding(
                f"of a core a replica, for sharing, at {RATE} {name} requests/s, %",
                median(mine),
                MOST_PART,
            )
            for name, mine in parts.items()
        ),
        Finding(
            "commands a second, replica and endpoint", per_s / REPLICAS / ENDPOINTS, MOST_COMMANDS
        ),
        Finding("CPU a request more with Redis, fully loaded, us", median(more_us), MOST_US),
    ]


def _at_rest(routers: Sequence[Subject]) -> float:
    """Return the share of a core that each takes while nothing is asked of it, %."""
    before, began = sum(map(_spent_s, routers)), time.monotonic()
    time.sleep(REST_S)
    spent_s = sum(map(_spent_s, routers)) - before
    return 100 * spent_s / len(routers) / (time.monotonic() - began)


def _spent_s(router: Subject) -> float:
    return 0.0 if router.pid is None else cpu_s(router.pid)


def _part(driven: list[Driven]) -> float:
    """Return the share of a core that each replica took at the rate asked for, %."""
    cost_us = sum(each.proxy_us for each in driven) / len(driven)
    return 100 * cost_us * RATE / 1e6


def workers(folder: Path, redis: RedisServer, extent: Extent) -> list[Finding]:
    """Two workers against one, by what a request costs each at full load.

    Load and engine want cores too, so requests a second on two cores say more of them. Two workers
    with two cores to themselves serve twice what one does, if a request costs them the same. Both
    routers are loaded at the same time, so that whatever else goes on hits both.
    """
    with mill(folder) as bench:
        one, two = (bench.router(endpoints=2, redis=redis.url, workers=count) for count in (1, 2))
        for each in (one, two):
            bench.free(each)
        time.sleep(SETTLE_S)
        full = {"connections": WORKERS_CONNECTIONS, "seconds": extent.seconds}
        times = []
        for _ in range(extent.repeats // 2):
            single, double = bench.drive([one, two], **full)
            times.append(2 * single.proxy_us / double.proxy_us)
        before = bench.workers_cpu_s(two)
        bench.drive([two], **full | {"rate": WORKERS_RATE})
        spent = [after - b for after, b in zip(bench.workers_cpu_s(two), before, strict=True)]
    return [
        Finding("requests/s of two workers, times those of one", median(times), least=LEAST_TIMES),
        Finding("share of the requests at the busier worker", max(spent) / sum(spent), MOST_SHARE),
    ]


def _commands(redis: RedisServer) -> int:
    text = redis.ask("INFO", "commandstats").decode()
    lines = [line for line in text.splitlines() if line.startswith("cmdstat_eval")]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)


SCENES: dict[str, Callable[[Path, RedisServer, Extent], list[Finding]]] = {
    "cost": sharing,
    "workers": workers,
}
