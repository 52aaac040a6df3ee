"""A caller that reads slowly slows its engine down, and costs nobody else anything."""

import asyncio

from router.settings import Limits, Timeouts
from tests.e2e.caller import caller, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.scripted import answering, scripted_engine, streaming

EVENT = b"data: " + b"x" * 16_000 + b"\n\n"
STREAM_BYTES = 64 << 20
MOST_HELD_BYTES = 16 << 20
"""What the kernel's buffers towards the engine may take, all others being small."""
WINDOW_BYTES = 4096
"""What the kernel holds at both ends of a caller's connection: it must not read in its place."""


class Endless:
    """A stream that counts what it could write."""

    def __init__(self):
        self.said_bytes = 0
        self.stuck = asyncio.Event()
        """Nothing more can be written at the moment."""

    async def __call__(self, call):
        await call.begin_stream()
        while self.said_bytes < STREAM_BYTES:
            try:
                async with asyncio.timeout(0.3):
                    await call.say_chunk(EVENT)
            except TimeoutError:
                self.stuck.set()
                await call.say(b"")
            self.said_bytes += len(EVENT)
        await call.end_stream()


async def test_what_a_caller_does_not_read_is_not_read_from_the_engine():
    script = Endless()
    async with (
        scripted_engine(script) as engine,
        serving(pool("p", engine), send_bytes=WINDOW_BYTES) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as one,
    ):
        await one.send(request(chat(stream=True)))
        await one.begin()
        one.stop_reading()
        await script.stuck.wait()
        (inbound,) = router.router.door.connections

        assert script.said_bytes < MOST_HELD_BYTES
        assert inbound.transport.get_write_buffer_size() < 2 << 20
        one.hang_up()
        await engine.hang_ups.get()


async def test_a_slow_caller_gets_all_of_it_in_the_end():
    events = [b"%d" % number + b"y" * 30_000 for number in range(200)]
    async with (
        scripted_engine(streaming(*events)) as engine,
        serving(pool("p", engine), send_bytes=WINDOW_BYTES) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as one,
    ):
        await one.send(request(chat(stream=True)))
        await one.begin()
        one.stop_reading()
        (inbound,) = router.router.door.connections
        await until(lambda: inbound.transport.get_write_buffer_size() > 0)
        one.read_on()
        body = await one.rest()

        assert body == b"".join(b"data: %b\n\n" % event for event in (*events, b"[DONE]"))


async def test_a_caller_that_stops_reading_for_too_long_is_hung_up_on():
    async with (
        scripted_engine(Endless()) as engine,
        serving(
            pool("p", engine), send_bytes=WINDOW_BYTES, timeouts=Timeouts(idle_s=0.3)
        ) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as one,
    ):
        await one.send(request(chat(stream=True)))
        await one.begin()
        one.stop_reading()
        await engine.hang_ups.get()
        await until(lambda: not router.held)

        assert [line["outcome"] for line in router.log] == ["abandoned"]


async def test_a_slow_reader_does_not_spoil_the_connection_for_those_after_it():
    """Its answer was complete before it could be written, so its connection went to another."""
    large = b'"%b"' % (b"z" * 900_000)
    async with (
        scripted_engine(answering(large), answering(b'"next"')) as engine,
        serving(pool("p", engine), send_bytes=WINDOW_BYTES) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as slow,
        caller(router.port) as other,
    ):
        await slow.send(request(chat()))
        await until(lambda: len(router.log) == 1)
        following = await other.ask(chat())
        answer = await slow.answer()

        assert following.body == b'"next"'
        assert answer.body == large
        assert engine.connections == 1


async def test_the_end_of_a_stream_does_not_spoil_the_connection_either():
    async def bursting(call):
        await call.begin_stream()
        end = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
        event = b"data: " + b"x" * 200_000 + b"\n\n"
        await call.say(b"%x\r\n%b\r\n" % (len(event), event) + end)

    async with (
        scripted_engine(bursting, answering(b"{}")) as engine,
        serving(pool("p", engine), send_bytes=WINDOW_BYTES) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as slow,
        caller(router.port) as other,
    ):
        await slow.send(request(chat(stream=True)))
        await until(lambda: len(router.log) == 1)
        following = await other.ask(chat())

        assert following.body == b"{}"
        assert len((await slow.answer()).events) == 2
        assert engine.connections == 1


async def test_requests_sent_ahead_by_a_caller_that_does_not_read_wait_for_it():
    large = b'"%b"' % (b"z" * 900_000)
    async with (
        scripted_engine(answering(large)) as engine,
        serving(pool("p", engine), send_bytes=WINDOW_BYTES) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as one,
    ):
        await one.send(*[request(chat())] * 10)
        await until(lambda: len(router.log) > 0)
        (inbound,) = router.router.door.connections
        for _ in range(100):
            await asyncio.sleep(0)
        piled_up_bytes = inbound.transport.get_write_buffer_size()
        answers = [await one.answer() for _ in range(10)]

        assert piled_up_bytes < 2 * len(large)
        assert [len(answer.body) for answer in answers] == [len(large)] * 10
        assert len(engine.calls) == 10


async def test_a_caller_that_never_reads_the_last_answer_is_let_go_of():
    """The answer is written and the connection closing, but the bytes cannot leave."""
    large = b'"%b"' % (b"z" * 900_000)
    async with (
        scripted_engine(answering(large)) as engine,
        serving(
            pool("p", engine), send_bytes=WINDOW_BYTES, limits=Limits(keep_alive_s=0.3)
        ) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as one,
    ):
        one.stop_reading()
        await one.send(request(chat(), {"connection": "close"}))
        await engine.arrivals.get()
        await until(lambda: not router.held)

        assert [line["outcome"] for line in router.log] == ["completed"]


async def test_a_page_that_is_never_read_is_let_go_of():
    models = [f"model-{number}" for number in range(10_000)]
    async with (
        serving(
            pool("p", "http://127.0.0.1:9", models=models), limits=Limits(keep_alive_s=0.3)
        ) as router,
        caller(router.port, window_bytes=WINDOW_BYTES) as one,
    ):
        one.stop_reading()
        await one.send(b"GET /v1/models HTTP/1.1\r\nhost: r\r\n\r\n" * 4)
        await until(lambda: router.router.door.connections != set())
        await until(lambda: router.router.door.connections == set())
