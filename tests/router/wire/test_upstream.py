"""Connections to engines: reuse, every way an answer can break, and hanging up."""

import asyncio
import socket
import ssl
import time
from typing import Any

import pytest

from policies.facts import FailureKind
from router.wire.heads import MAX_HEAD_BYTES, HeadReader
from router.wire.upstream import Pool, address
from tests.fakes.scripted import scripted_engine, silence
from tests.fakes.transport import FakeTransport

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: e\r\ncontent-length: 2\r\n\r\n"
EVENT = b"data: {}\n\n"


class Heard:
    """A listener that remembers."""

    def __init__(self):
        self.connection: Any = None
        self.status = None
        self.relayed = b""
        self.payload = b""
        self.failure = None
        self.began = asyncio.Event()
        self.over = asyncio.Event()

    def on_connected(self, connection):
        self.connection = connection

    def on_head(self, head, framing):
        self.status = head.status

    def on_body(self, relay, payload, *, done):
        self.relayed += relay
        self.payload += b"".join(payload)
        self.began.set()
        if done:
            self.over.set()

    def on_failure(self, kind, detail):
        self.failure = (kind, detail)
        self.over.set()


@pytest.fixture
async def group():
    async with asyncio.TaskGroup() as group:
        yield group


def pool_to(engine, group, *, keep_s=60.0, connect_s=2.0, tls=None, scheme="http"):
    return Pool(
        address(f"{scheme}://127.0.0.1:{engine.port}", tls),
        loop=asyncio.get_running_loop(),
        spawn=group.create_task,
        clock=time.monotonic,
        heads=HeadReader(),
        connect_s=connect_s,
        keep_s=keep_s,
    )


async def asked(pool, body=b"{}"):
    heard = Heard()
    pool.ask(heard, HEAD, body)
    await heard.over.wait()
    return heard


def saying(*parts, then=None):
    async def script(call):
        for part in parts:
            await call.say(part)
        if then is not None:
            then(call)

    return script


async def json_answer(call):
    await call.say_json(b'{"ok":1}')


async def stream_answer(call):
    await call.begin_stream()
    await call.say_chunk(EVENT)
    await call.say_chunk(b"data: [DONE]\n\n")
    await call.say(b"0\r\n\r\n")


@pytest.mark.parametrize("answer", [json_answer, stream_answer])
async def test_a_connection_serves_one_request_after_another(group, answer):
    async with scripted_engine(answer) as engine:
        pool = pool_to(engine, group)
        heard = [await asked(pool) for _ in range(3)]

        assert [each.status for each in heard] == [200, 200, 200]
        assert engine.connections == 1
        assert pool.idle_connections == 1
        pool.close()


async def test_a_chunked_answer_is_handed_over_with_and_without_its_framing(group):
    async with scripted_engine(stream_answer) as engine:
        pool = pool_to(engine, group)
        heard = await asked(pool)

        assert heard.relayed == b"a\r\ndata: {}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n"
        assert heard.payload == b"data: {}\n\ndata: [DONE]\n\n"
        pool.close()


async def test_requests_at_the_same_time_get_connections_of_their_own(group):
    release = asyncio.Event()

    async def held(call):
        await release.wait()
        await call.say_json(b"{}")

    async with scripted_engine(held) as engine:
        pool = pool_to(engine, group)
        both = [Heard(), Heard()]
        for each in both:
            pool.ask(each, HEAD, b"{}")
        release.set()
        for each in both:
            await each.over.wait()

        assert engine.connections == 2
        pool.close()


async def test_small_writes_leave_at_once(group):
    async with scripted_engine(json_answer) as engine:
        pool = pool_to(engine, group)
        heard = await asked(pool)
        raw = heard.connection._transport.get_extra_info("socket")

        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        pool.close()


async def test_a_large_body_arrives_whole(group):
    async with scripted_engine(json_answer) as engine:
        pool = pool_to(engine, group)
        body = b"x" * 300_000
        heard = Heard()
        pool.ask(heard, b"POST / HTTP/1.1\r\ncontent-length: 300000\r\n\r\n", body)
        await heard.over.wait()

        assert engine.calls[0].body == body
        pool.close()


async def test_an_interim_answer_is_passed_over(group):
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with scripted_engine(saying(interim + final)) as engine:
        pool = pool_to(engine, group)
        heard = await asked(pool)

        assert (heard.status, heard.payload) == (200, b"ok")
        pool.close()


async def test_an_answer_without_a_body_is_complete_at_once(group):
    async with scripted_engine(saying(b"HTTP/1.1 204 No Content\r\n\r\n")) as engine:
        pool = pool_to(engine, group)
        heard = await asked(pool)

        assert (heard.status, heard.payload, pool.idle_connections) == (204, b"", 1)
        pool.close()


async def test_an_answer_without_length_ends_with_its_connection(group):
    answer = saying(b"HTTP/1.1 200 OK\r\n\r\nall of it", then=lambda call: call.close())
    async with scripted_engine(answer) as engine:
        pool = pool_to(engine, group)
        heard = await asked(pool)

        assert (heard.payload, heard.failure, pool.idle_connections) == (b"all of it", None, 0)


@pytest.mark.parametrize(
    "head",
    [b"connection: close\r\n", b"x: y\r\n"],
    ids=["the engine asks to close", "bytes follow the answer"],
)
async def test_a_connection_that_cannot_be_trusted_is_not_kept(group, head):
    excess = b"HTTP" if head.startswith(b"x") else b""
    answer = b"HTTP/1.1 200 OK\r\n" + head + b"content-length: 2\r\n\r\nok" + excess
    async with scripted_engine(saying(answer)) as engine:
        pool = pool_to(engine, group)
        heard = await asked(pool)

        assert (heard.payload, heard.failure, pool.idle_connections) == (b"ok", None, 0)


async def test_an_engine_that_speaks_unasked_loses_its_connection(group):
    spoken = asyncio.Event()

    async def chatty(call):
        await call.say_json(b"{}")
        await spoken.wait()
        await call.say(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged")

    async with scripted_engine(chatty) as engine:
        pool = pool_to(engine, group)
        await asked(pool)
        spoken.set()
        await engine.hang_ups.get()

        assert pool.open_connections == 0


RESET = "the connection was reset"


@pytest.mark.parametrize(
    ("script", "kind", "detail"),
    [
        pytest.param(
            saying(then=lambda call: call.close()), FailureKind.BROKEN, "before the answer",
            id="closed before the answer",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", then=lambda c: c.close()),
            FailureKind.BROKEN, "in the middle", id="cut in a body of known length",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
                   then=lambda c: c.close()),
            FailureKind.BROKEN, "in the middle", id="cut in a chunk",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
            FailureKind.BROKEN, "hexadecimal", id="garbage for a chunk",
        ),
        pytest.param(saying(b"garbage\r\n\r\n"), FailureKind.BROKEN, "malformed", id="garbage"),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * (MAX_HEAD_BYTES + 1)),
            FailureKind.BROKEN, "64 KiB", id="endless line",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000),
            FailureKind.BROKEN, "64 KiB", id="endless headers",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"),
            FailureKind.BROKEN, "not understood", id="compressed in transfer",
        ),
        pytest.param(
            saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc"),
            FailureKind.BROKEN, "malformed", id="two lengths",
        ),
    ],
)  # fmt: skip
async def test_a_broken_answer_is_one_failure_and_leaves_no_connection(group, script, kind, detail):
    async with scripted_engine(script) as engine:
        pool = pool_to(engine, group)
        heard = await asked(pool)
        await engine.hang_ups.get()

        assert heard.failure is not None
        assert heard.failure[0] is kind
        assert detail in heard.failure[1]
        assert pool.open_connections == 0


async def test_a_kept_connection_that_closes_unanswered_is_told_from_a_failure(group):
    async def close(call):
        call.close()

    async with scripted_engine(json_answer, close) as engine:
        pool = pool_to(engine, group)
        await asked(pool)
        heard = await asked(pool)

        assert heard.failure is not None
        assert heard.failure[0] is FailureKind.STALE_CONNECTION


async def test_a_connection_idle_for_too_long_is_not_used(group):
    async with scripted_engine(json_answer) as engine:
        pool = pool_to(engine, group, keep_s=-1.0)
        await asked(pool)
        await asked(pool)

        assert engine.connections == 2
        pool.sweep()
        assert pool.idle_connections == 0


async def test_nobody_listening_is_not_reached(group):
    async with scripted_engine(json_answer) as engine:
        pool = pool_to(engine, group)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        engine.port = closed.getsockname()[1]
        pool = pool_to(engine, group)
        heard = await asked(pool)

    assert heard.failure is not None
    assert heard.failure[0] is FailureKind.NOT_REACHED


class SlammingLoop:
    """Connects to an engine that has closed the connection by the time it is made."""

    async def create_connection(self, protocol_of, *_, **__):
        transport, connection = FakeTransport(), protocol_of()
        connection.connection_made(transport)
        transport.close()
        connection.connection_lost(None)
        return transport, connection


async def test_a_connection_that_is_closed_before_it_is_used_is_not_reached(group):
    async with scripted_engine(json_answer) as engine:
        pool = pool_to(engine, group)
        pool._loop = SlammingLoop()
        heard = await asked(pool)

    assert heard.failure == (FailureKind.NOT_REACHED, "the connection was closed at once")
    assert pool.open_connections == 0


async def test_a_handshake_that_does_not_end_is_not_reached(group):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        where = address(f"https://127.0.0.1:{mute.getsockname()[1]}", ssl.create_default_context())
        pool = Pool(
            where,
            loop=asyncio.get_running_loop(),
            spawn=group.create_task,
            clock=time.monotonic,
            heads=HeadReader(),
            connect_s=0.05,
            keep_s=1.0,
        )
        heard = await asked(pool)

    assert heard.failure == (FailureKind.NOT_REACHED, "no connection within 0.05 s")


async def test_hanging_up_reaches_the_engine(group):
    async with scripted_engine(silence) as engine:
        pool = pool_to(engine, group)
        heard = Heard()
        task = pool.ask(heard, HEAD, b"{}")
        assert task is not None
        await task
        heard.connection.drop()
        while pool.open_connections:  # the close is seen once the loop has turned
            await asyncio.sleep(0)

        assert heard.failure is None


async def test_hanging_up_while_connecting_leaves_nothing(group):
    async with scripted_engine(silence) as engine:
        pool = pool_to(engine, group)
        heard = Heard()
        task = pool.ask(heard, HEAD, b"{}")
        assert task is not None
        task.cancel()
        await asyncio.wait([task])

        assert (pool.open_connections, heard.connection, heard.failure) == (0, None, None)


async def test_a_paused_connection_hears_nothing_until_it_is_resumed(group):
    more = asyncio.Event()

    async def script(call):
        await call.begin_stream()
        await call.say_chunk(EVENT)
        await more.wait()
        await call.say_chunk(EVENT)
        await call.say(b"0\r\n\r\n")

    async with scripted_engine(script) as engine:
        pool = pool_to(engine, group)
        heard = Heard()
        pool.ask(heard, HEAD, b"{}")
        await heard.began.wait()
        heard.connection.pause()
        more.set()
        for _ in range(100):
            await asyncio.sleep(0)
        before = heard.payload
        heard.connection.resume()
        await heard.over.wait()

        assert before == EVENT
        assert heard.payload == EVENT * 2
        pool.close()
