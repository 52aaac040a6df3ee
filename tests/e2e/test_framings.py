"""However an engine frames its answer and whatever a caller speaks, the answer arrives whole."""

import asyncio
import json

import pytest

from policies.facts import Ending
from router.attempt import MAX_HELD_BYTES
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.scripted import DONE, answering, saying, scripted_engine, streaming

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: "
SSE = HEAD + b"text/event-stream\r\n"
JSON = HEAD + b"application/json\r\n"
EVENTS = b'data: {"a":1}\n\ndata: {"b":2}\n\n' + DONE
LARGE = b'{"x":"%b"}' % (b"y" * (MAX_HELD_BYTES + 300_000))


def chunked(*parts):
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def close(call):
    call.close()


def keep(call):
    pass


STREAMS = [
    pytest.param([SSE + b"transfer-encoding: chunked\r\n\r\n", chunked(EVENTS)], keep, id="chunked"),
    pytest.param(
        [SSE + b"transfer-encoding: chunked\r\n\r\n" + chunked(EVENTS[:7], EVENTS[7:])],
        keep, id="events across chunks, all in one",
    ),
    pytest.param([SSE + b"content-length: %d\r\n\r\n" % len(EVENTS), EVENTS], keep, id="fixed length"),
    pytest.param([SSE + b"\r\n", EVENTS[:20], EVENTS[20:]], close, id="until the connection ends"),
    pytest.param([b"HTTP/1.0" + (SSE + b"\r\n")[8:] + EVENTS], close, id="HTTP/1.0"),
    pytest.param(
        [b"HTTP/1.1 100 Continue\r\n\r\n" + SSE + b"transfer-encoding: chunked\r\n\r\n"
         + chunked(EVENTS)],
        keep, id="after an interim answer",
    ),
    pytest.param(
        [b"\r\n".join((SSE + b"transfer-encoding: chunked\r\n", chunked(EVENTS)[:-2] + b"x: y\r\n", b""))],
        keep, id="with trailers",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "then"), STREAMS)
@pytest.mark.parametrize("receipt", [False, True], ids=["as it came", "with a receipt"])
async def test_a_stream_arrives_whole_in_whatever_framing(parts, then, receipt):
    async with (
        scripted_engine(saying(*parts, then=then)) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        answer = await one.ask(chat(stream=True), {"x-sla-receipt": "1"} if receipt else None)
        again = await one.ask(chat(stream=True))

        assert answer.events == again.events == [b'{"a":1}', b'{"b":2}', b"[DONE]"]
        assert answer.body.count(b": sla ") == receipt
        assert receipt or answer.body == EVENTS


@pytest.mark.parametrize(("parts", "then"), STREAMS)
async def test_a_stream_cut_anywhere_arrives_whole(parts, then):
    """One byte at a time, so that every cut there is, is made."""
    text = b"".join(parts)

    async def dripping(call):
        for at in range(len(text)):
            await call.say(text[at : at + 1])
            await asyncio.sleep(0)
        then(call)

    async with scripted_engine(dripping) as engine, serving(pool("p", engine)) as router:
        answer = await ask(router.port, chat(stream=True))

    assert answer.body == EVENTS


@pytest.mark.parametrize(("parts", "then"), STREAMS)
async def test_a_caller_of_http_1_0_gets_a_stream_without_framing(parts, then):
    async with (
        scripted_engine(saying(*parts, then=then)) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat(stream=True), version="1.0"))
        head, _, body = (await one.raw()).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ntransfer-encoding" not in head
    assert b"\r\nconnection: close" in head
    assert body == EVENTS


@pytest.mark.parametrize("body", [b'{"ok":1}', b"", LARGE], ids=["small", "empty", "large"])
@pytest.mark.parametrize(
    ("framed", "then"),
    [
        pytest.param(lambda body: b"content-length: %d\r\n\r\n" % len(body) + body, keep, id="length"),
        pytest.param(
            lambda body: b"transfer-encoding: chunked\r\n\r\n"
            + (chunked(body) if body else b"0\r\n\r\n"),
            keep, id="chunked",
        ),
        pytest.param(lambda body: b"\r\n" + body, close, id="until the connection ends"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_plain_answer_arrives_whole_in_whatever_framing(body, framed, then, version):
    async with (
        scripted_engine(saying(JSON + framed(body), then=then)) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat(), {"connection": "close"}, version=version))
        answer = await one.answer()

        assert answer.status == 200
        assert answer.body == body
        assert await one.ended() == b""
        assert router.log[0]["outcome"] == Ending.COMPLETED


async def test_an_answer_without_a_body_stays_without_one():
    async with (
        scripted_engine(saying(b"HTTP/1.1 204 No Content\r\n\r\n")) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        answers = [await one.ask(chat()) for _ in range(2)]

    assert [(answer.status, answer.body) for answer in answers] == [(204, b"")] * 2


async def test_requests_sent_ahead_are_answered_in_order():
    async def echo(call):
        user = json.loads(call.body)["user"].encode()
        if len(user) % 2:
            await streaming(user)(call)
        else:
            await call.say_json(user)

    users = ["a", "bb", "ccc", "dddd", "e"]
    async with (
        scripted_engine(echo) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(*[request(chat(user=user)) for user in users])
        answers = [await one.answer() for _ in users]

    assert [user.encode() in answer.body for user, answer in zip(users, answers, strict=True)] == [
        True
    ] * len(users)


async def test_a_refusal_among_requests_sent_ahead_takes_its_turn():
    async with (
        scripted_engine(answering(b"{}")) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat()), request(chat(model="x")), request(b"{"), request(chat()))
        answers = [await one.answer() for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 404, 400, 200]


async def test_pages_and_inference_share_a_connection():
    async with (
        scripted_engine(answering(b"{}")) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        page = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
        await one.send(page, request(chat()), page, request(chat()))
        answers = [await one.answer() for _ in range(4)]

    assert [answer.body for answer in answers] == [b'{"status":"ok"}', b"{}"] * 2


async def test_a_large_request_arrives_whole():
    document = chat(user="x" * 3_000_000)
    async with (
        scripted_engine(answering(b"{}")) as engine,
        serving(pool("p", engine)) as router,
    ):
        await ask(router.port, document)

        assert json.loads(engine.calls[0].body) == document


@pytest.mark.parametrize("line_end", [b"\n", pytest.param(b"\r\n", id="carriage returns")])
async def test_an_event_whose_blank_line_was_cut_is_passed_on_when_it_is_whole(line_end):
    """Else it would wait for the event after it: a token late, and the last one lost in a break."""
    first, second = asyncio.Event(), asyncio.Event()

    async def script(call):
        await call.say(SSE + b"\r\n" + b"data: 0" + 2 * line_end)
        await first.wait()
        await call.say(b"data: 1" + line_end + line_end[:-1])
        await second.wait()
        await call.say(line_end[-1:])
        await asyncio.Event().wait()

    async with (
        scripted_engine(script) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat(stream=True)))
        await one.begin()
        await one.read_until(b"data: 0")
        first.set()
        (exchange,) = router.router.door.active
        attempt = exchange._attempt
        assert attempt is not None
        await until(lambda: attempt._held != [])
        second.set()
        await one.read_until(b"data: 1" + 2 * line_end)


async def test_a_router_that_is_asked_for_leave_to_send_gives_it():
    async with (
        scripted_engine(answering(b"{}")) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        head, _, body = request(chat(), {"expect": "100-continue"}).partition(b"\r\n\r\n")
        await one.send(head + b"\r\n\r\n")
        await one.leave_to_send()
        await one.send(body)
        answer = await one.answer()

        assert answer.status == 200
        assert engine.calls[0].header("expect") is None
