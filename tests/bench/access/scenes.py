"""What access promises of a fleet, played on three routers and a real Redis."""

import asyncio
import time
from collections.abc import Sequence

from tests.bench.access.callers import TOKENS, Callers
from tests.bench.access.finding import Finding
from tests.bench.access.routers import Routers

COUNT = 3
UNEVEN = (0.5, 0.3, 0.2)
"""What part of the load each router is offered."""
LIMIT = 600
"""Requests a minute, in the scenes of limits."""
TOKEN_LIMIT = LIMIT * TOKENS
OFFERED = 3.0
"""Times the limit."""


async def revocation(fleet: Routers, *, quick: bool) -> list[Finding]:
    """A key is revoked while all routers are asked with it."""
    ports = await fleet.start(COUNT)
    doomed = await fleet.key(ports[0])
    other = await fleet.key(ports[1])
    bad, good = Callers(doomed["key"]), Callers(other["key"])
    seconds = 4.0 if quick else 8.0
    async with asyncio.TaskGroup() as group:
        for port in ports:
            group.create_task(bad.ask(port, 100.0, seconds))
            group.create_task(good.ask(port, 20.0, seconds))
        await asyncio.sleep(0.4 * seconds)
        asked_at = time.monotonic()
        await fleet.revoke(ports[0], doomed["id"])
    last = [
        max((e.sent_at for e in bad.seen if e.port == port and e.status == 200), default=asked_at)
        for port in ports
    ]
    served_before = sum(e.status == 200 and e.sent_at < asked_at for e in bad.seen)
    refused = sum(e.status == 401 for e in bad.seen)
    return [
        *(
            Finding(f"router {number}: last served after it was revoked, s", at - asked_at, 1.0)
            for number, at in enumerate(last, 1)
        ),
        Finding("requests with it before that were served", served_before, least=100),
        Finding("requests with it after that were refused", refused, least=100),
        Finding(
            "requests with another key that were not served",
            sum(e.status != 200 for e in good.seen) + len(good.failed),
            0,
        ),
    ]


async def requests(fleet: Routers, *, quick: bool) -> list[Finding]:
    """A key is used at three times its requests a minute, unevenly."""
    ports = await fleet.start(COUNT)
    key = await fleet.key(ports[0], requests_per_minute=LIMIT)
    callers = Callers(key["key"])
    seconds = 25.0 if quick else 125.0
    await _offer(callers, ports, seconds)
    return _held(callers, LIMIT, 1, seconds)


async def tokens(fleet: Routers, *, quick: bool) -> list[Finding]:
    """A key is used at three times its tokens a minute; answers are shorter than thought."""
    ports = await fleet.start(COUNT)
    key = await fleet.key(ports[0], tokens_per_minute=TOKEN_LIMIT)
    callers = Callers(key["key"])
    seconds = 25.0 if quick else 65.0
    await _offer(callers, ports, seconds)
    return _held(callers, TOKEN_LIMIT, TOKENS, seconds)


async def without_redis(fleet: Routers, *, quick: bool) -> list[Finding]:
    """Redis is killed in the middle of a minute in which a key is used at three times its limit."""
    ports = await fleet.start(COUNT)
    key = await fleet.key(ports[0], requests_per_minute=LIMIT)
    callers = Callers(key["key"])
    seconds = 15.0 if quick else 95.0
    assert fleet.redis is not None
    async with asyncio.TaskGroup() as group:
        group.create_task(_offer(callers, ports, seconds))
        await asyncio.sleep(8.0)
        fleet.redis.kill()
    most = callers.worst_minute()
    return [
        # Each router rounds its part up.
        Finding("requests let in in the worst minute, of the limit", most / LIMIT,
                1.0 + COUNT / LIMIT),
        Finding("requests let in, of the limit", len(callers.let_in()) / LIMIT, least=0.5),
        Finding("requests that failed otherwise", len(callers.failed), 0),
    ]  # fmt: skip


async def _offer(callers: Callers, ports: Sequence[int], seconds: float) -> None:
    per_s = OFFERED * LIMIT / 60.0
    async with asyncio.TaskGroup() as group:
        for port, part in zip(ports, UNEVEN, strict=True):
            group.create_task(callers.ask(port, part * per_s, seconds))


def _held(callers: Callers, limit: int, each: int, seconds: float) -> list[Finding]:
    moments = callers.let_in()
    began = min(one.sent_at for one in callers.seen)
    first = sum(at < began + 60.0 for at in moments)
    found = [
        Finding("let in in the worst minute, of the limit", callers.worst_minute() * each / limit,
                1.02),
        Finding("let in in the first minute, of the limit", first * each / limit, 1.02, 0.98),
        Finding("requests that failed otherwise", len(callers.failed), 0),
    ]  # fmt: skip
    if seconds > 120.0:
        second = sum(began + 60.5 <= at < began + 120.5 for at in moments)
        found.append(
            Finding(
                "let in in the minute after that, of the limit", second * each / limit, 1.02, 0.98
            )
        )
    return found
