"""Stores keep what was acknowledged, and tell the second of two writers that it came second."""

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from router.admin.file_store import FileStore
from router.admin.redis_store import RedisStore
from router.admin.revisions import KEPT, MemoryStore, NotStored, Revision, Superseded
from router.replicas.redis import connect
from tests.fakes.redis_server import RedisServer, redis_server

FIRST = Revision(1, 0.0, "ann", "127.0.0.1", "why", "put", {"a": 1})


def revision(version: int) -> Revision:
    return replace(FIRST, version=version)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@asynccontextmanager
async def over(server, prefix="headway"):
    """Yield a store over a Redis."""
    client = connect(server.url, None, limit_s=5.0)
    try:
        yield RedisStore(client, prefix, "policy")
    finally:
        await client.aclose()


@pytest.fixture(params=["memory", "file", "redis"])
async def store(request, tmp_path, server):
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "file":
        yield FileStore(tmp_path / "s" / "a.jsonl")
    else:
        server.ask("FLUSHALL")
        async with over(server) as made:
            yield made


async def test_what_was_appended_is_read_in_order(store):
    await store.append(FIRST)
    await store.append(revision(2))

    assert await store.read() == [FIRST, revision(2)]
    assert await store.read(1) == [revision(2)]


@pytest.mark.parametrize("version", [1, 3])
async def test_a_version_that_does_not_follow_is_refused(store, version):
    await store.append(FIRST)

    with pytest.raises(Superseded):
        await store.append(revision(version))
    assert await store.read() == [FIRST]


async def test_of_two_writers_of_one_version_only_one_is_told_that_it_is_stored(store):
    said = []

    async def write(who: str) -> None:
        try:
            await store.append(replace(FIRST, who=who))
        except Superseded:
            return
        said.append(who)

    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(write(str(number)))

    (winner,) = said
    assert [each.who for each in await store.read()] == [winner]


async def test_more_than_is_kept_is_forgotten_oldest_first(store):
    for version in range(1, KEPT + 11):
        await store.append(revision(version))

    assert [each.version for each in await store.read()] == list(range(11, KEPT + 11))
    assert [each.version for each in await store.read(KEPT + 8)] == [KEPT + 9, KEPT + 10]
    assert await store.read(KEPT + 10) == []


async def test_at_every_byte_a_crash_leaves_the_last_acknowledged_version(tmp_path):
    path = tmp_path / "a.jsonl"
    store = FileStore(path)
    await store.append(FIRST)
    acknowledged = path.stat().st_size
    await store.append(revision(2))
    whole = path.read_bytes()

    for size in range(acknowledged, len(whole)):
        path.write_bytes(whole[:size])
        after = FileStore(path)
        assert await after.read() == [FIRST]
        await after.append(revision(2))
        assert await FileStore(path).read() == [FIRST, revision(2)]


async def test_a_long_file_is_written_anew_and_keeps_the_latest(tmp_path):
    store = FileStore(tmp_path / "a.jsonl")
    for version in range(1, 2 * KEPT + 3):
        await store.append(revision(version))

    assert len((tmp_path / "a.jsonl").read_bytes().splitlines()) == KEPT + 2
    latest = await FileStore(tmp_path / "a.jsonl").read()
    assert [each.version for each in latest] == list(range(KEPT + 3, 2 * KEPT + 3))


async def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(NotStored, match="see to \\[state\\]"):
        await FileStore(tmp_path / "file" / "a.jsonl").append(FIRST)


async def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    store = FileStore(tmp_path / "a.jsonl")
    await store.append(FIRST)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))

    with pytest.raises(NotStored):
        await store.append(revision(2))
    monkeypatch.undo()
    assert await FileStore(tmp_path / "a.jsonl").read() == [FIRST]


async def test_a_line_that_is_no_revision_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")

    with pytest.raises(NotStored, match="line 1"):
        await FileStore(tmp_path / "a.jsonl").read()


async def test_fleets_of_other_prefixes_share_a_redis_and_nothing_else(server):
    server.ask("FLUSHALL")
    async with over(server, "one") as one, over(server, "two") as two:
        await one.append(FIRST)

        assert await two.read() == []
        await two.append(FIRST)
        assert await one.read() == [FIRST]


async def test_a_reader_misses_none_of_what_is_written_meanwhile(server):
    server.ask("FLUSHALL")
    most, seen = 300, [0]

    async def write() -> None:
        async with over(server) as store:
            for version in range(1, most + 1):
                await store.append(revision(version))

    async with over(server) as store, asyncio.TaskGroup() as group:
        group.create_task(write())
        while seen[-1] < most:
            seen += [each.version for each in await store.read(seen[-1])]

    assert seen == list(range(most + 1))


async def test_a_redis_that_does_not_answer_stores_nothing_and_is_named(tmp_path):
    server = RedisServer(tmp_path)
    async with over(server) as store:
        for asked in (store.read(), store.append(FIRST)):
            with pytest.raises(NotStored, match="see to \\[redis\\]"):
                await asked


async def test_what_is_no_revision_in_redis_is_named(server):
    server.ask("FLUSHALL")
    server.ask("RPUSH", "{headway:policy}:revisions", "{}")
    server.ask("SET", "{headway:policy}:version", "1")
    async with over(server) as store:
        with pytest.raises(NotStored, match="holds what is no revision"):
            await store.read()


@pytest.mark.timeout(60)
async def test_a_redis_that_is_killed_at_any_moment_comes_back_with_all_that_was_acknowledged(
    tmp_path,
):
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    server = RedisServer(tmp_path, *durable)
    acknowledged = 0
    for lives in range(4):
        server.start()
        async with over(server) as store:
            kept = await store.read()
            assert [each.version for each in kept] == list(range(1, len(kept) + 1))
            assert acknowledged <= len(kept) <= acknowledged + 1
            acknowledged = len(kept)
            asyncio.get_running_loop().call_later(0.02 + 0.03 * lives, server.kill)
            acknowledged = await _until_it_is_gone(store, acknowledged)
    assert acknowledged > 4


async def _until_it_is_gone(store: RedisStore, acknowledged: int) -> int:
    """Append until nothing answers; returns the last version that was acknowledged."""
    while True:
        try:
            await store.append(revision(acknowledged + 1))
        except NotStored:
            return acknowledged
        acknowledged += 1
