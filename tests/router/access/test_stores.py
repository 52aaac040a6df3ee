"""Every place where keys are kept keeps the same promises."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from policies.facts import SlaClass
from policies.keys import Allowance, Entitlement, Key, Proof
from router.access.redis_store import RedisKeys
from router.access.store import Journal, KeysNotKept, Overtaken
from tests.fakes.redis_server import redis_server

KEY = Key(
    "0123456789ab",
    "acme",
    (Proof("ab" * 32), Proof("cd" * 32, 9.0)),
    Entitlement(("llama-*",), (SlaClass.BULK,), SlaClass.BULK),
    Allowance(1, 2, 3, 4),
    0.5,
    1.0,
    2.0,
    None,
    {"team": "search"},
)


@asynccontextmanager
async def in_memory(folder):
    yield lambda: Journal(None)


@asynccontextmanager
async def in_a_file(folder):
    yield lambda: Journal(folder / "state" / "keys.jsonl")


@asynccontextmanager
async def in_redis(folder):
    with redis_server(folder) as server:
        clients = []

        def store():
            clients.append(Redis.from_url(server.url, protocol=2))
            return RedisKeys(clients[-1], "headway")

        yield store
        for each in clients:
            await each.aclose()


@pytest.fixture(params=[in_memory, in_a_file, in_redis], ids=lambda each: each.__name__)
async def opened(request, tmp_path):
    async with request.param(tmp_path) as opens:
        yield opens


@pytest.fixture(params=[in_a_file, in_redis], ids=lambda each: each.__name__)
async def durable(request, tmp_path):
    async with request.param(tmp_path) as opens:
        yield opens


async def test_a_key_is_read_as_it_was_written(opened):
    store = opened()
    await store.write(KEY)

    assert await store.read(0) == (1, [KEY])


async def test_only_later_changes_are_read(opened):
    store = opened()
    other = replace(KEY, id="ba9876543210")
    await store.write(KEY)
    await store.write(other)
    await store.write(replace(KEY, revision=2, revoked_at_s=5.0))

    assert (await store.read(2))[1] == [replace(KEY, revision=2, revoked_at_s=5.0)]
    assert await store.read(3) == (3, [])


async def test_who_changes_what_was_changed_meanwhile_is_told(opened):
    store = opened()
    await store.write(KEY)
    await store.write(replace(KEY, revision=2, revoked_at_s=5.0))

    with pytest.raises(Overtaken, match="changed by somebody else"):
        await store.write(replace(KEY, revision=2))
    assert (await store.read(0))[1][0].revoked_at_s == 5.0


async def test_what_was_acknowledged_is_there_after_a_restart(durable):
    await durable().write(KEY)
    second = durable()

    assert await second.read(0) == (1, [KEY])
    await second.write(replace(KEY, revision=2))
    assert (await durable().read(1))[1] == [replace(KEY, revision=2)]


async def test_a_torn_line_was_never_acknowledged(tmp_path):
    path = tmp_path / "keys.jsonl"
    await Journal(path).write(KEY)
    with path.open("ab") as file:
        file.write(b'{"id":"torn')

    assert await Journal(path).read(0) == (1, [KEY])
    await Journal(path).write(replace(KEY, revision=2))
    assert (await Journal(path).read(0))[1] == [replace(KEY, revision=2)]


async def test_a_file_that_holds_no_keys_is_named_with_its_line(tmp_path):
    path = tmp_path / "keys.jsonl"
    path.write_text('{"some": "thing"}\n')

    with pytest.raises(KeysNotKept, match=r"keys\.jsonl, line 1 is no key"):
        await Journal(path).read(0)


async def test_a_file_is_for_the_routers_own_user_alone(tmp_path):
    path = tmp_path / "keys.jsonl"
    await Journal(path).write(KEY)

    assert path.stat().st_mode & 0o077 == 0


async def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "state").write_text("no folder")

    with pytest.raises(KeysNotKept, match=r"see to \[state\]"):
        await Journal(tmp_path / "state" / "keys.jsonl").write(KEY)
    (tmp_path / "keys.jsonl").mkdir()
    with pytest.raises(KeysNotKept, match="directory"):
        await Journal(tmp_path / "keys.jsonl").read(0)


async def test_a_redis_that_was_emptied_is_read_from_its_beginning(tmp_path):
    with redis_server(tmp_path) as server:
        async with Redis.from_url(server.url, protocol=2) as client:
            store = RedisKeys(client, "headway")
            for revision in (1, 2, 3):
                await store.write(replace(KEY, revision=revision))
            server.ask("FLUSHALL")
            await store.write(KEY)

            assert await store.read(3) == (1, [KEY])


async def test_a_redis_that_is_away_is_named(tmp_path):
    async with Redis.from_url("redis://127.0.0.1:1/0", protocol=2) as client:
        with pytest.raises(KeysNotKept, match=r"see to \[redis\]"):
            await RedisKeys(client, "headway").read(0)
