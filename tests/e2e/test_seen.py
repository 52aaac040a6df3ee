"""What an operator sees: metrics that add up, one line a request, and nothing that is private."""

import json

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from engines.engine import Kind
from router.access_log import RequestLine
from router.settings import Probes, Timeouts
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.scripted import answering, saying, scripted_engine, silence, streaming

USAGE = b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}'
STREAM = streaming(b'{"a":1}', b'{"b":2}', b'{"c":3}', USAGE)
PLAIN = answering(USAGE)


async def page(port, path, accept=""):
    async with caller(port) as one:
        head = f"GET {path} HTTP/1.1\r\nhost: r\r\naccept: {accept}\r\n\r\n"
        await one.send(head.encode())
        return await one.answer()


async def samples(port):
    """Return every sample of a scrape: (name, labels) to value."""
    text = (await page(port, "/metrics")).body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(seen, name, **labels):
    """Add up the samples that have these labels."""
    wanted = set(labels.items())
    return sum(
        value for (each, given), value in seen.items() if each == name and wanted <= set(given)
    )


async def test_the_metrics_of_requests_that_ended_add_up():
    async with (
        scripted_engine(STREAM, PLAIN, answering(b"no", b"400 Bad Request"), silence) as engine,
        serving(pool("p", engine, slots=2), timeouts=Timeouts(first_token_s=0.2)) as router,
    ):
        await ask(router.port, chat(stream=True), {"x-sla-class": "interactive"})
        await ask(router.port, chat())
        await ask(router.port, chat())
        await ask(router.port, chat(stream=True))
        await ask(router.port, chat(model="x"))
        async with caller(router.port) as one:
            await one.send(request(chat()))
            while not router.held.get("p-0 in flight"):
                await page(router.port, "/healthz")
            during = await samples(router.port)
            one.hang_up()
            while router.held.get("p-0 in flight"):
                await page(router.port, "/healthz")
        after = await samples(router.port)

    assert total(during, "headway_in_flight", endpoint="p-0") == 1
    assert total(after, "headway_in_flight") == 0
    assert total(after, "headway_waiting") == 0
    ended = {
        outcome: total(after, "headway_requests_total", outcome=outcome, pool="p", model="m")
        for outcome in ("completed", "rejected", "failed", "abandoned")
    }
    assert ended == {"completed": 2, "rejected": 1, "failed": 1, "abandoned": 1}
    assert total(after, "headway_queue_seconds_count") == 5
    assert total(after, "headway_overhead_seconds_count") == 5
    assert total(after, "headway_first_token_seconds_count") == 1
    assert total(after, "headway_first_token_seconds_count", **{"class": "interactive"}) == 1
    assert total(after, "headway_first_token_seconds_bucket", le="+Inf") == 1
    assert total(after, "headway_per_output_token_seconds_count") == 1
    assert total(after, "headway_prompt_tokens_total") == 14
    assert total(after, "headway_output_tokens_total") == 6
    refused = {"reason": "rejected-unknown-model", "class": "standard"}
    assert total(after, "headway_refused_total", **refused) == 1
    assert total(after, "headway_endpoint_up") == 1
    assert total(during, "headway_open_connections", side="callers") == 2
    assert total(during, "headway_tasks") >= 1


async def test_the_page_of_metrics_is_sound_in_both_formats():
    async with scripted_engine(PLAIN) as engine, serving(pool("p", engine)) as router:
        await ask(router.port, chat())
        plain = await page(router.port, "/metrics")
        modern = await page(router.port, "/metrics", "application/openmetrics-text")

    assert list(text_string_to_metric_families(plain.body.decode()))
    assert list(openmetrics.text_string_to_metric_families(modern.body.decode()))
    assert (modern.header("content-type") or "").startswith("application/openmetrics-text")


async def test_attempts_that_were_followed_by_another_are_counted_by_why():
    async with (
        scripted_engine(answering(b"", b"500 Oops"), PLAIN) as engine,
        scripted_engine(answering(b"", b"500 Oops"), PLAIN) as other,
        serving(pool("p", engine, other)) as router,
    ):
        await ask(router.port, chat())
        await ask(router.port, chat())
        while len(engine.calls) + len(other.calls) < 4:
            await ask(router.port, chat())
        retried = await samples(router.port)

    followed = sum(line["attempts"] - 1 for line in router.log)
    assert total(retried, "headway_retries_total") == followed
    assert total(retried, "headway_retries_total", reason="broken") == followed


async def test_a_router_is_ready_as_soon_as_one_pool_can_serve():
    async with scripted_engine(PLAIN) as engine, serving(pool("p", engine)) as router:
        ready = await page(router.port, "/readyz")
        alive = await page(router.port, "/healthz")

    assert (ready.status, alive.status) == (200, 200)
    assert ready.document == {
        "ready": True,
        "draining": False,
        "pools": {"p": {"endpoints": 1, "serving": 1}},
    }


async def test_an_engines_own_gauges_are_told_too():
    async with scripted_engine(PLAIN) as engine:
        engine.probed["/metrics"] = b"vllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.5\n"
        probes = Probes(health_s=3600.0, load_s=0.02)
        async with serving(pool("p", engine, kind=Kind.VLLM), probes=probes) as router:
            endpoint = router.router.dispatcher.endpoints["p-0"]
            await until(lambda: endpoint.load is not None)
            seen = await samples(router.port)

    assert total(seen, "headway_engine_running", endpoint="p-0") == 3
    assert total(seen, "headway_engine_kv_usage_ratio", endpoint="p-0") == 0.5
    assert not [name for name, _ in seen if name == "headway_engine_waiting"]


PROMPT, KEY, SAID = "the secret prompt", "sk-secret-key", b'{"text":"the secret answer"}'


async def test_each_request_is_one_line_that_tells_nothing_private():
    cut = saying(b"HTTP/1.1 200 OK\r\ncontent-le", then=lambda call: call.close())
    scripts = [
        *(streaming(SAID), answering(SAID), answering(SAID, b"400 Bad Request")),
        *(cut, answering(SAID, b"503 Busy")),
    ]
    headers = {"authorization": f"Bearer {KEY}", "x-tenant-id": "t", "x-sla-class": "bulk"}
    async with scripted_engine(*scripts) as engine, serving(pool("p", engine)) as router:
        document = chat() | {"messages": [{"role": "user", "content": PROMPT}]}
        await ask(router.port, document | {"stream": True}, headers)
        for _ in range(4):
            await ask(router.port, document, headers)
        await ask(router.port, document | {"model": "x"}, headers)
        await ask(router.port, document | {"stop": 5, "stream": "yes"}, headers)

    lines = router.lines.kept
    assert len(lines) == 7
    for line in lines:
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert set(json.loads(line)) - {"time"} <= set(RequestLine.__annotations__)
        for private in (PROMPT, KEY, "the secret answer"):
            assert private.encode() not in line
    log = router.log
    assert [line["outcome"] for line in log] == [
        *("completed", "completed", "rejected", "failed", "failed", "refused", "malformed"),
    ]
    assert [line["status"] for line in log] == [200, 200, 400, 502, 429, 404, 400]
    first = log[0]
    assert (first["class"], first["tenant"], first["endpoint"]) == ("bulk", "t", "p-0")
    assert 0 < first["overhead_s"] <= first["first_token_s"] <= first["duration_s"]
    assert log[5]["dropped_reason"] == "rejected-unknown-model"
    assert log[4]["dropped_reason"] == "rejected-saturated"


def _breaks(end, verdict):
    raise ZeroDivisionError


async def test_what_cannot_be_noted_costs_a_caller_neither_its_answer_nor_its_connection(caplog):
    async with (
        scripted_engine(PLAIN, STREAM, answering(b"no", b"400 Bad Request")) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        router.router.door.record = _breaks
        statuses = []
        for body in (chat(), chat(stream=True), chat()):
            answer = await one.ask(body)
            statuses.append(answer.status)

        assert statuses == [200, 200, 400]
        assert [each.message for each in caplog.records].count("a request's end went unnoted") == 3
