"""What the bare relay does when one side is slower than the other, or leaves."""

import asyncio

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from tests.bench.overhead.bare_relay import Caller, Engine, Upstream, no_app

QUESTION = b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class FakeTransport(asyncio.Transport):
    """A transport that takes everything and remembers it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Relay:
    """One caller before one engine, to which a connection is kept."""

    def __init__(self) -> None:
        self.engine = Engine(0)
        kind = type("Caller", (Caller,), {"engine": self.engine})
        self.caller = kind(Config(no_app), ServerState(), {})
        self.front = FakeTransport()
        self.caller.connection_made(self.front)
        self.upstream = Upstream(self.engine, self.caller)
        self.back = FakeTransport()
        self.upstream.connection_made(self.back)
        self.upstream.caller = None
        self.engine.idle.append(self.upstream)


@pytest.fixture
def relay() -> Relay:
    return Relay()


def test_head_and_body_go_to_the_engine_without_what_was_meant_for_the_relay(relay):
    relay.caller.data_received(QUESTION)

    assert relay.back.written == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: engine\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_a_kept_connection_is_kept_again_after_an_answer(relay):
    for _ in range(2):
        relay.caller.data_received(QUESTION)
        assert relay.engine.idle == []
        relay.upstream.data_received(ANSWER)

        assert relay.engine.idle == [relay.upstream]

    assert relay.front.written == ANSWER * 2


def test_a_caller_that_is_slow_holds_the_engine_up(relay):
    relay.caller.data_received(QUESTION)

    relay.caller.pause_writing()
    assert not relay.back.reading
    relay.caller.resume_writing()
    assert relay.back.reading


def test_a_connection_is_not_kept_deaf_after_a_slow_caller(relay):
    relay.caller.data_received(QUESTION)
    relay.caller.pause_writing()
    relay.upstream.data_received(ANSWER)

    assert relay.engine.idle == [relay.upstream]
    assert relay.back.reading


def test_an_engine_that_is_slow_holds_the_caller_up(relay):
    relay.caller.data_received(QUESTION)

    relay.upstream.pause_writing()
    assert not relay.front.reading
    relay.upstream.resume_writing()
    assert relay.front.reading


def test_back_pressure_between_requests_concerns_nobody(relay):
    relay.caller.pause_writing()
    relay.caller.resume_writing()
    relay.upstream.pause_writing()
    relay.upstream.resume_writing()

    assert relay.front.reading
    assert relay.back.reading


def test_a_caller_who_leaves_ends_its_request(relay):
    relay.caller.data_received(QUESTION)
    relay.caller.connection_lost(None)

    assert relay.back.closed


def test_an_engine_that_leaves_in_the_middle_ends_the_answer(relay):
    relay.caller.data_received(QUESTION)
    relay.upstream.connection_lost(None)

    assert relay.front.closed


def test_a_kept_connection_that_closes_is_kept_no_longer(relay):
    relay.upstream.connection_lost(None)

    assert relay.engine.idle == []
    assert not relay.front.closed


def test_a_connection_that_the_engine_will_close_is_not_kept(relay):
    relay.caller.data_received(QUESTION)
    relay.upstream.data_received(ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))

    assert relay.engine.idle == []
    assert relay.back.closed
    assert not relay.front.closed


@pytest.mark.parametrize("asked", [True, False], ids=["garbage", "unasked"])
def test_what_the_engine_should_not_have_said_ends_the_connection(relay, asked):
    if asked:
        relay.caller.data_received(QUESTION)
    relay.upstream.data_received(b"nonsense\r\n\r\n")

    assert relay.back.closed
    assert relay.front.closed == asked


def test_a_request_that_comes_early_waits_for_the_answer_before_it(relay):
    relay.caller.data_received(QUESTION)
    sent = len(relay.back.written)
    relay.caller.data_received(QUESTION)

    assert len(relay.back.written) == sent
    relay.upstream.data_received(ANSWER)
    assert len(relay.back.written) == 2 * sent


@pytest.mark.parametrize("together", [1, 2, 3])
def test_requests_that_come_in_one_piece_are_sent_one_by_one(relay, together):
    relay.caller.data_received(QUESTION * together)
    for number in range(1, together + 1):
        assert relay.back.written.count(b"POST") == number
        relay.upstream.data_received(ANSWER)

    assert relay.front.written == ANSWER * together
    assert relay.engine.idle == [relay.upstream]
    assert relay.front.reading


def test_a_caller_who_asks_ahead_is_read_no_further_until_it_is_answered(relay):
    relay.caller.data_received(QUESTION + QUESTION[:-1])
    assert not relay.front.reading

    relay.upstream.data_received(ANSWER)
    assert relay.front.reading
    relay.caller.data_received(QUESTION[-1:])
    assert relay.back.written.endswith(b"{}")
    relay.upstream.data_received(ANSWER)
    assert relay.front.written == ANSWER * 2


def test_an_answer_before_the_whole_request_ends_both_connections(relay):
    relay.caller.data_received(QUESTION[:-1])
    relay.upstream.data_received(ANSWER)

    assert relay.front.written == ANSWER
    assert relay.front.closed
    assert relay.back.closed


def test_a_body_follows_its_head_as_it_comes(relay):
    relay.caller.data_received(QUESTION[:-1])
    relay.caller.data_received(QUESTION[-1:])

    assert relay.back.written.endswith(b"\r\n\r\n{}")


def test_when_the_server_stops_a_caller_is_let_go(relay):
    relay.caller.shutdown()

    assert relay.front.closed
