"""Ways to reach a Redis: one server, a password, a socket, a cluster, sentinels that fail over."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.exceptions import ResponseError

from router.replicas.board import Board, BoardFailed, Claim, Word
from router.replicas.ending import end
from router.replicas.redis import Client, RedisBoard, connect
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.sentinel import watched_master

LIMIT_S = 5.0


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
    with watched_master(tmp_path) as found:
        yield found


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


# One line, one command after the other


async def test_a_command_that_broke_its_connection_costs_no_more_than_itself(tmp_path):
    with redis_server(tmp_path) as server:
        board = RedisBoard(connect(server.url, None, limit_s=LIMIT_S), "t")
        await board.exchange(word(1))
        server.kill()
        with pytest.raises(BoardFailed):
            await board.exchange(word(2))
        server.start()

        view = await board.exchange(word(3))
        await board.close()

    assert view.texts == {"a": b"text"}


async def test_a_server_that_does_not_answer_is_given_up_and_heard_again_when_it_does(tmp_path):
    with redis_server(tmp_path) as server:
        board = RedisBoard(connect(server.url, None, limit_s=0.2), "t")
        await board.exchange(word(1))
        server.freeze()
        with pytest.raises(BoardFailed, match="TimeoutError"):
            await board.exchange(word(2))
        server.thaw()

        # What was sent before it froze must not be taken for the answer to this.
        view = await board.exchange(word(3))
        await board.close()

    assert view.texts == {"a": b"text"}


async def test_a_server_that_never_answered_is_heard_once_it_does(tmp_path):
    with redis_server(tmp_path) as server:
        board = RedisBoard(connect(server.url, None, limit_s=0.1), "t")
        server.freeze()
        for number in range(1, 6):
            with pytest.raises(BoardFailed, match="TimeoutError"):
                await board.exchange(word(number))
        server.thaw()

        view = await board.exchange(word(6))
        await board.close()

    assert view.texts == {"a": b"text"}


async def test_commands_that_come_together_go_one_after_the_other(tmp_path):
    with redis_server(tmp_path) as server:
        client = connect(server.url, None, limit_s=LIMIT_S)
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(client.execute_command("ECHO", n)) for n in range(20)]
        with pytest.raises(ResponseError):
            await client.execute_command("NONSENSE")
        last = await client.execute_command("ECHO", b"whole\r\n\xff")
        await client.aclose()

    assert [int(each.result()) for each in asked] == list(range(20))
    assert last == b"whole\r\n\xff"


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
