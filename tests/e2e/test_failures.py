"""What becomes of a request whose engine refuses, fails or falls silent, at every moment of it."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import h11
import pytest

from engines.engine import Kind
from policies.policy import HealthPolicy, Policy, RetryPolicy
from router.attempt import MAX_HELD_BYTES
from router.settings import Timeouts
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.mute import mute_engine
from tests.fakes.scripted import (
    STREAM_HEAD,
    answering,
    saying,
    scripted_engine,
    silence,
    streaming,
)

OK = answering(b'{"ok":1}')
STREAM = streaming(b'{"a":1}')
PLAIN_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SOON = Timeouts(first_token_s=0.2, answer_s=0.2, idle_s=0.2)
SGLANG_BUSY = (
    b'{"error": {"object": "error", "message": "The request queue is full.", "code": 503}}'
)


def reset(call):
    call.reset()


def close(call):
    call.close()


def keep(call):
    pass


BEFORE_THE_ANSWER = [
    pytest.param(saying(then=close), id="closed"),
    pytest.param(saying(then=reset), id="reset"),
    pytest.param(saying(b"garbage\r\n\r\n"), id="garbage"),
    pytest.param(saying(b"HTTP/1.1 200 OK\r\ncontent-le", then=close), id="cut in its head"),
    pytest.param(saying(PLAIN_HEAD + b"content-length: 9\r\n\r\n{", then=close), id="cut when plain"),
    pytest.param(saying(STREAM_HEAD + b"10\r\ndata: ", then=close), id="cut in its first event"),
    pytest.param(saying(STREAM_HEAD + b"zz\r\n"), id="garbage for a chunk"),
    pytest.param(saying(STREAM_HEAD + b"0\r\n\r\n"), id="a stream of nothing"),
    pytest.param(answering(b"oops", b"500 Internal Server Error"), id="500"),
    pytest.param(answering(b"busy", b"503 Service Unavailable"), id="503"),
    pytest.param(answering(b"busy", b"429 Too Many Requests"), id="429"),
    pytest.param(answering(b"", b"302 Found"), id="a redirection"),
    pytest.param(streaming(SGLANG_BUSY), id="refused inside a 200"),
    pytest.param(streaming(b'{"error":{"message":"x","code":500}}'), id="failed inside a 200"),
    pytest.param(silence, id="silent"),
]  # fmt: skip


@pytest.mark.parametrize("script", BEFORE_THE_ANSWER)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_what_fails_before_its_answer_is_answered_by_another(script, stream):
    async with (
        scripted_engine(script) as bad,
        scripted_engine(STREAM if stream else OK) as good,
        serving(pool("p", bad, good, slots=1), timeouts=SOON) as router,
    ):
        # Which of the two is asked first is left to chance: one that holds a request is not.
        async with caller(router.port) as holder:
            answers = []
            while not bad.calls:
                answers.append(await ask(router.port, chat(stream=stream)))
            holder.hang_up()

        answer = answers[-1]
        assert answer.status == 200
        assert answer.header("x-sla-reason") == "retry"
        assert answer.header("x-sla-endpoint") == "p-1"
        assert answer.body == (b'data: {"a":1}\n\ndata: [DONE]\n\n' if stream else b'{"ok":1}')
        assert router.log[-1]["attempts"] == 2


async def test_a_request_that_is_wrong_is_asked_once():
    wrong = answering(b'{"error":{"message":"bad top_p","param":"top_p"}}', b"400 Bad Request")
    async with (
        scripted_engine(wrong) as one,
        scripted_engine(wrong) as two,
        serving(pool("p", one, two)) as router,
    ):
        answer = await ask(router.port, chat())

        assert (answer.status, answer.error["param"]) == (400, "top_p")
        assert len(one.calls) + len(two.calls) == 1
        assert router.log[0]["outcome"] == "rejected"


async def test_busy_everywhere_is_a_429_that_says_when_to_come_back():
    busy = answering(b"busy", b"503 Service Unavailable")
    async with (
        scripted_engine(busy) as one,
        scripted_engine(streaming(SGLANG_BUSY)) as two,
        serving(pool("p", one, two)) as router,
    ):
        answer = await ask(router.port, chat(stream=True))

        assert answer.status == 429
        assert answer.error["code"] == "saturated"
        assert answer.error["type"] == "rate_limit_error"
        assert 1 <= int(answer.header("retry-after") or 0) <= 30
        assert answer.header("x-sla-dropped-reason") == "rejected-saturated"
        assert len(one.calls) == len(two.calls) == 1


async def test_failing_everywhere_is_told_in_the_engines_words():
    async with (
        scripted_engine(answering(b"out of memory", b"500 Internal Server Error")) as engine,
        serving(pool("p", engine)) as router,
    ):
        answer = await ask(router.port, chat())

    assert answer.status == 502
    assert answer.error["code"] == "engine_failed"
    assert "out of memory" in str(answer.error["message"])


@pytest.mark.parametrize("then", [close, reset], ids=["closed", "reset"])
async def test_a_kept_connection_that_was_closed_meanwhile_is_not_seen_by_the_caller(then):
    """The only engine closes each kept connection just as the next request comes on it."""
    async with (
        scripted_engine(OK, saying(then=then), OK, saying(then=then), STREAM) as engine,
        serving(
            pool("p", engine),
            # Not even a retry budget stands in the way of the first time.
            policy=replace(Policy(), retry=RetryPolicy(max_attempts=1)),
        ) as router,
    ):
        answers = [await ask(router.port, chat()) for _ in range(3)]

        assert [answer.status for answer in answers] == [200] * 3
        assert len(engine.calls) == 5
        assert router.router.dispatcher.endpoints["p-0"].failed == 0


async def test_an_engine_that_closes_whatever_it_accepts_is_not_waited_for():
    """It may close before the request was written: nothing would ever be heard of that one."""

    async def slam(_, writer):
        writer.transport.abort()

    door = await asyncio.start_server(slam, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{door.sockets[0].getsockname()[1]}"
    policy = replace(Policy(), retry=RetryPolicy(max_attempts=1))
    async with serving(pool("p", url), policy=policy) as router:
        answers = [await ask(router.port, chat()) for _ in range(50)]
        held = router.router.door.endpoints["p-0"].pool.open_connections
    door.close()

    assert {answer.status for answer in answers} <= {502, 503}
    assert held == 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_an_engine_that_stays_silent_is_given_up_on(stream):
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine), timeouts=SOON) as router,
    ):
        answer = await ask(router.port, chat(stream=stream))
        await engine.hang_ups.get()

        assert answer.status == 504
        assert answer.error["code"] == "engine_timeout"
        assert "0.2 s" in str(answer.error["message"])


async def test_an_engine_that_accepts_and_does_not_shake_hands_is_given_up_on():
    """Connecting may take longer than the answer may."""
    async with (
        mute_engine() as engine,
        serving(pool("p", engine.url), timeouts=Timeouts(answer_s=0.2)) as router,
    ):
        await engine.probed.wait()
        answer = await ask(router.port, chat())
        await engine.let_go.wait()

        assert answer.status == 504
        assert router.router.door.endpoints["p-0"].pool.open_connections == 0


async def test_a_first_event_larger_than_is_held_is_no_answer():
    async def huge(call):
        await call.begin_stream()
        await call.say_chunk(b"data: " + b"x" * (MAX_HELD_BYTES + 1))
        await asyncio.Event().wait()

    async with scripted_engine(huge) as engine, serving(pool("p", engine)) as router:
        answer = await ask(router.port, chat(stream=True))
        await engine.hang_ups.get()

    assert answer.status == 502
    assert "larger than 1 MiB" in str(answer.error["message"])


async def test_comments_before_the_first_event_are_no_answer_yet():
    """An engine keeps its connection alive with them while the request queues there."""

    async def queued_in_vain(call):
        await call.begin_stream()
        await call.say_chunk(b": waiting\n\n")
        await call.say_chunk(b"data: %b\n\n" % SGLANG_BUSY)
        await call.end_stream()

    async def queued(call):
        await call.begin_stream()
        await call.say_chunk(b": waiting\n\n")
        await call.say_chunk(b'data: {"a":1}\n\n')
        await call.end_stream()

    async with (
        scripted_engine(queued_in_vain) as full,
        scripted_engine(queued) as free,
        serving(pool("p", full), pool("q", free)) as router,
    ):
        while not full.calls:
            answer = await ask(router.port, chat(stream=True))

    assert answer.status == 200
    assert answer.body == b': waiting\n\ndata: {"a":1}\n\ndata: [DONE]\n\n'
    assert answer.header("x-sla-reason") == "retry"


class FaultyExchange:
    """Raises when its timeouts are looked at."""

    def check(self, now):
        raise ZeroDivisionError


async def test_a_fault_of_our_own_in_one_request_does_not_stop_the_time_of_others(caplog):
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine), timeouts=SOON) as router,
        caller(router.port) as one,
    ):
        faulty: Any = FaultyExchange()
        active = router.router.door.active
        active.add(faulty)
        await until(lambda: "sweep broke" in caplog.text)
        active.discard(faulty)
        answer = await one.ask(chat())

    assert answer.status == 504


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
async def test_a_request_that_takes_too_long_altogether_is_ended(stream):
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine), timeouts=Timeouts(total_s=0.2)) as router,
    ):
        answer = await ask(router.port, chat(stream=stream))
        await engine.hang_ups.get()

        assert answer.status == 504
        assert answer.error["code"] == "engine_timeout"
        assert len(engine.calls) == 1


EVENT = b'data: {"a":1}\n\n'
CHUNK = b"f\r\n" + EVENT + b"\r\n"
OF_A_LENGTH = STREAM_HEAD.replace(b"transfer-encoding: chunked", b"content-length: 99")
IN_A_STREAM = [
    pytest.param(STREAM_HEAD + CHUNK, b"", close, id="closed between events"),
    pytest.param(STREAM_HEAD + CHUNK, b"f\r\ndata: {", close, id="closed in a chunk"),
    pytest.param(STREAM_HEAD + CHUNK, b"7\r\ndata: {\r\n", close, id="closed in an event"),
    pytest.param(STREAM_HEAD + CHUNK, b"f\r", close, id="closed in a chunk's size"),
    pytest.param(STREAM_HEAD + CHUNK, b"0\r\n", close, id="closed in its end"),
    pytest.param(OF_A_LENGTH + EVENT, b"data: {", close, id="of a length, closed in an event"),
    pytest.param(STREAM_HEAD + CHUNK, b"zz\r\n", keep, id="garbage for a chunk"),
    pytest.param(STREAM_HEAD + CHUNK, b"7\r\ndata: {\r\n", reset, id="reset"),
]


@pytest.mark.parametrize(("good", "bad", "then"), IN_A_STREAM)
@pytest.mark.parametrize("receipt", [False, True], ids=["as it came", "edited"])
async def test_a_stream_that_breaks_ends_with_one_error_behind_its_last_whole_event(
    good, bad, then, receipt
):
    seen = asyncio.Event()

    async def breaking(call):
        await call.say(good)
        await seen.wait()
        await call.say(bad)
        then(call)

    async with (
        scripted_engine(breaking) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        headers = {"x-sla-receipt": "1"} if receipt else None
        await one.send(request(chat(stream=True), headers))
        head = await one.begin()
        first = await one.read_until(EVENT)
        seen.set()
        rest = await one.rest()

        assert head.status_code == 200
        assert first == EVENT
        name, data = rest[:6], rest[6:]
        assert name == b"data: "
        error = json.loads(data)["error"]
        assert (error["code"], error["type"]) == ("engine_lost", "server_error")
        assert await one.ended() == b""
        assert router.log[0]["outcome"] == "failed"
        assert router.log[0]["status"] == 200
        assert len(engine.calls) == 1


@pytest.mark.parametrize(
    ("good", "bad", "then"), [case for case in IN_A_STREAM if case.values[2] is close]
)
@pytest.mark.parametrize("receipt", [False, True], ids=["as it came", "edited"])
async def test_whole_events_are_not_lost_with_the_half_one_that_came_with_them(
    good, bad, then, receipt
):
    async with (
        scripted_engine(saying(good + bad, then=then)) as engine,
        serving(pool("p", engine)) as router,
    ):
        answer = await ask(
            router.port, chat(stream=True), {"x-sla-receipt": "1"} if receipt else None
        )

    assert answer.events[0] == b'{"a":1}'
    assert json.loads(answer.events[1])["error"]["code"] == "engine_lost"
    assert len(answer.events) == 2


async def test_a_stream_that_stands_still_is_ended():
    async def stuck(call):
        await call.begin_stream()
        await call.say_chunk(EVENT)
        await asyncio.Event().wait()

    async with (
        scripted_engine(stuck) as engine,
        serving(pool("p", engine), timeouts=SOON) as router,
    ):
        answer = await ask(router.port, chat(stream=True))
        await engine.hang_ups.get()

        assert b"silent for 0.2 s" in answer.events[-1]


async def test_a_stream_that_goes_on_for_too_long_altogether_is_ended():
    async def endless(call):
        await call.begin_stream()
        while True:
            await call.say_chunk(EVENT)
            await asyncio.sleep(0.005)

    async with (
        scripted_engine(endless) as engine,
        serving(pool("p", engine), timeouts=Timeouts(total_s=0.3)) as router,
    ):
        answer = await ask(router.port, chat(stream=True))
        await engine.hang_ups.get()

        assert b"not complete within 0.3 s" in answer.events[-1]


async def test_a_broken_stream_of_messages_ends_with_an_error_that_anthropics_client_hears():
    """It passes over events that have no name."""
    async with (
        scripted_engine(saying(STREAM_HEAD + CHUNK, then=close)) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat(stream=True, max_tokens=9), path="/v1/messages"))
        answer = await one.answer()

    *_, last = answer.body.removesuffix(b"\n\n").split(b"\n\n")
    name, data = last.split(b"\n")
    assert name == b"event: error"
    error = json.loads(data.removeprefix(b"data: "))
    assert error["type"] == "error"
    assert error["error"]["type"] == "api_error"


@pytest.mark.parametrize(
    "length", [b"content-length: 9000000\r\n\r\n", b""], ids=["fixed", "chunked"]
)
async def test_a_large_plain_answer_that_breaks_cannot_be_taken_for_a_whole_one(length):
    part = b"x" * (MAX_HELD_BYTES + 10)
    if length:
        text = length + part
    else:
        text = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(part), part)
    async with (
        scripted_engine(saying(PLAIN_HEAD + text, then=close)) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat()))
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            await one.answer()

        await until(lambda: not router.held)
        assert router.log[0]["outcome"] == "failed"


@pytest.mark.parametrize("receipt", [False, True], ids=["as it came", "edited"])
async def test_an_event_larger_than_is_held_that_breaks_cannot_be_taken_for_a_whole_one(receipt):
    """Half of it went to the caller already, so that no error can follow it."""

    async def huge(call):
        await call.say(STREAM_HEAD + CHUNK)
        await call.say_chunk(b"data: ")
        for _ in range(3 * MAX_HELD_BYTES // 50_000):
            await call.say_chunk(b"x" * 50_000)
        call.close()

    async with (
        scripted_engine(huge) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat(stream=True), {"x-sla-receipt": "1"} if receipt else None))
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            await one.answer()
        await until(lambda: not router.held)

        assert router.log[0]["outcome"] == "failed"


VLLM_LATE = b'{"error":{"message":"EngineCore died","type":"InternalServerError","code":500}}'
TGI_LATE = b'{"error":"Request failed during generation: oom","error_type":"generation"}'


@pytest.mark.parametrize(
    ("kind", "late", "says"),
    [(Kind.VLLM, VLLM_LATE, "EngineCore died"), (Kind.TGI, TGI_LATE, "generation: oom")],
    ids=["vllm", "tgi"],
)
async def test_an_error_that_an_engine_tells_in_its_stream_is_one_and_counts_against_it(
    kind, late, says
):
    async with (
        scripted_engine(streaming(b'{"choices":[]}', late)) as engine,
        serving(pool("p", engine, kind=kind)) as router,
    ):
        answer = await ask(router.port, chat(stream=True))

        error = json.loads(answer.events[1])["error"]
        assert says in error["message"]
        assert answer.events[2:] == [b"[DONE]"]
        assert router.log[0]["outcome"] == "failed"
        assert router.router.dispatcher.endpoints["p-0"].failed == 1


@pytest.mark.parametrize("depth", [100, 300, 900, 1100])
async def test_a_body_too_deep_to_be_written_anew_is_the_callers_to_mend(depth):
    """TGI's requests are rewritten, and what can be read need not be writable."""
    nested = b"[" * depth + b"]" * depth
    body = b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":%b}' % nested
    async with (
        scripted_engine(OK) as engine,
        serving(pool("p", engine, kind=Kind.TGI)) as router,
        caller(router.port) as one,
    ):
        answer = await one.ask(body)
        following = await one.ask(chat())

        assert answer.status == (200 if depth == 100 else 400)
        assert depth == 100 or answer.error["code"] == "invalid_json"
        assert following.status == 200


async def test_an_endpoint_that_fails_again_and_again_is_left_alone_and_then_tried_with_one():
    policy = replace(Policy(), health=HealthPolicy(failures_to_down=2, back_off_s=0.2))
    broken = answering(b"", b"500 Internal Server Error")
    async with (
        scripted_engine(broken, broken, OK) as sick,
        scripted_engine(OK) as well,
        serving(pool("p", sick, well), policy=policy) as router,
    ):
        endpoint = router.router.dispatcher.endpoints["p-0"]
        while endpoint.health.hopeful:
            assert (await ask(router.port, chat())).status == 200
        while len(sick.calls) < 3:
            assert (await ask(router.port, chat())).status == 200

        assert endpoint.health.hopeful
        assert not endpoint.health.trying


async def test_the_routers_own_key_is_not_told_where_an_engine_repeats_it():
    refusal = answering(b'{"error":{"message":"wrong key sk-of-the-router"}}', b"400 Bad")
    async with (
        scripted_engine(refusal) as engine,
        serving(pool("p", engine), api_keys={"p-0": "sk-of-the-router"}) as router,
    ):
        answer = await ask(router.port, chat())

    assert answer.error["message"] == "wrong key (the key)"
