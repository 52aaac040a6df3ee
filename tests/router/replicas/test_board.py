"""The contract of a board: the model in memory and a real Redis, alike in every step."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from router.replicas.board import LIFE_S, Board, BoardFailed, Claim, Word
from router.replicas.memory import MemoryBoard
from router.replicas.redis import RedisBoard, connect
from tests.fakes.redis_server import RedisServer, redis_server

ENDPOINT = "e"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
async def board(request, server, clock) -> AsyncIterator[Board]:
    if request.param == "memory":
        yield MemoryBoard(clock)
        return
    server.ask("FLUSHALL")
    real = RedisBoard(connect(server.url, None, limit_s=5.0), "t", clock=clock)
    yield real
    await real.close()


def word(replica: str, number: int, keep: int = 0, want: int = 0, cap: int = 8) -> Word:
    return Word(replica, number, f"{replica}{number}".encode(), {ENDPOINT: Claim(keep, want, cap)})


async def grown_up(board: Board, clock: Clock, *replicas: str) -> None:
    """Let a board be old enough to give permits away, with `replicas` holding none."""
    for number in (-3, -2, -1):
        for replica in replicas:
            await board.exchange(word(replica, number))
        clock.now_s += LIFE_S * 0.6


async def test_what_one_says_the_other_reads(board):
    await board.exchange(word("a", 1))
    view = await board.exchange(word("b", 1))

    assert view.texts == {"a": b"a1", "b": b"b1"}
    assert (await board.look()).texts == view.texts


async def test_who_is_silent_for_a_life_is_forgotten(board, clock):
    await board.exchange(word("a", 1))
    clock.now_s += LIFE_S * 0.6
    await board.exchange(word("b", 1))
    clock.now_s += LIFE_S * 0.6

    assert (await board.look()).texts == {"b": b"b1"}
    assert (await board.exchange(word("b", 2))).texts == {"b": b"b2"}


async def test_who_leaves_is_gone_at_once_and_its_permits_are_free(board, clock):
    await grown_up(board, clock, "a", "b")
    await board.exchange(word("a", 1, want=8))

    await board.leave("a")

    view = await board.exchange(word("b", 1, want=8))
    assert view.texts == {"b": b"b1"}
    assert view.permits == {ENDPOINT: 8}


async def test_permits_of_all_are_at_most_the_cap(board, clock):
    await grown_up(board, clock, "a", "b")

    first = await board.exchange(word("a", 1, want=6))
    second = await board.exchange(word("b", 1, want=6))

    assert (first.permits[ENDPOINT], second.permits[ENDPOINT]) == (6, 2)


async def test_what_is_given_back_goes_to_whom_wants_it(board, clock):
    await grown_up(board, clock, "a", "b")
    await board.exchange(word("a", 1, want=8))
    await board.exchange(word("a", 2, keep=3, want=3))

    view = await board.exchange(word("b", 1, want=8))

    assert view.permits == {ENDPOINT: 5}


async def test_what_is_held_is_never_taken_back_even_above_the_cap(board, clock):
    await grown_up(board, clock, "a", "b")
    await board.exchange(word("a", 1, want=8))

    assert (await board.exchange(word("a", 2, keep=8, want=8, cap=4))).permits == {ENDPOINT: 8}
    assert (await board.exchange(word("b", 1, keep=1, want=8, cap=4))).permits == {ENDPOINT: 1}


async def test_a_young_board_gives_nothing_away(board, clock):
    view = await board.exchange(word("a", 1, keep=2, want=8))

    assert view.cautious
    assert view.permits == {ENDPOINT: 2}


async def test_a_board_that_all_were_silent_on_is_young_again(board, clock):
    await grown_up(board, clock, "a")
    assert not (await board.exchange(word("a", 1, want=1))).cautious
    clock.now_s += LIFE_S

    assert (await board.exchange(word("a", 2, keep=1, want=8))).permits == {ENDPOINT: 1}


async def test_a_word_that_comes_late_changes_nothing(board, clock):
    await grown_up(board, clock, "a", "b")
    await board.exchange(word("a", 2, want=8))

    late = await board.exchange(word("a", 1, keep=1, want=1))

    assert late.permits == {ENDPOINT: 8}
    assert late.texts["a"] == b"a2"
    assert (await board.exchange(word("b", 1, want=8))).permits == {ENDPOINT: 0}


async def test_a_board_that_was_copied_to_another_server_is_young_again(server, clock):
    real = RedisBoard(connect(server.url, None, limit_s=5.0), "moved", clock=clock)
    await grown_up(real, clock, "a")
    server.ask("HSET", "{moved}:board", "server", "another")

    assert (await real.exchange(word("a", 1, want=8))).cautious
    await real.close()


async def test_the_servers_own_time_is_used_where_no_clock_is_given(server):
    real = RedisBoard(connect(server.url, None, limit_s=5.0), "time")
    first = await real.exchange(word("a", 1))

    assert 0 <= (await real.look()).now_s - first.now_s < LIFE_S
    assert (await real.look()).texts == {"a": b"a1"}
    await real.close()


async def test_keys_go_away_by_themselves_and_share_a_slot(server):
    real = RedisBoard(connect(server.url, None, limit_s=5.0), "slot")
    await real.exchange(word("a", 1, want=1))
    await real.close()

    for name in ("leases", "texts", "board"):
        assert 0 < int(server.ask("PTTL", f"{{slot}}:{name}")[1:]) <= 10_000 * LIFE_S


async def test_a_server_that_is_away_is_told_as_such():
    away = RedisBoard(connect("redis://127.0.0.1:1/0", None, limit_s=0.5), "t")

    with pytest.raises(BoardFailed, match="redis: ConnectionError"):
        await away.exchange(word("a", 1))
    await away.close()


async def test_a_full_server_is_told_as_such(server):
    real = RedisBoard(connect(server.url, None, limit_s=5.0), "full")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(BoardFailed, match="maxmemory"):
            await real.exchange(word("a", 1))
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await real.close()


async def test_an_answer_that_makes_no_sense_is_told_as_such():
    class Nonsense:
        async def execute_command(self, *words):
            return b"PONG"

        async def aclose(self):
            raise OSError("gone")

    board = RedisBoard(Nonsense(), "t")

    with pytest.raises(BoardFailed, match="no view"):
        await board.exchange(word("a", 1))
    with pytest.raises(BoardFailed, match="gone"):
        await board.close()


# The model against the real thing

REPLICAS = st.sampled_from("abc")
SMALL = st.integers(0, 5)


class Alike(RuleBasedStateMachine):
    """Any sequence of words, silences, partings and losses; both boards answer the same."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.server.ask("FLUSHALL")
        self.clock = Clock()
        self.model = MemoryBoard(self.clock)
        client = connect(self.server.url, None, limit_s=5.0)
        self.real = RedisBoard(client, "m", clock=self.clock)
        self.numbers = dict.fromkeys("abc", 0)
        self.held = dict.fromkeys("abc", 0)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.real.close())
        self.loop.close()

    def said(self, each: Word) -> None:
        modelled = self.loop.run_until_complete(self.model.exchange(each))
        answered = self.loop.run_until_complete(self.real.exchange(each))
        assert answered == modelled

    @rule(replica=REPLICAS, keep=SMALL, more=SMALL, cap=st.integers(0, 8))
    def speaks(self, replica, keep, more, cap):
        self.numbers[replica] += 1
        claims = {name: Claim(keep, keep + more, cap) for name in ("x", "y")}
        self.said(Word(replica, self.numbers[replica], b"w%d" % more, claims))

    @rule(replica=REPLICAS, back=st.integers(0, 2), keep=SMALL)
    @precondition(lambda self: max(self.numbers.values()) > 0)
    def is_heard_late(self, replica, back, keep):
        number = self.numbers[replica] - back
        self.said(Word(replica, number, b"late", {"x": Claim(keep, keep + 1, 8)}))

    @rule(replica=REPLICAS)
    def leaves(self, replica):
        self.loop.run_until_complete(self.model.leave(replica))
        self.loop.run_until_complete(self.real.leave(replica))

    @rule(tenths=st.integers(1, 15))
    def time_passes(self, tenths):
        self.clock.now_s = round(self.clock.now_s + LIFE_S * tenths / 10, 3)

    @rule()
    def all_is_lost(self):
        self.model.forget()
        self.server.ask("FLUSHALL")

    @invariant()
    def they_show_the_same(self):
        modelled = self.loop.run_until_complete(self.model.look())
        assert self.loop.run_until_complete(self.real.look()).texts == modelled.texts


@pytest.mark.timeout(120)
def test_a_real_redis_answers_as_the_model_does(server):
    class Here(Alike):
        pass

    Here.server = server
    run = settings(
        max_examples=60,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(Here, settings=run)
