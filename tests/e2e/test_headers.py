"""What passes between caller and engine, what stays in the router, and what the router adds."""

import json
import re

import pytest

from policies.facts import Profile
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, serving
from tests.fakes.scripted import answering, saying, scripted_engine, streaming

OK = answering(b'{"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}')
USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
STREAM = streaming(b'{"a":1}', b'{"b":2}', USAGE)

OURS = {
    "x-sla-class": "interactive",
    "x-sla-ttft-ms": "300",
    "x-sla-tpot-ms": "30",
    "x-sla-deadline-ms": "9000",
    "x-sla-on-miss": "serve",
    "x-sla-queue": "allow",
    "x-sla-receipt": "1",
    "x-slo-ttft-ms": "300",
    "x-tenant-id": "t",
    "x-session-id": "s",
    "x-vllm-priority": "1",
    "x-smg-priority": "default",
    "priority": "u=2",
    "prefer": "wait=9",
    "grpc-timeout": "9S",
    "x-stainless-read-timeout": "9",
    "x-override-priority": "99",
    "x-llm-d-inference-objective": "o",
}
HOP_BY_HOP = {
    "connection": "keep-alive, x-nominated",
    "x-nominated": "1",
    "keep-alive": "timeout=5",
    "te": "trailers",
    "trailer": "x-sum",
    "proxy-authorization": "Basic cm91dGVy",
    "proxy-connection": "keep-alive",
    "upgrade": "h2c",
    "accept-encoding": "gzip",
}
THEIRS = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "a=b",
    "content-type": "application/json",
    "user-agent": "caller/1",
    "authorization": "Bearer the-callers",
    "x-stainless-lang": "python",
    "cookie": "a=b",
}


async def seen_by_engine(headers, **settings):
    """Return the headers that an engine gets of a request with these."""
    async with (
        scripted_engine(OK) as engine,
        serving(pool("p", engine), **settings) as router,
    ):
        answer = await ask(router.port, chat(), headers)
        assert answer.status == 200
        return engine.calls[0], answer


async def test_the_engine_gets_the_callers_own_headers_and_none_of_ours():
    call, answer = await seen_by_engine(OURS | THEIRS | HOP_BY_HOP)

    passed = dict(call.headers)
    assert len(passed) == len(call.headers)
    assert passed.pop("x-request-id") == answer.header("x-request-id")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", passed.pop("host"))
    assert passed.pop("content-length") == str(len(call.body))
    assert passed == THEIRS


@pytest.mark.parametrize("given", [None, "text/plain", "application/json; charset=utf-8"])
async def test_an_engine_is_told_that_json_is_json(given):
    """The router reads it as such, and vLLM takes nothing that is called otherwise."""
    call, _ = await seen_by_engine({"content-type": given} if given else {})

    assert call.header("content-type") == "application/json"


async def test_the_body_goes_through_untouched():
    body = b'{ "model" : "m", "messages":[{"role":"user","content":"\\u00e9 \xf0\x9f\x99\x82"}],"x":1e400}'
    body = body.replace(b"1e400", b"1e3")
    async with scripted_engine(OK) as engine, serving(pool("p", engine)) as router:
        await ask(router.port, body)

        assert engine.calls[0].body == body


async def test_the_endpoints_own_key_takes_the_place_of_the_callers():
    headers = {"authorization": "Bearer the-callers", "x-api-key": "the-callers"}
    call, _ = await seen_by_engine(headers, api_keys={"p-0": "the-endpoints"})

    assert call.header("authorization") == "Bearer the-endpoints"
    assert call.header("x-api-key") is None


async def test_a_key_that_the_engine_refuses_is_the_callers_where_it_is():
    refused = answering(b'{"error":"no"}', b"401 Unauthorized")
    async with scripted_engine(refused) as engine:
        async with serving(pool("p", engine)) as router:
            theirs = await ask(router.port, chat(), {"authorization": "Bearer wrong"})
        async with serving(pool("p", engine), api_keys={"p-0": "ours"}) as router:
            ours = await ask(router.port, chat(), {"authorization": "Bearer theirs"})

    assert (theirs.status, theirs.error["code"]) == (401, "invalid_api_key")
    assert (ours.status, ours.error["code"]) == (502, "engine_unauthorized")


@pytest.mark.parametrize("given", ["my-own-id", None])
async def test_a_request_has_one_id_everywhere(given):
    async with scripted_engine(OK) as engine, serving(pool("p", engine)) as router:
        answer = await ask(router.port, chat(), {"x-request-id": given} if given else None)

        id_ = answer.header("x-request-id")
        assert id_
        assert given is None or id_ == given
        assert engine.calls[0].header("x-request-id") == id_
        assert router.log[0]["request_id"] == id_


async def test_an_error_has_the_requests_id_too():
    async with scripted_engine(OK) as engine, serving(pool("p", engine)) as router:
        answer = await ask(router.port, chat(model="x"), {"x-request-id": "mine"})

        assert answer.status == 404
        assert answer.header("x-request-id") == "mine"


ENGINES_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: engine\r\n"
    b"x-compute-time: 7\r\nset-cookie: a=b\r\nset-cookie: c=d\r\n"
    b"connection: keep-alive, x-nominated\r\nx-nominated: 1\r\nkeep-alive: timeout=5\r\n"
    b"proxy-authenticate: Basic\r\ntrailer: x-sum\r\nx-request-id: the-engines\r\n"
)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"content-length: 2\r\n\r\n{}", id="fixed length"),
        pytest.param(b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", id="chunked"),
    ],
)
async def test_the_caller_gets_the_engines_own_headers_and_none_of_the_connections(body):
    async with (
        scripted_engine(saying(ENGINES_HEAD + body)) as engine,
        serving(pool("p", engine)) as router,
    ):
        answer = await ask(router.port, chat(), {"x-request-id": "mine"})

    theirs = [pair for pair in answer.headers if not pair[0].startswith(("x-sla", "server-t"))]
    assert theirs == [
        ("content-type", "application/json"),
        ("server", "engine"),
        ("x-compute-time", "7"),
        ("set-cookie", "a=b"),
        ("set-cookie", "c=d"),
        ("x-request-id", "mine"),
        ("content-length", "2"),
    ]


async def test_a_plain_answer_tells_where_it_was_made_and_how_long_it_took():
    async with (
        scripted_engine(OK) as engine,
        serving(pool("home", engine, profile=Profile.PREDICTABLE)) as router,
        caller(router.port) as one,
    ):
        first = await one.ask(chat(), {"x-sla-class": "interactive"})
        second = await one.ask(chat(), {"x-sla-class": "interactive"})

    assert first.header("x-sla-pool") == "home"
    assert first.header("x-sla-endpoint") == "home-0"
    assert first.header("x-sla-queue-ms") == "0.0"
    ms = r";dur=\d+\.\d"
    timing = first.header("server-timing") or ""
    assert re.fullmatch(f"queue{ms}, connect{ms}, total{ms}", timing)
    assert re.fullmatch(f"queue{ms}, total{ms}", second.header("server-timing") or "")


async def test_a_stream_tells_when_its_first_token_came():
    async with scripted_engine(STREAM) as engine, serving(pool("p", engine)) as router:
        answer = await ask(router.port, chat(stream=True))

    ms = r";dur=\d+\.\d"
    timing = answer.header("server-timing") or ""
    assert re.fullmatch(f"queue{ms}, connect{ms}, ttft{ms}", timing)
    assert answer.header("content-type") == "text/event-stream"
    assert answer.header("transfer-encoding") == "chunked"
    assert answer.events == [b'{"a":1}', b'{"b":2}', USAGE, b"[DONE]"]


async def test_callers_who_should_not_see_the_fleet_do_not():
    async with (
        scripted_engine(OK) as engine,
        serving(pool("secret", engine), show_routing=False) as router,
    ):
        answer = await ask(router.port, chat(), {"x-sla-receipt": "1"})

    assert "secret" not in repr(answer)
    assert answer.header("x-sla-class") == "standard"
    assert json.loads(answer.header("x-sla-receipt") or "")["class"] == "standard"


def receipt_of(text):
    fields = json.loads(text)
    assert 0 <= fields["router_ms"] < fields["total_ms"]
    return fields


async def test_a_plain_answer_carries_its_receipt_in_a_header():
    async with scripted_engine(OK) as engine, serving(pool("p", engine)) as router:
        headers = {"x-sla-receipt": "1", "x-sla-deadline-ms": "60000"}
        answer = await ask(router.port, chat(), headers)

    fields = receipt_of(answer.header("x-sla-receipt"))
    assert (fields["prompt_tokens"], fields["output_tokens"]) == (3, 2)
    assert (fields["pool"], fields["endpoint"], fields["attempts"]) == ("p", "p-0", 1)
    assert fields["targets"]["deadline_ms"] == 60000
    assert fields["sla"] == "met"


async def test_a_stream_carries_its_receipt_before_its_end():
    async with scripted_engine(STREAM) as engine, serving(pool("p", engine)) as router:
        answer = await ask(router.port, chat(stream=True), {"x-sla-receipt": "1"})

    before, comment, after = re.split(rb": sla (.*)\n\n", answer.body)
    assert before.endswith(b"data: %b\n\n" % USAGE)
    assert after == b"data: [DONE]\n\n"
    fields = receipt_of(comment)
    assert (fields["prompt_tokens"], fields["output_tokens"]) == (3, 2)
    assert fields["ttft_ms"] > 0
    assert answer.header("x-sla-receipt") is None


async def test_text_that_looks_like_a_streams_end_is_not_taken_for_it():
    text = b'{"content":"data: [DONE]"}'
    async with scripted_engine(streaming(text)) as engine, serving(pool("p", engine)) as router:
        answer = await ask(router.port, chat(stream=True), {"x-sla-receipt": "1"})

    assert answer.events == [text, b"[DONE]"]
    assert answer.body.count(b": sla ") == 1


async def test_a_stream_without_an_end_mark_carries_its_receipt_last():
    async def unmarked(call):
        await call.begin_stream()
        await call.say_chunk(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        await call.say(b"0\r\n\r\n")

    async with (
        scripted_engine(unmarked) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        document = chat(stream=True, max_tokens=5)
        await one.send(request(document, {"x-sla-receipt": "1"}, path="/v1/messages"))
        answer = await one.answer()

    assert answer.events == [b'{"type":"message_stop"}']
    assert answer.body.split(b"\n\n")[-2].startswith(b": sla {")
