"""Requests that only try other keys: refused without being parsed, and read as the parser would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from engines.engine import Route
from router.access.gate import presented
from router.settings import Limits
from router.wire.heads import KnownRequests, RequestHead
from router.wire.inbound import Inbound
from router.wire.knocks import refused_head
from tests.fakes.transport import FakeTransport

LIMITS = Limits(max_header_bytes=4000, max_body_bytes=1000)
REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
GOOD = b"hw_good"
IDLE = object()
"""For what needs no loop to run."""
LINES = [b"host: r", b"authorization: Bearer %b", b"content-length: %d", b"a: b", b"x-trace: 1"]


class Door:
    """Keeps out whoever has not the one good key, and remembers how each was read."""

    limits = LIMITS

    def __init__(self):
        self.routes = {route.encode(): route for route in Route}
        self.known = KnownRequests()
        self.most_connections = 2
        self.trusts = lambda _: True
        self.connections = set()
        self.parsed = []
        self.in_passing = []
        self.heads = []

    def clock(self):
        return 0.0

    def refusal_of(self, head, key):
        if key == GOOD:
            return None
        self.in_passing.append((head.route, key))
        return REFUSED

    def begin(self, caller, request):
        key = presented(request.head.headers)
        self.heads.append(request.head)
        self.parsed.append((request.head.route, key, request.body))
        if key == GOOD:
            caller.answer(200, [], b"in", close=not request.keep_alive)
            caller.finished(keep_alive=request.keep_alive)
        else:
            caller.keep_out(request, key, REFUSED)


async def no_app(scope, receive, send):
    """Never runs."""


def connected(door, loop=IDLE):
    config = Config(app=no_app, lifespan="off", log_config=None)
    config.load()
    inbound = Inbound(door, config=config, server_state=ServerState(), app_state={}, _loop=loop)
    transport = FakeTransport()
    inbound.connection_made(transport)
    return inbound, transport


def knock(key, body=b"{}", lines=tuple(LINES)):
    head = b"\r\n".join((b"POST /v1/completions HTTP/1.1", *lines, b"", b""))
    return head.replace(b"%b", key).replace(b"%d", b"%d" % len(body)) + body


def head_of(data):
    door = Door()
    inbound, _ = connected(door)
    inbound.data_received(data)
    return door.heads[0] if door.heads else RequestHead()


def test_who_tries_other_keys_is_refused_without_being_parsed_again():
    door = Door()
    inbound, transport = connected(door)
    for number in range(5):
        inbound.data_received(knock(b"hw_%d" % number))

    assert len(door.parsed) == 1
    assert door.in_passing == [(Route.COMPLETIONS, b"hw_%d" % number) for number in range(1, 5)]
    assert transport.written == 5 * REFUSED


def test_several_tries_that_come_at_once_are_each_answered():
    door = Door()
    inbound, transport = connected(door)
    inbound.data_received(knock(b"hw_0"))
    inbound.data_received(b"".join(knock(b"hw_%d" % number) for number in range(1, 40)))

    assert len(door.in_passing) == 39
    assert transport.written == 40 * REFUSED


def test_a_good_key_among_the_tries_is_let_in_in_its_turn():
    door = Door()
    inbound, transport = connected(door)
    inbound.data_received(knock(b"hw_0"))
    inbound.data_received(knock(b"hw_1") + knock(GOOD, b"{1}") + knock(b"hw_2"))

    assert door.parsed[1:] == [
        (Route.COMPLETIONS, GOOD, b"{1}"),
        (Route.COMPLETIONS, b"hw_2", b"{}"),
    ]
    assert transport.written.count(REFUSED) == 3
    assert transport.written.endswith(b"in" + REFUSED)


def test_a_try_that_is_cut_in_two_is_read_whole():
    door = Door()
    inbound, transport = connected(door)
    inbound.data_received(knock(b"hw_0"))
    both = knock(b"hw_1") + knock(b"hw_2")
    inbound.data_received(both[:-20])
    inbound.data_received(both[-20:])

    assert [key for _, key, _ in door.parsed] == [b"hw_0", b"hw_2"]
    assert transport.written == 3 * REFUSED


def test_nothing_that_strangers_say_is_remembered_for_others():
    door = Door()
    inbound, _ = connected(door)
    inbound.data_received(knock(b"hw_0"))

    assert door.known.find(knock(b"hw_0")) is None


def test_a_body_that_is_too_large_goes_to_the_parser():
    door = Door()
    inbound, transport = connected(door)
    inbound.data_received(knock(b"hw_0"))
    inbound.data_received(knock(b"hw_1", b"x" * (LIMITS.max_body_bytes + 1)))

    assert door.in_passing == []
    assert b"HTTP/1.1 413 " in transport.written


def test_a_stranger_that_reads_nothing_is_not_answered_further():
    door = Door()
    inbound, transport = connected(door)
    inbound.data_received(knock(b"hw_0"))
    inbound.pause_writing()
    inbound.data_received(knock(b"hw_1") * 3)

    assert transport.written == REFUSED


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(knock(b"hw_0", lines=(b"host: r", b"x-api-key: %b")), id="no length"),
        pytest.param(knock(b"hw_0", lines=(*LINES, b"x-again: %b")), id="twice"),
        pytest.param(knock(b"hw_0", lines=(*LINES, b"connection: close")), id="closes"),
        pytest.param(knock(b"hw_0", lines=(*LINES, b"c: " + b"x" * 3000)), id="long"),
        pytest.param(knock(b"hw_0") + knock(b"hw_0"), id="two requests"),
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(data):
    head = head_of(data)
    key = presented(head.headers) or b"hw_0"

    assert refused_head(data, key, head) is None


@given(
    order=st.permutations(LINES),
    key=st.from_regex(rb"[A-Za-z0-9._~+/=-]{1,80}", fullmatch=True),
    other=st.binary(max_size=80)
    | st.from_regex(rb"[A-Za-z0-9_~+/=-]{1,80}", fullmatch=True)
    | st.sampled_from([b"x\r\ncontent-length: 5", b"x\r\n\r\n", b"x\nhost: b", b"", b" ", b"a b"]),
    length=st.binary(max_size=6) | st.integers(0, 2000).map(b"%d".__mod__),
    body=st.binary(max_size=60),
    after=st.binary(max_size=40),
)
def test_what_is_read_in_passing_is_what_the_parser_reads(order, key, other, length, body, after):
    first = knock(key, lines=order)
    shape = refused_head(first, key, head_of(first))
    lines = [line.replace(b"%d", length) for line in order]
    data = knock(other, body, lines) + after
    read = None if shape is None else shape.read(data, 0, LIMITS.max_body_bytes)

    assert shape is not None or first.count(key) > 1
    if read is not None:
        found, end = read
        door = Door()
        inbound, _ = connected(door)
        inbound.data_received(data[:end])
        ((route, seen, _),) = door.parsed
        assert (route, seen) == (Route.COMPLETIONS, found)
        assert found == other
