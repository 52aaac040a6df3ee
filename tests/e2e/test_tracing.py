"""Spans of requests, as a collector gets them from a whole router on real sockets."""

import asyncio
import json

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from engines.engine import Kind
from policies.facts import Profile
from policies.policy import Policy, RetryPolicy
from router.settings import Access, Admin, Timeouts, Tracing
from tests.canary import CANARY, secret
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import TOKEN, pool, serving, until
from tests.e2e.traced import received, tracing
from tests.fakes.scripted import (
    answering,
    saying,
    scripted_engine,
    silence,
    streaming,
)

TAKEN = answering(b"")
OK = answering(
    b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":7,"completion_tokens":2}}'
)
WORD = b'{"choices":[{"delta":{"content":"a"}}]}'
LAST = b'{"choices":[{"delta":{},"finish_reason":"length"}]}'
USAGE = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
STREAM = streaming(WORD, WORD, WORD, LAST, USAGE)
BUSY = answering(b"busy", b"503 Service Unavailable")
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
NOWHERE = "http://127.0.0.1:9/v1/traces"
"""The discard port: nobody listens there."""


def spare(engine, kind=Kind.OPENAI):
    """Return a pool that is used when the other one cannot be."""
    return pool("spare", engine, kind=kind, profile=Profile.PREDICTABLE)


async def test_a_request_is_told_of_in_the_terms_of_the_conventions():
    targets = {"x-sla-ttft-ms": "5000", "x-request-id": "r1", "x-tenant-id": "acme"}
    async with scripted_engine(STREAM) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, chat(stream=True, max_tokens=9), targets)
            (line,) = router.log
        sent = received(collector)
    told = sent.request.attributes

    assert sent.request.name == "chat m"
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "m"
    assert told["gen_ai.request.max_tokens"] == 9
    assert told["gen_ai.request.stream"] is True
    assert told["gen_ai.provider.name"] == "openai"
    assert told["gen_ai.usage.input_tokens"] == 7
    assert told["gen_ai.usage.output_tokens"] == 3
    assert told["gen_ai.response.finish_reasons"] == ["length"]
    assert told["gen_ai.response.time_to_first_chunk"] == line["first_token_s"]
    assert (told["http.route"], told["http.response.status_code"]) == ("/v1/chat/completions", 200)
    assert (told["server.address"], told["url.scheme"]) == ("127.0.0.1", "http")
    assert (told["headway.request_id"], told["headway.tenant"]) == ("r1", "acme")
    assert (told["headway.pool"], told["headway.endpoint"]) == ("p", "p-0")
    assert told["headway.class"] == line["class"]
    assert told["headway.reason"] == line["reason"]
    assert told["headway.class_reason"] == "model"
    assert told["headway.target.first_token_s"] == 5.0
    assert told["headway.met"] is True
    assert told["headway.outcome"] == "completed"
    assert told["headway.predicted_first_token_s"] > 0
    assert "error.type" not in told
    assert not sent.request.is_error


async def test_an_answer_that_is_no_stream_tells_its_tokens_and_why_it_ended():
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, chat())
        told = received(collector).request.attributes

    assert told["gen_ai.usage.output_tokens"] == 2
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert "headway.first_token_s" not in told


async def test_what_happened_lies_within_the_request_and_in_order():
    async with scripted_engine(STREAM) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, chat(stream=True))
        sent = received(collector)
    (attempt,) = sent.attempts
    names = [name for name, _, _ in attempt.events]
    times = [at for _, at, _ in attempt.events]

    assert attempt.parent_id == sent.request.span_id
    assert sent.request.parent_id == ""
    assert names == ["headway.sent", "headway.first_token"]
    assert [name for name, _, _ in sent.request.events] == ["headway.first_token"]
    moments = [sent.request.start, attempt.start, *times, attempt.end, sent.request.end]
    assert moments == sorted(moments)
    assert attempt.attributes["server.port"] == engine.port
    assert attempt.attributes["url.full"] == f"{engine.url}/v1/chat/completions"
    assert attempt.attributes["headway.connect_s"] >= 0


async def test_a_callers_trace_goes_on_through_the_router_to_the_engine():
    headers = {"traceparent": PARENT, "tracestate": "vendor=x,other=y"}
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector, sample=0.0)) as router:
            await ask(router.port, chat(), headers)
            (line,) = router.log
        sent = received(collector)
    (attempt,) = sent.attempts

    assert (sent.request.trace_id, sent.request.parent_id) == (TRACE, SPAN)
    assert sent.request.state == "vendor=x,other=y"
    assert attempt.trace_id == TRACE
    assert engine.calls[0].header("traceparent") == f"00-{TRACE}-{attempt.span_id}-01"
    assert engine.calls[0].header("tracestate") == "vendor=x,other=y"
    assert line["trace_id"] == TRACE


async def test_a_trace_that_its_caller_does_not_keep_goes_on_unkept():
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, chat(), headers)
            (line,) = router.log
        calls = len(collector.calls)
    version, trace_id, span_id, flags = (engine.calls[0].header("traceparent") or "").split("-")

    assert (version, trace_id, flags) == ("00", TRACE, "00")
    assert span_id != SPAN
    assert line["trace_id"] == TRACE
    assert calls == 0


async def test_a_malformed_parent_is_not_followed_and_its_state_goes_nowhere():
    headers = {"traceparent": f"00-{TRACE}-{SPAN}", "tracestate": "vendor=x"}
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, chat(), headers)
        sent = received(collector)

    assert sent.request.trace_id != TRACE
    assert sent.request.parent_id == ""
    assert engine.calls[0].header("tracestate") is None


async def test_without_tracing_a_callers_trace_passes_through_as_it_came():
    headers = {"traceparent": PARENT, "tracestate": "vendor=x"}
    async with scripted_engine(OK) as engine, serving(pool("p", engine)) as router:
        await ask(router.port, chat(), headers)
        (line,) = router.log

    assert engine.calls[0].header("traceparent") == PARENT
    assert engine.calls[0].header("tracestate") == "vendor=x"
    assert "trace_id" not in line


async def test_as_many_traces_are_kept_as_was_asked_for():
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with (
            serving(pool("p", engine), tracing=tracing(collector, sample=0.3)) as router,
            caller(router.port) as one,
        ):
            for _ in range(100):
                await one.ask(chat())
            logged = {line["trace_id"] for line in router.log}
        sent = received(collector)
    kept = {span.trace_id for span in sent.requests}
    told = [(call.header("traceparent") or "").split("-") for call in engine.calls]

    assert 15 <= len(kept) <= 45
    assert len(logged) == 100
    assert kept < logged
    assert {trace_id for _, trace_id, _, flags in told if flags == "01"} == kept


async def test_each_attempt_has_a_span_that_says_why_it_failed():
    async with (
        scripted_engine(BUSY) as bad,
        scripted_engine(OK) as good,
        scripted_engine(TAKEN) as collector,
    ):
        async with serving(pool("home", bad), spare(good), tracing=tracing(collector)) as router:
            answer = await ask(router.port, chat())
        sent = received(collector)
    first, second = sent.attempts

    assert answer.status == 200
    assert (first.is_error, second.is_error, sent.request.is_error) == (True, False, False)
    assert first.attributes["error.type"] == "busy"
    assert first.attributes["http.response.status_code"] == 503
    assert first.attributes["headway.endpoint"] == "home-0"
    assert second.attributes["headway.endpoint"] == "spare-0"
    assert second.attributes["headway.pool"] == "spare"
    assert second.attributes["headway.reason"] == "retry"
    assert second.attributes["http.request.resend_count"] == 1
    assert "http.request.resend_count" not in first.attributes
    assert sent.request.attributes["headway.attempts"] == 2
    assert first.end <= second.start
    told = [call.header("traceparent") for engine in (bad, good) for call in engine.calls]
    assert told == [f"00-{span.trace_id}-{span.span_id}-01" for span in (first, second)]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(answering(b"no", b"400 Bad Request"), None, id="rejected"),
        pytest.param(saying(then=lambda call: call.close()), "rejected-retries-spent", id="gone"),
        pytest.param(silence, "rejected-retries-spent", id="silent"),
    ],
)
async def test_a_request_that_came_to_nothing_is_a_failure_unless_it_was_its_own(script, error):
    async with scripted_engine(script) as engine, scripted_engine(TAKEN) as collector:
        async with serving(
            pool("p", engine),
            tracing=tracing(collector),
            timeouts=Timeouts(answer_s=0.2),
            policy=Policy(retry=RetryPolicy(max_attempts=1)),
        ) as router:
            answer = await ask(router.port, chat())
        sent = received(collector)

    assert sent.request.attributes["http.response.status_code"] == answer.status
    assert sent.request.is_error is (error is not None)
    assert sent.request.attributes.get("error.type") == error
    assert all(attempt.is_error for attempt in sent.attempts)


async def test_a_wait_for_a_slot_has_a_span():
    held = asyncio.Event()

    async def hold(call):
        await held.wait()
        await call.say_json(b"{}")

    async with scripted_engine(hold) as engine, scripted_engine(TAKEN) as collector:
        async with (
            serving(pool("p", engine, slots=1), tracing=tracing(collector)) as router,
            caller(router.port) as first,
            caller(router.port) as second,
        ):
            await first.send(request(chat()))
            await engine.arrivals.get()
            await second.send(request(chat(), {"traceparent": PARENT}))
            await until(lambda: router.router.dispatcher.waiting > 0)
            held.set()
            await first.answer()
            await second.answer()
        sent = received(collector)
    (wait,) = sent.waits
    (late,) = [span for span in sent.requests if span.trace_id == TRACE]
    (attempt,) = [span for span in sent.attempts if span.trace_id == TRACE]

    assert wait.parent_id == late.span_id
    assert late.start <= wait.start <= wait.end <= attempt.start
    assert late.attributes["headway.queue_s"] == pytest.approx(
        (wait.end - wait.start) / 1e9, abs=1e-4
    )


async def test_a_caller_that_leaves_is_told_of_as_one():
    async with scripted_engine(silence) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine, slots=1), tracing=tracing(collector)) as router:
            async with caller(router.port) as served, caller(router.port) as waits:
                await served.send(request(chat()))
                await engine.arrivals.get()
                await waits.send(request(chat()))
                await until(lambda: router.router.dispatcher.waiting > 0)
            await until(lambda: not router.router.door.active)
        sent = received(collector)
    (attempt,) = sent.attempts

    assert {span.attributes["headway.outcome"] for span in sent.requests} == {"abandoned"}
    assert attempt.attributes["headway.outcome"] == "abandoned"
    assert len(sent.waits) == 1
    assert not any(span.is_error for span in sent.spans)


async def test_where_an_answer_went_on_elsewhere_is_an_event():
    event = b'data: {"id":"a","choices":[{"index":0,"text":"%b","finish_reason":%b}]}\n\n'

    async def breaks(call):
        await call.begin_stream()
        for word in (b"one", b" two"):
            await call.say_chunk(event % (word, b"null"))
        call.close()

    async def goes_on(call):
        await call.begin_stream()
        await call.say_chunk(event % (b" three", b'"stop"'))
        await call.end_stream()

    asked = {"model": "m", "prompt": "count", "stream": True}
    async with (
        scripted_engine(breaks) as bad,
        scripted_engine(goes_on) as good,
        scripted_engine(TAKEN) as collector,
    ):
        async with serving(
            pool("home", bad, kind=Kind.VLLM),
            spare(good, Kind.VLLM),
            tracing=tracing(collector),
        ) as router:
            headers = {"x-sla-continue": "1"}
            answer = await ask(router.port, asked, headers, path="/v1/completions")
        sent = received(collector)
    first, second = sent.attempts
    names = [name for name, _, _ in sent.request.events]
    _, at, told = sent.request.events[-1]

    assert b" three" in answer.body
    assert sent.request.name == "text_completion m"
    assert names == ["headway.first_token", "headway.seam"]
    assert told == {"headway.endpoint": "home-0", "headway.output_tokens": 2}
    assert at == first.end
    assert first.attributes["error.type"] == "broken"
    assert not second.is_error
    assert sent.request.attributes["headway.outcome"] == "completed"


@pytest.mark.parametrize(
    ("document", "headers", "status", "outcome"),
    [
        pytest.param(b"{", {}, 400, "malformed", id="no JSON"),
        pytest.param(chat(), {"x-sla-class": "x"}, 400, "malformed", id="an odd header"),
        pytest.param({**chat(), "model": "x"}, {}, 404, "refused", id="an unknown model"),
    ],
)
async def test_a_request_that_goes_nowhere_has_a_span_as_well(document, headers, status, outcome):
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, document, {"traceparent": PARENT, **headers})
            (line,) = router.log
        sent = received(collector)

    assert sent.request.parent_id == SPAN
    assert sent.request.name == "chat"
    assert sent.request.attributes["http.response.status_code"] == status
    assert sent.request.attributes["headway.outcome"] == outcome
    assert not sent.request.is_error
    assert line["trace_id"] == TRACE


async def test_a_stranger_has_a_span_that_says_nothing_of_its_key():
    shown = {"authorization": f"Bearer {secret('key')}"}
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with serving(
            pool("p", engine), tracing=tracing(collector), access=Access()
        ) as router:
            answer = await ask(router.port, chat(), shown)
        sent = received(collector)

    assert answer.status == 401
    assert sent.request.attributes["headway.outcome"] == "stranger"


async def test_a_request_over_its_limit_has_a_span_that_says_whose_it_is():
    token = {"authorization": f"Bearer {TOKEN}"}
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with (
            serving(
                pool("p", engine), tracing=tracing(collector), access=Access(), admin=Admin()
            ) as router,
            httpx.AsyncClient(base_url=router.url, headers=token, trust_env=False) as admin,
        ):
            limits = {"tenant": "acme", "tokens_per_minute": 10}
            key = (await admin.post("/admin/v1/keys", json=limits)).json()["key"]
            answer = await ask(router.port, chat(), {"authorization": f"Bearer {key}"})
        sent = received(collector)
    told = sent.request.attributes

    assert answer.status == 429
    assert told["headway.outcome"] == answer.error["code"]
    assert (told["headway.tenant"], told["gen_ai.request.model"]) == ("acme", "m")


async def test_a_stream_that_breaks_is_a_failure():
    async def breaks(call):
        await call.begin_stream()
        await call.say_chunk(b"data: " + WORD + b"\n\n")
        call.reset()

    async with scripted_engine(breaks) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, chat(stream=True))
        sent = received(collector)

    assert sent.request.is_error
    assert sent.request.attributes["error.type"] == "broken"
    assert sent.request.attributes["headway.outcome"] == "failed"
    assert sent.request.attributes["gen_ai.usage.output_tokens"] == 1


async def test_what_a_stop_cuts_off_is_told_of():
    async with scripted_engine(silence) as engine, scripted_engine(TAKEN) as collector:
        async with (
            serving(pool("p", engine), tracing=tracing(collector)) as router,
            caller(router.port) as one,
        ):
            await one.send(request(chat()))
            await engine.arrivals.get()
            router.router.door.stop()
            answer = await one.answer()
        sent = received(collector)
    (attempt,) = sent.attempts

    assert sent.request.is_error
    assert sent.request.attributes["error.type"] == str(answer.status)
    assert attempt.attributes["headway.outcome"] == "failed"


async def test_what_cannot_be_traced_is_answered_all_the_same(caplog):
    def stopped() -> float:
        raise OSError("no clock")

    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with (
            serving(pool("p", engine), tracing=tracing(collector)) as router,
            caller(router.port) as one,
        ):
            assert router.router.door.tracing is not None
            router.router.door.tracing.wall_clock = stopped
            statuses = [(await one.ask(asked)).status for asked in (b"{", chat(), chat())]
            lines = len(router.log)
        calls = len(collector.calls)

    assert statuses == [400, 200, 200]
    assert (lines, calls) == (3, 0)
    assert "a request could not be traced" in caplog.text


async def careless(call):
    """Answer with all that was sent."""
    told = {"message": call.head.decode() + call.body.decode(), "type": "x", "code": secret("code")}
    status = json.loads(call.body)["user"]
    if json.loads(call.body)["stream"]:
        await call.begin_stream()
        await call.say_chunk(b"data: %b\n\n" % json.dumps({"error": told}).encode())
        await call.end_stream()
        return
    reason = secret("reason")
    said = {"choices": [{"finish_reason": reason, "stop_reason": reason}], "error": told}
    await call.say_json(json.dumps(said).encode(), status.encode())


async def test_no_secret_and_no_prompt_is_sent_to_a_collector():
    prompt = {"messages": [{"role": "user", "content": secret("prompt")}], "stop": secret("stop")}
    keys = {"authorization": f"Bearer {secret('key')}", "x-session-id": secret("session")}
    async with scripted_engine(careless) as engine, scripted_engine(TAKEN) as collector:
        async with serving(
            pool("p", engine, engine),
            tracing=tracing(collector),
            api_keys={"p-0": secret("engine")},
        ) as router:
            for status in ("200 OK", "400 Bad", "401 No", "500 Broken", "503 Busy"):
                for stream in (True, False):
                    asked = {**chat(stream=stream, user=status), **prompt}
                    await ask(router.port, asked, keys)
            await ask(router.port, b'{"messages": "' + secret("prompt").encode(), keys)
        sent = received(collector)

    assert len(sent.requests) == 11
    assert [call for call in collector.calls if CANARY.encode() in call.body + call.head] == []


async def test_a_collector_is_shown_its_headers_and_told_who_sends(monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    async with scripted_engine(OK) as engine, scripted_engine(TAKEN) as collector:
        async with serving(
            pool("p", engine),
            tracing=tracing(collector, service_name="edge"),
            tracing_headers={"authorization": "Bearer x y"},
        ) as router:
            await ask(router.port, chat())
        (resource,) = received(collector).resources

    assert collector.calls[0].header("authorization") == "Bearer x y"
    assert resource["service.name"] == "edge"
    assert resource["service.version"]
    assert resource["deployment.environment.name"] == "test"


@pytest.mark.parametrize(
    "script", [silence, answering(b"", b"401 Unauthorized")], ids=["silent", "refusing"]
)
async def test_a_collector_that_takes_nothing_costs_spans_and_nothing_else(script, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    async with scripted_engine(OK) as engine, scripted_engine(script) as collector:
        async with serving(
            pool("p", engine), tracing=tracing(collector, max_queued_spans=8, timeout_s=0.2)
        ) as router:
            answers = [await ask(router.port, chat()) for _ in range(40)]
            await until(lambda: counted(router)["failed"] > 0)
            scrape = await scraped(router)
        end = counted(router)

    assert [answer.status for answer in answers] == [200] * 40
    assert "headway_trace_spans_total" in scrape
    assert end["exported"] == 0
    assert end["failed"] + end["dropped"] == 80


async def test_a_collector_that_is_gone_holds_up_no_stop():
    async with scripted_engine(OK) as engine:
        async with serving(pool("p", engine), tracing=Tracing(NOWHERE)) as router:
            answer = await ask(router.port, chat())
            loop = asyncio.get_running_loop()
            stopping_at = loop.time()
        took_s = loop.time() - stopping_at

    assert answer.status == 200
    assert took_s < 5.0
    assert counted(router)["exported"] == 0


def counted(router) -> dict[str, float]:
    """Return what became of spans."""
    tracing = router.router.door.tracing
    assert tracing is not None
    return {outcome: count for (outcome,), count in tracing.counts()}


async def scraped(router, accept="") -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{router.url}/metrics", headers={"accept": accept})).text


async def test_latencies_have_traces_as_exemplars_where_the_format_has_them():
    async with scripted_engine(STREAM) as engine, scripted_engine(TAKEN) as collector:
        async with serving(pool("p", engine), tracing=tracing(collector)) as router:
            await ask(router.port, chat(stream=True), {"traceparent": PARENT})
            plain = await scraped(router)
            open_metrics = await scraped(router, "application/openmetrics-text; version=1.0.0")
            (line,) = router.log
        sent = received(collector)
    samples = [
        sample
        for family in text_string_to_metric_families(open_metrics)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    found = {sample.name: sample for sample in samples}

    assert open_metrics.endswith("# EOF\n")
    assert TRACE not in plain
    assert sent.request.trace_id == TRACE
    assert set(found) == {
        "headway_first_token_seconds_bucket",
        "headway_per_output_token_seconds_bucket",
        "headway_queue_seconds_bucket",
    }
    first = found["headway_first_token_seconds_bucket"]
    assert first.exemplar is not None
    assert first.exemplar.labels == {"trace_id": TRACE}
    assert first.exemplar.value == line["first_token_s"]
    assert first.exemplar.value <= float(first.labels["le"])
    assert float(first.exemplar.timestamp) > 1.7e9
