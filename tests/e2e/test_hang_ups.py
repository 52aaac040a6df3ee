"""Whenever a caller hangs up, its engine is let go, and nothing of it is left behind."""

import asyncio
import time

import pytest

from tests.e2e.caller import caller, chat, request
from tests.e2e.running import pool, serving
from tests.fakes.mute import mute_engine
from tests.fakes.scripted import scripted_engine, silence, streaming

ENDLESS = b"data: {}\n\n"


async def one_event(call):
    await call.begin_stream()
    await call.say_chunk(ENDLESS)
    await asyncio.Event().wait()


async def half_a_plain_answer(call):
    await call.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    await call.say(b"content-length: 100\r\n\r\n{")
    await asyncio.Event().wait()


async def half_a_large_answer(call):
    await call.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    await call.say(b"content-length: 3000000\r\n\r\n")
    await call.say(b" " * 2_000_000)
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("script", "stream", "seen"),
    [
        pytest.param(silence, True, b"", id="before the first byte of a stream"),
        pytest.param(silence, False, b"", id="before the first byte of a plain answer"),
        pytest.param(one_event, True, ENDLESS, id="in a stream"),
        pytest.param(half_a_plain_answer, False, b"", id="in a plain answer"),
        pytest.param(half_a_large_answer, False, b" ", id="in a large plain answer"),
    ],
)
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_the_engine_is_let_go_when_the_caller_leaves(
    script, stream, seen, reset, record_property
):
    async with scripted_engine(script) as engine, serving(pool("p", engine)) as router:
        async with caller(router.port) as one:
            await one.send(request(chat(stream=stream)))
            call = await engine.arrivals.get()
            if seen:
                await one.begin()
                await one.read_until(seen)
            one.hang_up(reset=reset)
            let_go = await engine.hang_ups.get()
        record_property("hang_up_ms", (time.monotonic() - one.left_at) * 1e3)

        assert let_go is call
        assert router.held == {}
        assert [line["outcome"] for line in router.log] == ["abandoned"]
        assert router.log[0]["status"] == 499


async def test_a_caller_that_leaves_the_queue_is_never_sent_anywhere():
    async with scripted_engine(one_event) as engine, serving(pool("p", engine, slots=1)) as router:
        async with caller(router.port) as first, caller(router.port) as second:
            await first.send(request(chat(stream=True)))
            await engine.arrivals.get()
            await second.send(request(chat(stream=True)))
            while not router.router.dispatcher.waiting:
                await asyncio.sleep(0)
            second.hang_up()
            while router.router.dispatcher.waiting:
                await asyncio.sleep(0)
            queued = router.held.get("queued exchanges", 0)
            first.hang_up()
            await engine.hang_ups.get()

        assert queued == 0
        assert len(engine.calls) == 1
        assert router.held == {}
        assert [line["outcome"] for line in router.log] == ["abandoned", "abandoned"]


async def test_the_next_in_the_queue_gets_the_slot_of_a_caller_that_leaves():
    async with (
        scripted_engine(silence, streaming(b"{}")) as engine,
        serving(pool("p", engine, slots=1)) as router,
        caller(router.port) as first,
        caller(router.port) as second,
    ):
        await first.send(request(chat(stream=True)))
        await engine.arrivals.get()
        await second.send(request(chat(stream=True)))
        while not router.router.dispatcher.waiting:
            await asyncio.sleep(0)
        first.hang_up()
        answer = await second.answer()

        assert answer.events == [b"{}", b"[DONE]"]


async def test_a_connection_that_is_being_made_is_given_up_with_its_caller():
    async with mute_engine() as engine, serving(pool("p", engine.url)) as router:
        await engine.probed.wait()
        async with caller(router.port) as one:
            await one.send(request(chat()))
            await engine.reached.wait()
            one.hang_up()
            await engine.let_go.wait()

        assert router.held == {}
        assert [line["outcome"] for line in router.log] == ["abandoned"]
        assert router.router.door.endpoints["p-0"].pool.open_connections == 0


async def test_requests_sent_ahead_leave_with_their_caller():
    async with scripted_engine(one_event) as engine, serving(pool("p", engine)) as router:
        async with caller(router.port) as one:
            await one.send(*[request(chat(stream=True))] * 3)
            await engine.arrivals.get()
            one.hang_up()
            await engine.hang_ups.get()

        assert len(engine.calls) == 1
        assert router.held == {}
