"""The server side of the wire: what is read as a request, in which order, and what never is."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from engines.engine import Route
from router.settings import Limits
from router.wire.heads import KnownRequests
from router.wire.inbound import LINGER_S, MAX_PIPELINED, Inbound
from tests.fakes.transport import FakeTransport

LIMITS = Limits(max_header_bytes=2000, max_body_bytes=100)
BODY = b'{"model":"m"}'
GOOD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class FakeExchange:
    def __init__(self):
        self.left = 0
        self.paused = []

    def caller_left(self):
        self.left += 1

    def pause_writing(self):
        self.paused.append(True)

    def resume_writing(self):
        self.paused.append(False)


class FakeDoor:
    limits = LIMITS

    def __init__(self, *, answers=False):
        self.routes = {route.encode(): route for route in Route}
        self.now = 0.0
        self.known = KnownRequests()
        self.most_connections = 2
        self.trusts = lambda _: True
        self.connections = set()
        self.begun = []
        self.exchange = FakeExchange()
        self.answers = answers

    def clock(self):
        return self.now

    def refusal_of(self, head, key):
        return None

    def begin(self, caller, request):
        self.begun.append(request)
        if self.answers:
            caller.answer(200, [], b"%d" % len(self.begun), close=not request.keep_alive)
            caller.finished(keep_alive=request.keep_alive)
            return None
        return self.exchange


async def cold_app(scope, receive, send):
    message = await receive()
    text = b"%b|%b" % (scope["path"].encode(), message["body"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})


def connected(door, loop=None):
    config = Config(app=cold_app, lifespan="off", log_config=None)
    config.load()
    inbound = Inbound(door, config=config, server_state=ServerState(), app_state={}, _loop=loop)
    transport = FakeTransport()
    inbound.connection_made(transport)
    return inbound, transport


@pytest.fixture
def idle_loop():
    """For what needs no loop to run."""
    return object()


@given(cuts=st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_a_request_is_read_the_same_however_it_is_cut(cuts):
    door = FakeDoor()
    inbound, _ = connected(door, object())
    at, turn = 0, 0
    while at < len(GOOD):
        step = cuts[turn % len(cuts)]
        inbound.data_received(GOOD[at : at + step])
        at += step
        turn += 1

    assert [(r.head.route, r.body, r.keep_alive) for r in door.begun] == [(Route.CHAT, BODY, True)]


def test_a_chunked_body_is_put_together(idle_loop):
    door = FakeDoor()
    inbound, _ = connected(door, idle_loop)
    inbound.data_received(
        b"POST /v1/completions HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )

    assert [(r.head.route, r.body) for r in door.begun] == [(Route.COMPLETIONS, b"abcde")]


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=90), min_size=2, max_size=5),
    cut=st.integers(0, 200),
)
def test_a_head_that_is_known_again_is_read_as_the_first_time(bodies, cut):
    door = FakeDoor(answers=True)
    inbound, _ = connected(door, object())
    for body in bodies:
        length = b"content-length: %d\r\n" % len(body)
        data = b"POST /v1/completions HTTP/1.1\r\nhost: r\r\n" + length + b"a: B\r\n\r\n" + body
        inbound.data_received(data[:cut] if cut < len(data) and body is bodies[-1] else data)
        if cut < len(data) and body is bodies[-1]:
            inbound.data_received(data[cut:])

    assert [each.body for each in door.begun] == bodies
    assert {each.head.route for each in door.begun} == {Route.COMPLETIONS}
    assert all((b"a", b"B") in each.head.headers for each in door.begun)


def test_a_known_head_does_not_let_a_larger_body_in(idle_loop):
    door = FakeDoor(answers=True)
    inbound, transport = connected(door, idle_loop)
    for size in (10, LIMITS.max_body_bytes + 1):
        head = b"POST /v1/completions HTTP/1.1\r\nhost: r\r\ncontent-length: %d\r\n\r\n" % size
        inbound.data_received(head + b"x" * size)

    assert len(door.begun) == 1
    assert b"HTTP/1.1 413 " in transport.written


def test_a_second_request_behind_a_known_head_is_not_taken_for_its_body(idle_loop):
    door = FakeDoor(answers=True)
    inbound, _ = connected(door, idle_loop)
    inbound.data_received(GOOD)
    inbound.data_received(GOOD + GOOD)

    assert [each.body for each in door.begun] == [BODY, BODY, BODY]


def test_requests_sent_ahead_are_answered_in_order(idle_loop):
    door = FakeDoor()
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(GOOD * 3)
    first = len(door.begun)
    door.answers = True
    inbound.answer(200, [], b"0")
    inbound.finished(keep_alive=True)

    assert first == 1
    assert transport.written.split(b"\r\n\r\n")[1:] == [
        b"0HTTP/1.1 200 OK\r\ncontent-length: 1",
        b"2HTTP/1.1 200 OK\r\ncontent-length: 1",
        b"3",
    ]


def test_too_many_requests_sent_ahead_are_refused_behind_the_others(idle_loop):
    door = FakeDoor()
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(GOOD * (MAX_PIPELINED + 1))
    silent = transport.written == b""
    door.answers = True
    inbound.finished(keep_alive=True)

    assert silent
    assert len(door.begun) == MAX_PIPELINED
    assert b"sent ahead" in transport.written
    assert transport.ended


def test_nothing_is_taken_behind_a_request_that_was_one_too_many(idle_loop):
    """It would be answered in the place of the one that was left out."""
    door = FakeDoor()
    inbound, transport = connected(door, idle_loop)
    for _ in range(MAX_PIPELINED + 2):
        inbound.data_received(GOOD)
    inbound.finished(keep_alive=True)
    inbound.data_received(GOOD)
    door.answers = True
    inbound.finished(keep_alive=True)

    assert len(door.begun) == MAX_PIPELINED + 1
    assert transport.ended


@pytest.mark.parametrize(
    "second",
    [
        b"CONNECT r:80 HTTP/1.1\r\nhost: r:80\r\n\r\n",
        b"CONNECT http://r HTTP/1.1\r\nhost: r\r\n\r\n",
        b"CONNECT /v1/models HTTP/1.1\r\nhost: r\r\n\r\n",
    ],
)
def test_a_refusal_takes_its_turn_behind_a_good_request(second, idle_loop):
    door = FakeDoor(answers=True)
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(GOOD + second)

    assert len(door.begun) == 1
    assert transport.written.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" in transport.written


def test_a_caller_that_awaits_leave_to_send_gets_it(idle_loop):
    inbound, transport = connected(FakeDoor(), idle_loop)
    inbound.data_received(
        b"POST /v1/completions HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\n"
        b"content-length: 2\r\n\r\n"
    )

    assert transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_caller_that_awaits_leave_to_send_too_much_is_refused_unsent(idle_loop):
    inbound, transport = connected(FakeDoor(), idle_loop)
    inbound.data_received(
        b"POST /v1/completions HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\n"
        b"content-length: 200\r\n\r\n"
    )

    assert transport.take().startswith(b"HTTP/1.1 413 ")


def head(*lines, start=b"POST /v1/completions HTTP/1.1"):
    return b"\r\n".join((start, *lines, b"", b""))


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        pytest.param(head(b"content-length: 2") + b"{}", 400, b"'Host' is missing", id="no host"),
        pytest.param(head(b"host: a", b"host: b"), 400, b"'Host' was sent 2 times", id="two hosts"),
        pytest.param(
            head(b"host: a", b"content-length: 2", b"transfer-encoding: chunked") + b"0\r\n\r\n",
            400, b"", id="length and chunks",
        ),
        pytest.param(
            head(b"host: a", b"content-length: 2", b"content-length: 3"), 400, b"", id="two lengths"
        ),
        pytest.param(
            head(b"host: a", b"content-length: 2", b"content-length: 2"), 400, b"",
            id="the same length twice",
        ),
        pytest.param(head(b"host: a", b"content-length: +2"), 400, b"", id="signed length"),
        pytest.param(head(b"host: a", b"content-length: 2, 2"), 400, b"", id="list of lengths"),
        pytest.param(
            head(b"host: a", b"transfer-encoding: gzip, chunked"), 400, b"only 'chunked' is",
            id="compressed in transfer",
        ),
        pytest.param(head(b"host: a", b"transfer-encoding: x"), 400, b"", id="odd transfer"),
        pytest.param(
            head(b"host: a", b"transfer-encoding: chunked", start=b"POST / HTTP/1.0"), 400, b"",
            id="chunks in HTTP/1.0",
        ),
        pytest.param(head(b"host: a", b" folded: x"), 400, b"", id="folded header"),
        pytest.param(head(b"host: a", b"name : x"), 400, b"", id="space before the colon"),
        pytest.param(head(b"host: a", b"na\x00me: x"), 400, b"", id="zero in a name"),
        pytest.param(head(b"host: a", b"name: x\x00y"), 400, b"", id="zero in a value"),
        pytest.param(b"POST /v1/completions HTTP/1.1\nhost: a\n\n", 400, b"", id="bare line feeds"),
        pytest.param(head(b"host: a", start=b"POST * HTTP/1.1"), 400, b"not a path", id="star"),
        pytest.param(head(b"host: a", start=b"CONNECT a:1 HTTP/1.1"), 400, b"", id="connect"),
        pytest.param(head(b"host: a", start=b"POST / HTTP/2.0"), 400, b"", id="another version"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01", 400, b"not valid HTTP", id="TLS"),
        pytest.param(head(b"host: a", b"x: " + b"y" * 3000), 431, b"2000 bytes", id="large header"),
        pytest.param(b"POST /" + b"y" * 3000, 431, b"2000 bytes", id="endless target"),
        pytest.param(head(b"host: a", b"content-length: 101"), 413, b"100 bytes", id="large body"),
        pytest.param(
            head(b"host: a", b"transfer-encoding: chunked") + b"65\r\n" + b"x" * 101 + b"\r\n",
            413, b"100 bytes", id="large body in chunks",
        ),
        pytest.param(
            head(b"host: a", b"expect: magic", b"content-length: 2"), 417, b"'100-continue'",
            id="odd expectation",
        ),
    ],
)  # fmt: skip
def test_what_two_parsers_could_read_differently_is_refused(data, status, says, idle_loop):
    door = FakeDoor()
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(data)
    inbound.data_received(GOOD)

    assert transport.written.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in transport.written
    assert b'{"error":{"message":' in transport.written
    assert says in transport.written
    assert transport.written.count(b"HTTP/1.1 %d" % status) == 1
    assert door.begun == []
    assert transport.ended


def test_a_target_with_an_authority_means_its_path(idle_loop):
    door = FakeDoor()
    inbound, _ = connected(door, idle_loop)
    inbound.data_received(GOOD.replace(b" /v1", b" http://r/v1"))

    assert [r.head.route for r in door.begun] == [Route.CHAT]


def test_a_query_does_not_change_the_route(idle_loop):
    door = FakeDoor()
    inbound, _ = connected(door, idle_loop)
    inbound.data_received(GOOD.replace(b"completions ", b"completions?api-version=1 "))

    assert [r.head.route for r in door.begun] == [Route.CHAT]


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_wish_for_another_protocol_is_ignored(cut, idle_loop):
    door = FakeDoor(answers=True)
    inbound, transport = connected(door, idle_loop)
    wish = GOOD.replace(b"host: r\r\n", b"host: r\r\nconnection: upgrade\r\nupgrade: h2c\r\n")
    inbound.data_received(wish[:cut])
    inbound.data_received(wish[cut:] + GOOD)

    assert [r.body for r in door.begun] == [BODY, BODY]
    assert not transport.closed


@pytest.mark.parametrize(
    "data", [GOOD.replace(b"1.1", b"1.0"), GOOD.replace(b"host", b"connection: close\r\nhost")]
)
def test_a_caller_that_wants_to_close_is_not_kept(data, idle_loop):
    inbound, transport = connected(FakeDoor(answers=True), idle_loop)
    inbound.data_received(data)

    assert transport.closed


@pytest.mark.parametrize(
    ("data", "wait_s", "status"),
    [
        pytest.param(b"", LIMITS.header_timeout_s, None, id="a connection that says nothing"),
        pytest.param(GOOD[:20], LIMITS.header_timeout_s, b"408", id="slow headers"),
        pytest.param(
            GOOD[:-3], LIMITS.header_timeout_s + LIMITS.body_timeout_s, b"408", id="slow body"
        ),
    ],
)
def test_a_slow_request_is_ended(data, wait_s, status, idle_loop):
    door = FakeDoor()
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(data)
    inbound.expire(wait_s - 0.1)
    early = transport.written or transport.closed
    door.now = wait_s
    inbound.expire(wait_s)

    assert not early
    if status is None:
        assert transport.aborted
    else:
        assert transport.written.startswith(b"HTTP/1.1 " + status)


def test_dripping_a_header_does_not_buy_time(idle_loop):
    door = FakeDoor()
    inbound, transport = connected(door, idle_loop)
    for byte in GOOD[:10]:
        door.now += 1.0
        inbound.data_received(bytes([byte]))
        inbound.expire(door.now)
    door.now += 1.0
    inbound.expire(door.now)

    assert transport.written.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_in_time(idle_loop):
    door = FakeDoor(answers=True)
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(GOOD)
    inbound.expire(LIMITS.keep_alive_s - 0.1)
    early = transport.closed
    inbound.expire(LIMITS.keep_alive_s)

    assert (early, transport.aborted) == (False, True)


def test_a_request_under_way_has_no_deadline_of_the_wires(idle_loop):
    inbound, transport = connected(FakeDoor(), idle_loop)
    inbound.data_received(GOOD)
    inbound.expire(1e9)

    assert not transport.closed


def test_a_refused_caller_may_read_the_refusal_before_the_connection_ends(idle_loop):
    door = FakeDoor()
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(b"nonsense\r\n\r\n")
    inbound.data_received(b"x" * 100_000)
    before = transport.closed
    inbound.expire(LINGER_S)

    assert (before, transport.aborted) == (False, True)


def test_an_exchange_hears_of_its_connection(idle_loop):
    door = FakeDoor()
    inbound, _ = connected(door, idle_loop)
    inbound.data_received(GOOD)
    inbound.pause_writing()
    inbound.resume_writing()
    inbound.connection_lost(None)

    assert door.exchange.paused == [True, False]
    assert door.exchange.left == 1
    assert door.connections == set()


def test_nothing_is_heard_after_the_exchange_has_ended(idle_loop):
    door = FakeDoor()
    inbound, _ = connected(door, idle_loop)
    inbound.data_received(GOOD)
    inbound.finished(keep_alive=True)
    inbound.connection_lost(None)

    assert door.exchange.left == 0


def test_a_stopping_server_closes_idle_connections_and_lets_answers_end(idle_loop):
    door = FakeDoor()
    idle, idle_transport = connected(door, idle_loop)
    busy, busy_transport = connected(door, idle_loop)
    busy.data_received(GOOD)
    idle.shutdown()
    busy.shutdown()
    before = busy_transport.closed
    busy.finished(keep_alive=True)

    assert idle_transport.closed
    assert (before, busy_transport.closed) == (False, True)


async def test_what_is_not_inference_runs_through_the_application():
    inbound, transport = connected(FakeDoor())
    inbound.data_received(b"GET /v1/models?x=1 HTTP/1.1\r\nhost: r\r\n\r\n")
    inbound.data_received(GOOD.replace(b"chat/completions", b"fi%20es"))
    while tasks := inbound._server_state.tasks:
        await asyncio.wait(tasks)

    assert b"/v1/models|" in transport.written
    assert b"/v1/fi es|" in transport.written
    assert BODY in transport.written


@settings(max_examples=300)
@given(data=st.binary(max_size=300), cut=st.integers(0, 300))
def test_no_bytes_crash_the_parser(data, cut):
    door = FakeDoor(answers=True)
    inbound, _ = connected(door, object())
    data = b"POST " + data
    inbound.data_received(data[:cut])
    inbound.data_received(data[cut:])
    inbound.expire(1e9)
    inbound.connection_lost(None)

    assert door.connections == set()


def test_the_next_request_waits_for_a_caller_that_does_not_read(idle_loop):
    door = FakeDoor(answers=True)
    inbound, transport = connected(door, idle_loop)
    inbound.pause_writing()
    inbound.data_received(GOOD)
    before = len(door.begun)
    inbound.resume_writing()

    assert before == 0
    assert len(door.begun) == 1
    assert transport.written.endswith(b"\r\n\r\n1")


@pytest.mark.parametrize("paused", [False, True])
def test_the_last_answer_of_a_connection_is_not_kept_for_a_caller_that_never_reads(
    idle_loop, paused
):
    door = FakeDoor(answers=True)
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(GOOD.replace(b"host: r", b"host: r\r\nconnection: close"))
    if paused:
        inbound.pause_writing()
    inbound.expire(LIMITS.keep_alive_s - 1.0)
    closing = (transport.closed, transport.aborted)
    inbound.expire(LIMITS.keep_alive_s)

    assert closing == (True, False)
    assert transport.aborted


def test_a_caller_that_reads_slowly_is_kept_for_as_long_as_it_reads(idle_loop):
    door = FakeDoor(answers=True)
    inbound, transport = connected(door, idle_loop)
    inbound.data_received(GOOD)
    transport.unread = 1000
    inbound.pause_writing()
    kept = []
    for turn in range(1, 5):
        transport.unread -= 1
        inbound.expire(turn * 0.9 * LIMITS.keep_alive_s)
        kept.append(not transport.aborted)
    inbound.expire(5 * 0.9 * LIMITS.keep_alive_s)
    kept.append(not transport.aborted)
    inbound.expire(6 * 0.9 * LIMITS.keep_alive_s)

    assert kept == [True] * 5
    assert transport.aborted


def test_a_connection_beyond_what_files_allow_is_refused_and_told_why(idle_loop):
    door = FakeDoor()
    connected(door, idle_loop)
    connected(door, idle_loop)
    _, transport = connected(door, idle_loop)

    assert transport.written.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"too_many_connections"' in transport.written
    assert b"retry-after: 1\r\n" in transport.written
    assert b"ulimit -n" in transport.written
