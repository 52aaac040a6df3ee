"""Ways to reach a Redis: one server, a password, a socket, a cluster, sentinels that fail over."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from router.replicas.board import Board, BoardFailed, Claim, Word
from router.replicas.redis import Client, RedisBoard, connect, end
from tests.fakes.redis_server import RedisServer, redis_server

LIMIT_S = 5.0
SENTINEL = """\
sentinel monitor main 127.0.0.1 {port} 1
sentinel down-after-milliseconds main 300
sentinel failover-timeout main 2000
"""


async def works(client: Client) -> bool:
    board = RedisBoard(client, "t")
    try:
        # A short command first: of a long one from a stranger Redis may only close the connection.
        await board.look()
        await board.exchange(Word("a", 1, b"text", {"e": Claim(0, 1, 1)}))
        texts = (await board.look()).texts
        await board.leave("a")
        return texts == {"a": b"text"}
    finally:
        await board.close()


async def test_a_server_with_a_password_and_a_user(tmp_path):
    settings = ("--requirepass", "pw", "--user", "routers", "on", ">secret", "~*", "+@all")
    with redis_server(tmp_path, settings) as server:
        assert await works(connect(server.url, "pw", limit_s=LIMIT_S))
        url = server.url.replace("//", "//routers@")
        assert await works(connect(url, "secret", limit_s=LIMIT_S))
        with pytest.raises(BoardFailed, match="Authentication"):
            await works(connect(server.url, None, limit_s=LIMIT_S))


async def test_a_server_behind_a_socket(tmp_path):
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, ("--unixsocket", str(path))):
        assert await works(connect(f"unix://{path}", None, limit_s=LIMIT_S))


async def test_a_cluster(tmp_path):
    with redis_server(tmp_path, ("--cluster-enabled", "yes")) as server:
        server.ask("CLUSTER", "ADDSLOTS", *map(str, range(16384)))
        async with asyncio.timeout(LIMIT_S):
            while b"cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
                await asyncio.sleep(0.05)

        url = f"redis+cluster://127.0.0.1:{server.port}"
        assert await works(connect(url, None, limit_s=LIMIT_S))


def test_users_and_encryption_reach_every_kind_of_client():
    for url in ("rediss+cluster://u@h:1", "rediss+sentinel://u@h:1,[::1]:2/main"):
        assert connect(url, "pw", limit_s=LIMIT_S)


@pytest.fixture
def sentinel(tmp_path) -> Iterator[tuple[RedisServer, str]]:
    """A master, a copy of it and one sentinel; yields the master and the URL of all."""
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("master", "copy", "sentinel")]
        for folder in folders:
            folder.mkdir()
        hasty = ("--repl-diskless-sync-delay", "0")
        master = stack.enter_context(redis_server(folders[0], hasty))
        copying = ("--replicaof", "127.0.0.1", str(master.port))
        copy = stack.enter_context(redis_server(folders[1], copying))
        wait_for(copy, b"master_link_status:up", "INFO", "replication")
        watching = RedisServer(folders[2], "--sentinel")
        stack.callback(watching.kill)
        file = folders[2] / "sentinel.conf"
        file.write_text(SENTINEL.format(port=master.port))
        watching.start(file)
        wait_for(watching, str(copy.port).encode(), "SENTINEL", "REPLICAS", "main")
        yield master, f"redis+sentinel://127.0.0.1:{watching.port}/main"


def wait_for(server: RedisServer, text: bytes, *words: str) -> None:
    end_s = time.monotonic() + 2 * LIMIT_S
    while text not in server.ask(*words):
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.timeout(60)
async def test_sentinels_lead_to_the_next_master_and_the_board_is_cautious_there(sentinel):
    master, url = sentinel
    board = RedisBoard(connect(url, None, limit_s=1.0), "t", life_s=0.3)
    number = await grown_up(board)
    master.kill()

    async with asyncio.timeout(20.0):
        while True:
            number += 1
            try:
                first = await board.exchange(word(number))
            except BoardFailed:
                await asyncio.sleep(0.05)
            else:
                break
    await board.close()

    assert first.cautious
    assert first.permits == {"e": 0}


async def grown_up(board: Board) -> int:
    number = 0
    while True:
        number += 1
        view = await board.exchange(word(number))
        if not view.cautious:
            return number
        await asyncio.sleep(0.05)


def word(number: int) -> Word:
    return Word("a", number, b"text", {"e": Claim(0, 1, 1)})


async def test_a_task_whose_client_swallows_a_cancellation_is_ended_all_the_same():
    swallowed = []

    async def run() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(True)
                if len(swallowed) > 1:
                    raise

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        await asyncio.sleep(0)
        await end(task)

    assert task.cancelled()
    assert len(swallowed) == 2
