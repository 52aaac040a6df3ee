"""Several routers over one Redis have one policy, whoever changes it and whatever is away."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from router.settings import Redis
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool, until
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.scripted import answering, scripted_engine
from tests.router.admin.asking import administered

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def replicas(url):
    """Two routers over one engine and one Redis."""
    async with (
        scripted_engine(answering(ANSWER)) as engine,
        administered(pool("p", engine), redis=Redis(url), within_s=40) as one,
        administered(pool("p", engine), redis=Redis(url), within_s=40) as two,
    ):
        yield one, two


def wait(admin):
    return admin.router.router.policy.classes.bulk.max_wait_s


async def patched(admin, max_wait_s, tag="*"):
    patch = {"classes": {"bulk": {"max_wait_s": max_wait_s}}}
    return await admin.send("PATCH", "/policy", patch, If_Match=tag)


async def test_a_change_at_one_holds_at_the_other_within_a_second(tmp_path):
    with redis_server(tmp_path) as server:
        async with replicas(server.url) as (one, two):
            assert (await patched(one, 7.0)).status_code == 200
            async with asyncio.timeout(1.0):
                await until(lambda: wait(two) == 7.0)
            history = (await two.get("/policy/history")).json()["versions"]

    assert [each["version"] for each in history] == [1, 0]


async def test_of_two_writers_at_two_routers_one_is_told_to_look_again(tmp_path):
    with redis_server(tmp_path) as server:
        async with replicas(server.url) as (one, two):
            tags = [(await each.get("/policy")).headers["etag"] for each in (one, two)]
            async with asyncio.TaskGroup() as group:
                tries = [
                    group.create_task(patched(each, wait_s, tag))
                    for each, wait_s, tag in zip((one, two), (7.0, 8.0), tags, strict=True)
                ]
            for each in (one, two):
                tag = (await each.get("/policy")).headers["etag"]
                assert tag.startswith('"1-')
            statuses = sorted(each.result().status_code for each in tries)
            won = next(s for s, t in zip((7.0, 8.0), tries, strict=True) if t.result().is_success)
            await until(lambda: wait(one) == wait(two) == won)

    assert statuses == [200, 412]


async def test_routers_that_start_while_redis_is_away_serve_and_take_the_policy_up_later(tmp_path):
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    try:
        async with replicas(server.url) as (one, _):
            assert (await patched(one, 7.0)).status_code == 200
        server.kill()
        async with replicas(server.url) as (one, two):
            assert (await ask(one.router.port, chat())).status == 200
            refused = await patched(one, 8.0)
            server.start()
            await until(lambda: wait(one) == wait(two) == 7.0)

        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "not_stored"
    finally:
        server.kill()
