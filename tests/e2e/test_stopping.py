"""The router stops as a good neighbour does: answers end, and nobody is left without a word."""

import asyncio
import json
import os
import signal
import socket
from typing import Any

import pytest

from engines.launch.child import child
from router.settings import Limits
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.scripted import answering, scripted_engine, silence

EVENT = b"data: {}\n\n"
CONFIGURATION = """
[server]
port = {port}
access_log = "{log}"
[server.limits]
drain_s = {drain_s}
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
max_in_flight = 2
endpoints = [{{ engine = "openai", url = "{url}" }}]
"""


class Streams:
    """Streams that go on until they are told to end."""

    def __init__(self):
        self.end = asyncio.Event()

    async def __call__(self, call):
        await call.begin_stream()
        await call.say_chunk(EVENT)
        await self.end.wait()
        await call.end_stream()


class Process:
    """The router in a process of its own."""

    def __init__(self, running, port, log):
        self._running = running
        self.port = port
        self._log = log

    def signal(self, number=signal.SIGTERM):
        os.kill(self._running.pid, number)

    async def exit_code(self):
        await until(lambda: self._running.exit_code is not None)
        return self._running.exit_code

    @property
    def log(self):
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def is_listening(self):
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
async def streams():
    return Streams()


@pytest.fixture
async def engine(streams):
    async with scripted_engine(streams) as engine:
        yield engine


@pytest.fixture(params=[30.0])
async def router(request, engine, tmp_path):
    """A process that has started to serve."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path, log = tmp_path / "headway.toml", tmp_path / "requests"
    path.write_text(CONFIGURATION.format(port=port, log=log, url=engine.url, drain_s=request.param))
    with child("router", ["serve", str(path)], tmp_path / "states") as running:
        process = Process(running, port, log)
        await until(process.is_listening)
        yield process


async def begin(one):
    """Start a stream and see it begin."""
    await one.send(request(chat(stream=True)))
    await one.begin()
    await one.read_until(EVENT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_streams_end_and_then_the_router_does(number, router, streams):
    async with caller(router.port) as one, caller(router.port) as idle:
        await begin(one)
        await idle.send(b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n")
        await idle.answer()
        router.signal(number)
        await idle.ended()
        refused = not router.is_listening()
        streams.end.set()
        rest = await one.rest()

        assert refused
        assert rest == b"data: [DONE]\n\n"
        assert await router.exit_code() == 0
        assert [line["outcome"] for line in router.log] == ["completed"]


@pytest.mark.parametrize("router", [0.5], indirect=True)
async def test_streams_that_do_not_end_in_time_are_ended_with_an_error(router, engine):
    async with caller(router.port) as one:
        await begin(one)
        router.signal()
        rest = await one.rest()
        await engine.hang_ups.get()

        error = json.loads(rest.removeprefix(b"data: "))["error"]
        assert error["code"] == "shutting_down"
        assert await router.exit_code() == 0
        assert [line["outcome"] for line in router.log] == ["failed"]


@pytest.mark.parametrize("router", [0.2], indirect=True)
async def test_who_waits_when_the_router_stops_is_told_to_come_back(router, engine):
    async with caller(router.port) as one, caller(router.port) as two, caller(router.port) as late:
        await begin(one)
        await begin(two)
        await late.send(request(chat(stream=True)))
        await until(lambda: len(engine.calls) == 2)
        # An answer on another connection: by then the request before it was read.
        async with caller(router.port) as other:
            await other.send(b"GET /metrics HTTP/1.1\r\nhost: r\r\n\r\n")
            page = await other.answer()
        router.signal()
        answer = await late.answer()

        assert b'headway_waiting{class="standard"} 1.0' in page.body
        assert answer.status == 503
        assert answer.error["code"] == "shutting_down"
        assert answer.header("retry-after") == "1"
        assert len(engine.calls) == 2
        assert await router.exit_code() == 0


async def test_who_was_not_answered_yet_is_told_to_come_back():
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat()))
        await engine.arrivals.get()
        router.router.door.stop()
        answer = await one.answer()

        assert answer.status == 503
        assert answer.error["code"] == "shutting_down"
        assert await engine.hang_ups.get() is engine.calls[0]
        assert router.router.dispatcher.endpoints["p-0"].failed == 0


async def test_a_router_that_was_told_to_stop_is_not_ready():
    async with scripted_engine(silence) as engine, serving(pool("p", engine)) as router:
        before = router.router.overview.readiness().is_ready
        await router.server.shutdown()

        assert before
        assert not router.router.overview.readiness().is_ready


class FaultyEngine:
    """Raises on what it should prepare."""

    def prepare(self, question, dialect):
        raise ZeroDivisionError


async def test_a_fault_of_our_own_costs_its_connection_and_no_slot():
    loop = asyncio.get_running_loop()
    handler, faults = loop.get_exception_handler(), []
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine, slots=1)) as router,
        caller(router.port) as one,
    ):
        endpoint: Any = router.router.door.endpoints["p-0"]
        endpoint.engine = FaultyEngine()
        loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        try:
            await one.send(request(chat()))
            said = await one.raw()
        finally:
            loop.set_exception_handler(handler)

        assert said == b""
        assert [type(fault) for fault in faults] == [ZeroDivisionError]
        assert router.held == {}


async def test_a_router_says_that_it_is_not_ready_before_it_stops_to_listen():
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine), limits=Limits(unready_s=0.3)) as router,
        asyncio.TaskGroup() as group,
    ):
        stopping = group.create_task(router.server.shutdown())
        await until(lambda: router.router.overview.draining)
        async with caller(router.port) as one:
            await one.send(b"GET /readyz HTTP/1.1\r\nhost: r\r\n\r\n")
            answer = await one.answer()
        stopped = stopping.done()

        assert answer.status == 503
        assert answer.document["draining"] is True
        assert not stopped


async def test_a_second_signal_does_not_wait_for_whoever_is_in_front():
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine), limits=Limits(unready_s=3600.0)) as router,
    ):
        router.server.force_exit = True
        await router.server.shutdown()


async def test_an_overloaded_router_sheds_bulk_and_serves_the_rest():
    async with (
        scripted_engine(answering(b"{}")) as engine,
        serving(pool("p", engine)) as router,
    ):
        for _ in range(3):
            router.router.door.overload.observe(1.0)
        shed = await ask(router.port, chat(), {"x-sla-class": "bulk"})
        served = await ask(router.port, chat(), {"x-sla-class": "standard"})

        assert (shed.status, served.status) == (429, 200)
        assert shed.error["code"] == "saturated"
        assert shed.header("retry-after") == "2"
