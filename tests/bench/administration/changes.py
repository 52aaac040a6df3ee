"""A thousand changes of the policy under load, at three routers over one Redis."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import httpx

from tests.bench.administration.fleet import Load, Running, ready, routers, targets_of
from tests.fakes.redis_server import RedisServer
from tests.fakes.scripted import answering, scripted_engine

Say = Callable[[str], None]
CHANGES: Final = 1000
CRASHES: Final = 3
INVALID_SHARE: Final = 0.1
REPLICAS: Final = 3
CALLERS: Final = 4
"""At each router."""
HELD_WITHIN_S: Final = 1.0
LOOK_S: Final = 0.05
ANSWER: Final = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")


@dataclass(slots=True)
class Book:
    """What was acknowledged, and when which router had it."""

    left: int
    made: dict[int, float] = field(default_factory=dict)
    """When each version was acknowledged."""
    had: dict[int, list[tuple[float, int]]] = field(default_factory=dict)
    """By router: when it was looked at, and the version that it had."""
    stale: int = 0
    wrong: int = 0
    wrongly_taken: int = 0
    others: dict[int, int] = field(default_factory=dict)
    """Answers of other statuses."""
    done: bool = False

    def slowest_s(self) -> float:
        """Return how long it took at most until a router had an acknowledged version."""
        worst = 0.0
        for looks in self.had.values():
            for version, made_at in self.made.items():
                seen = next((at for at, had in looks if had >= version), float("inf"))
                worst = max(worst, seen - made_at)
        return worst


async def _write(client: httpx.AsyncClient, book: Book, rng: Random) -> None:
    """Make changes until there are enough; who is told to look again looks again."""
    while book.left > 0:
        book.left -= 1
        wrong = rng.random() < INVALID_SHARE
        number = CHANGES - book.left
        targets = {"first_token_s": -1.0} if wrong else targets_of(number)
        patch = {"classes": {"interactive": {"targets": targets}}}
        while True:
            tag = (await client.head("/policy")).headers["etag"]
            answer = await client.patch("/policy", json=patch, headers={"if-match": tag})
            if answer.status_code != httpx.codes.PRECONDITION_FAILED:
                break
            book.stale += 1
        if answer.is_success:
            book.wrongly_taken += wrong
            book.made[answer.json()["version"]] = time.perf_counter()
        elif answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY and wrong:
            book.wrong += 1
        else:
            book.others[answer.status_code] = book.others.get(answer.status_code, 0) + 1


async def _look(number: int, client: httpx.AsyncClient, book: Book) -> None:
    looks = book.had.setdefault(number, [])
    while not book.done:
        tag = (await client.head("/policy")).headers["etag"]
        looks.append((time.perf_counter(), int(tag.strip('"').partition("-")[0])))
        await asyncio.sleep(LOOK_S)


async def changes(folder: Path, say: Say) -> list[str]:
    """Change the policy under load, and crash; returns what falls short."""
    redis = RedisServer(folder, *DURABLE)
    redis.start()
    more = f'[redis]\nurl = "{redis.url}"\nreplicas = {REPLICAS}\n'
    try:
        async with (
            scripted_engine(answering(ANSWER)) as one,
            scripted_engine(answering(ANSWER)) as two,
        ):
            urls = (one.url, two.url)
            with routers(folder, urls, REPLICAS, more) as started:
                await ready(started)
                short = await _under_load(started, say)
            return short + await _crashes(folder, urls, more, redis, say)
    finally:
        redis.kill()


async def _crashes(
    folder: Path, urls: tuple[str, str], more: str, redis: RedisServer, say: Say
) -> list[str]:
    """Kill Redis and every router in the middle of changes, and look at what is there after."""
    rng, short = Random(3), []
    acknowledged, found = 0, []
    for life in range(CRASHES + 1):
        with routers(folder, urls, REPLICAS, more) as started:
            await ready(started)
            versions = await _versions(started)
            found.append(versions[0] - acknowledged if life else 0)
            if len(set(versions)) > 1 or found[-1] not in {0, 1}:
                short.append(f"crash: {acknowledged} was acknowledged, routers have {versions}")
            if life == CRASHES:
                break
            async with started[0].client() as client:
                acknowledged = await _until_killed(client, started, redis, rng.uniform(0.1, 0.6))
        redis.start()
    say(
        f"{CRASHES} times Redis and all routers were killed amid changes: every router came back"
        f" with the last acknowledged version, or one that was stored and not yet acknowledged:"
        f" {found[1:]}"
    )
    return short


async def _versions(started: list[Running]) -> list[int]:
    found = []
    for each in started:
        async with each.client() as client:
            found.append(client_version(await client.head("/policy")))
    return found


async def _until_killed(
    client: httpx.AsyncClient, started: list[Running], redis: RedisServer, after_s: float
) -> int:
    """Change the policy until all is killed; returns the last acknowledged version."""
    acknowledged = client_version(await client.head("/policy"))

    def kill() -> None:
        for each in started:
            os.kill(each.process.pid, signal.SIGKILL)
        redis.kill()

    asyncio.get_running_loop().call_later(after_s, kill)
    try:
        for number in count(1):
            patch = {"classes": {"interactive": {"targets": targets_of(number % CHANGES)}}}
            answer = await client.patch("/policy", json=patch, headers={"if-match": "*"})
            acknowledged = answer.json()["version"]
    except (httpx.HTTPError, KeyError):
        pass
    return acknowledged


async def _under_load(started: list[Running], say: Say) -> list[str]:
    load, book = Load([each.port for each in started]), Book(CHANGES)
    clients = [each.client() for each in started]
    async with asyncio.TaskGroup() as group:
        for each in started:
            for _ in range(CALLERS):
                group.create_task(load.call(each.port))
        for number, client in enumerate(clients):
            group.create_task(_look(number, client, book))
        began = time.perf_counter()
        writers = [
            group.create_task(_write(client, book, Random(number)))
            for number, client in enumerate(clients[:2])
        ]
        await asyncio.wait(writers)
        took_s = time.perf_counter() - began
        await asyncio.sleep(HELD_WITHIN_S)
        book.done = load.stopped = True
    versions = [client_version(await client.head("/policy")) for client in clients]
    history = (await clients[0].get("/policy/history")).json()["versions"]
    for client in clients:
        await client.aclose()
    slowest_s = book.slowest_s()
    say(
        f"{CHANGES} changes by writers at two of {REPLICAS} routers in {took_s:.1f} s:"
        f" {len(book.made)} made, {book.wrong} refused as wrong, {book.stale} times told to look"
        f" again; every router had each within {slowest_s:.2f} s (goal {HELD_WITHIN_S:g});"
        f" {load.answered} requests meanwhile, {load.failed} failed, {load.mixed} by a mixed policy"
    )
    made = len(book.made)
    findings = (
        (versions == [made] * REPLICAS and len(history) == made + 1, f"versions are {versions}"),
        (made + book.wrong == CHANGES and not book.others, f"other answers: {book.others}"),
        (not book.wrongly_taken, "a wrong policy was taken"),
        (slowest_s <= HELD_WITHIN_S, f"a router had a change after {slowest_s:.2f} s"),
        (not load.failed and load.answered > CHANGES, f"{load.failed} requests failed"),
        (not load.mixed, f"{load.mixed} requests saw a mixed policy"),
    )
    return [f"changes: {text}" for holds, text in findings if not holds]


def client_version(answer: httpx.Response) -> int:
    """Return the version that an entity tag names."""
    return int(answer.headers["etag"].strip('"').partition("-")[0])
