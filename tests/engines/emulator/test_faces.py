"""Every kind over HTTP: the adapter of the kind must read what the stand-in says."""

import asyncio

import httpx
import orjson
import pytest

from engines.emulator.profiles import STEADY
from engines.emulator.server import Served, serve
from engines.emulator.spec import EngineSpec, LlamaCpp, Memory, Policy, Sglang, Tgi, Vllm
from engines.engine import FaultKind, Feature, Kind
from tests.engines.emulator.serving import (
    CHAT,
    COMPLETIONS,
    FULL,
    KNOBS,
    desk,
    events,
    payloads,
    streamed_text,
    until,
    whole_text,
)

ALL = pytest.mark.parametrize("kind", KNOBS, ids=str)


@ALL
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_stream_says_what_a_whole_answer_says(kind, path):
    async with desk(kind) as at:
        whole = await at.ask(path, max_tokens=20)
        stream = await at.ask(path, max_tokens=20, stream=True)

        assert whole.status_code == stream.status_code == 200
        assert whole_text(whole) == streamed_text(stream) != ""
        assert payloads(stream)[-1] == b"[DONE]"
        assert stream.headers["content-type"].startswith("text/event-stream")


async def test_every_kind_goes_on_in_the_same_words():
    said = set()
    for kind in KNOBS:
        async with desk(kind) as at:
            said.add(whole_text(await at.ask(max_tokens=12)))

    assert len(said) == 1


@ALL
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_the_adapter_reads_the_usage_of_both_forms(kind, path):
    options = {"include_usage": True}
    async with desk(kind) as at:
        whole = await at.ask(path, max_tokens=9)
        stream = await at.ask(path, max_tokens=9, stream=True, stream_options=options)

        read = at.engine.read_usage
        usages = [read(whole.content, stream=False), read(stream.content[-1500:], stream=True)]
        assert [usage.output_tokens for usage in usages] == [9, 9]
        assert usages[0].prompt_tokens == usages[1].prompt_tokens > 0


@ALL
async def test_the_adapter_finds_no_fault_in_a_healthy_stream(kind):
    async with desk(kind) as at:
        stream = await at.ask(max_tokens=9, stream=True)

        assert not any(at.engine.read_event_fault(data) for data in payloads(stream)[:-1])


@ALL
async def test_the_adapter_discovers_models_and_limits(kind):
    async with desk(kind) as at:
        paths = at.engine.traits.discovery_paths
        answers = {path: (await at.client.get(path)).content for path in paths}

        found = at.engine.read_discovery(answers)
        assert found.models == ("m",)
        assert found.max_context_tokens in {8192, 2048}


@ALL
async def test_the_adapters_probe_is_answered(kind):
    async with desk(kind) as at:
        probe = at.engine.probe("m")
        headers = {"content-type": "application/json"}
        answer = await at.client.post(probe.path, content=probe.body, headers=headers)

        assert answer.status_code == 200


@ALL
async def test_the_adapter_reads_the_load(kind):
    async with desk(kind) as at:
        await at.ask(max_tokens=3)
        tasks = await at.hold(3)

        load = at.engine.read_load((await at.client.get(at.engine.traits.load_path)).text)
        assert (load.running or 0) + (load.waiting or 0) == 3
        assert load.progress is None or load.progress > 0
        await at.switch()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("kind", FULL, ids=str)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_engine_is_busy_in_its_own_words(kind, stream):
    async with desk(kind, FULL[kind]) as at:
        tasks = await at.hold(2)

        refused = await at.ask(stream=stream, max_tokens=5)

        fault = (
            at.engine.read_fault(refused.status_code, refused.content)
            if refused.status_code != 200
            else at.engine.read_event_fault(payloads(refused)[0])
        )
        assert fault.kind is FaultKind.BUSY
        assert (refused.status_code == 200) is (stream and kind in {Kind.TGI, Kind.SGLANG})
        await at.switch()
        await asyncio.wait(tasks)


async def test_without_its_early_status_a_full_tgi_says_429_to_a_stream():
    async with desk(Kind.TGI, FULL[Kind.TGI], early_status=False) as at:
        tasks = await at.hold(2)

        assert (await at.ask(stream=True, max_tokens=5)).status_code == 429
        await at.switch()
        await asyncio.wait(tasks)


async def test_every_error_in_a_tgi_stream_says_422():
    async with desk(Kind.TGI, FULL[Kind.TGI]) as at:
        tasks = await at.hold(2)

        refused = await at.ask(stream=True, max_tokens=5)

        assert events(refused)[0]["error"]["http_status_code"] == 422
        await at.switch()
        await asyncio.wait(tasks)


TOO_LONG = "word " * 9000


@ALL
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_is_the_callers_mistake(kind, stream):
    async with desk(kind) as at:
        messages = [{"role": "user", "content": TOO_LONG}]
        answer = await at.ask(messages=messages, max_tokens=5, stream=stream)

        fault = (
            at.engine.read_fault(answer.status_code, answer.content)
            if answer.status_code != 200
            else at.engine.read_event_fault(payloads(answer)[0])
        )
        assert fault.kind is FaultKind.CONTEXT_TOO_LONG


BAD_BODIES = [b"{", b"[1]", b'{"model":"m"}']


@ALL
@pytest.mark.parametrize("body", BAD_BODIES)
async def test_a_body_that_makes_no_sense_is_the_callers_mistake(kind, body):
    async with desk(kind) as at:
        headers = {"content-type": "application/json"}
        answer = await at.client.post(CHAT, content=body, headers=headers)

        assert 400 <= answer.status_code < 500
        assert at.engine.read_fault(answer.status_code, answer.content).kind is FaultKind.INVALID


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (Kind.VLLM, {"model": "nope"}, 404),
        (Kind.VLLM, {"max_tokens": 0}, 400),
        (Kind.VLLM, {"max_tokens": 999_999}, 400),
        (Kind.VLLM, {"n": 0}, 400),
        (Kind.VLLM, {"temperature": -1}, 400),
        (Kind.VLLM, {"messages": []}, 400),
        (Kind.VLLM, {"stream_options": {"include_usage": True}}, 400),
        (Kind.TGI, {"stop": "x"}, 422),
        (Kind.TGI, {"logit_bias": {}}, 422),
        (Kind.TGI, {"seed": -1}, 422),
        (Kind.TGI, {"stream": None}, 422),
        (Kind.TGI, {"max_tokens": 1, "max_completion_tokens": 1}, 422),
        (Kind.TGI, {"response_format": {"type": "json_schema", "json_schema": {}}}, 422),
        (Kind.TGI, {"response_format": {"type": "text"}}, 422),
        (Kind.TGI, {"top_p": 1.0}, 422),
        (Kind.TGI, {"max_tokens": 0}, 422),
        (Kind.TGI, {"stop": ["a", "b", "c", "d", "e"]}, 422),
        (Kind.TGI, {"top_logprobs": 8}, 422),
        (Kind.SGLANG, {"temperature": -1}, 400),
        (Kind.SGLANG, {"max_tokens": 0}, 400),
        (Kind.SGLANG, {"max_tokens": 8190}, 400),
    ],
)
async def test_what_a_kind_does_not_take_is_refused_with_its_status(kind, body, status):
    async with desk(kind) as at:
        answer = await at.ask(**body)

        assert answer.status_code == status
        fault = at.engine.read_fault(status, answer.content)
        assert fault.kind not in {FaultKind.BUSY, FaultKind.BROKEN}


STRICT = [
    {"stop": "x"},
    {"logit_bias": {}},
    {"stream": None},
    {"response_format": {"type": "text"}},
]


@pytest.mark.parametrize("body", STRICT, ids=str)
async def test_tgi_says_it_in_plain_text_unless_its_strictness_is_off(body):
    async with desk(Kind.TGI) as strict, desk(Kind.TGI, strict_types=False) as lax:
        refused = await strict.ask(**body, max_tokens=3)

        assert refused.headers["content-type"] == "text/plain; charset=utf-8"
        assert refused.text.startswith("Failed to deserialize the JSON body")
        assert (await lax.ask(**body, max_tokens=3)).status_code == 200


async def test_what_tgis_validation_finds_is_an_event_of_a_stream():
    async with desk(Kind.TGI) as at:
        answer = await at.ask(top_p=1.0, stream=True)

        assert answer.status_code == 200
        assert events(answer)[0]["error"]["message"].startswith("Input validation error: `top_p`")


async def test_tgi_takes_no_body_above_its_limit_unless_that_is_off():
    text = "x" * 2_000_001
    async with desk(Kind.TGI) as at:
        assert (await at.ask(COMPLETIONS, prompt=text)).status_code == 413
    async with desk(Kind.TGI, body_limit=None) as at:
        assert (await at.ask(COMPLETIONS, prompt=text)).status_code == 422


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"suffix": "x"}, "Suffix is not supported"),
        ({"prompt": ["a"] * 5}, "Number of prompts exceeds"),
    ],
)
async def test_tgi_refuses_what_its_completions_lack(body, message):
    async with desk(Kind.TGI) as at:
        answer = await at.ask(COMPLETIONS, **body)

        assert answer.status_code == 422
        assert answer.json()["error"].startswith(message)


async def test_tgi_wants_json():
    async with desk(Kind.TGI) as at:
        answer = await at.client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})

        assert answer.status_code == 415


async def test_vllm_wants_json():
    async with desk(Kind.VLLM) as at:
        answer = await at.client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})

        assert answer.status_code == 400
        assert "Only 'application/json' is allowed" in answer.text


async def test_tgi_tells_its_times_in_headers():
    async with desk(Kind.TGI) as at:
        answer = await at.ask(max_tokens=7)

        assert answer.headers["x-generated-tokens"] == "7"
        assert answer.headers["x-compute-type"] == "gpu+optimized"
        assert int(answer.headers["x-total-time"]) >= int(answer.headers["x-inference-time"]) > 0


async def test_tgis_native_routes():
    parameters = {"max_new_tokens": 4, "details": True}
    async with desk(Kind.TGI) as at:
        whole = await at.ask("/generate", inputs="once", parameters=parameters)
        stream = await at.ask("/generate_stream", inputs="once", parameters=parameters)
        wrong = await at.ask("/generate_stream", inputs="once", parameters={"top_p": 2.0})

        said = events(stream)
        assert whole.json()["details"]["generated_tokens"] == 4
        assert [event["index"] for event in said] == [1, 2, 3, 4]
        assert said[-1]["generated_text"] == whole.json()["generated_text"]
        assert said[-1]["details"]["finish_reason"] == "length"
        assert b"[DONE]" not in stream.content
        assert events(wrong)[0]["error_type"] == "validation"


async def test_a_tgi_completion_tells_its_usage_and_its_own_finish_reason():
    async with desk(Kind.TGI) as at:
        stream = await at.ask(COMPLETIONS, prompt="stop early", stream=True, max_tokens=4000)

        *middle, last = events(stream)
        assert last["choices"][0]["finish_reason"] == "eos_token"
        assert last["usage"]["completion_tokens"] == len(middle) + 1
        assert all(event["choices"][0]["finish_reason"] == "" for event in middle)


@pytest.mark.parametrize(
    ("quirk", "begins"), [({}, b"data: {"), ({"space_after_data": False}, b"data:{")]
)
async def test_the_space_after_data_can_be_missing(quirk, begins):
    async with desk(Kind.TGI, **quirk) as at:
        assert (await at.ask(max_tokens=2, stream=True)).content.startswith(begins)


@pytest.mark.parametrize("kind", [Kind.VLLM, Kind.SGLANG, Kind.LLAMACPP], ids=str)
async def test_several_choices_are_told_apart_by_index(kind):
    async with desk(kind) as at:
        whole = await at.ask(max_tokens=6, n=2)
        stream = await at.ask(max_tokens=6, n=2, stream=True)

        assert len(whole.json()["choices"]) == 2
        assert [streamed_text(stream, index) for index in (0, 1)] == [
            whole_text(whole, index) for index in (0, 1)
        ]


@pytest.mark.parametrize("kind", KNOBS, ids=str)
async def test_several_prompts_are_answered_together(kind):
    async with desk(kind) as at:
        whole = await at.ask(COMPLETIONS, prompt=["one", "two"], max_tokens=5)

        assert len({whole_text(whole, index) for index in (0, 1)}) == 2


async def test_a_prompt_of_token_ids_has_its_length():
    async with desk(Kind.VLLM) as at:
        whole = await at.ask(COMPLETIONS, prompt=[5] * 300, max_tokens=5)

        assert whole.json()["usage"]["prompt_tokens"] == 300


async def test_content_in_parts_is_read():
    parts = [{"type": "text", "text": "hello there"}, {"type": "image_url", "image_url": {}}]
    async with desk(Kind.VLLM) as at:
        whole = await at.ask(max_tokens=6)
        in_parts = await at.ask(messages=[{"role": "user", "content": parts}], max_tokens=6)

        assert whole_text(in_parts) == whole_text(whole)


@pytest.mark.parametrize("kind", [Kind.VLLM, Kind.SGLANG], ids=str)
async def test_usage_can_be_asked_for_with_every_token(kind):
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with desk(kind) as at:
        stream = await at.ask(COMPLETIONS, max_tokens=4, stream=True, stream_options=options)

        counts = [event["usage"]["completion_tokens"] for event in events(stream)[:3]]
        assert counts == [1, 2, 3]


async def test_answers_end_by_themselves_unless_told_not_to():
    async with desk(Kind.VLLM) as at:
        natural = await at.ask(COMPLETIONS, prompt="stop early", max_tokens=4000)
        forced = await at.ask(COMPLETIONS, prompt="stop early", max_tokens=700, ignore_eos=True)

        assert natural.json()["choices"][0]["finish_reason"] == "stop"
        assert forced.json()["usage"]["completion_tokens"] == 700
        assert forced.json()["choices"][0]["finish_reason"] == "length"


async def test_vllm_orders_by_the_priority_of_the_header_before_the_bodys():
    knobs = Vllm(max_num_seqs=1, scheduling_policy=Policy.PRIORITY)
    asked = [("low", 0, "9"), ("high", 9, "1"), ("mid", 5, None), ("odd", 3, "x")]
    order = []
    async with desk(Kind.VLLM, knobs) as at:

        async def ask(name, priority, header):
            headers = {"x-vllm-priority": header} if header is not None else {}
            await at.ask(max_tokens=2, priority=priority, headers=headers)
            order.append(name)

        (task,) = await at.hold(1)
        async with asyncio.TaskGroup() as group:
            for name, priority, header in asked:
                group.create_task(ask(name, priority, header))
            await until(lambda: at.server.engine.jobs == 5)
            await at.switch()
        await task

    assert order == ["high", "odd", "mid", "low"]


async def test_vllm_names_the_answer_after_the_request():
    async with desk(Kind.VLLM) as at:
        answer = await at.ask(max_tokens=2, headers={"x-request-id": "router-42"})

        assert answer.json()["id"] == "chatcmpl-router-42"


@pytest.mark.parametrize("stream", [False, True])
async def test_vllm_sends_the_name_back_only_where_it_was_started_so(stream):
    named = {"headers": {"x-request-id": "router-42"}, "max_tokens": 2, "stream": stream}
    async with desk(Kind.VLLM) as usual, desk(Kind.VLLM, echoes_request_id=True) as echoing:
        assert "x-request-id" not in (await usual.ask(**named)).headers
        assert (await echoing.ask(**named)).headers["x-request-id"] == "router-42"


async def test_vllm_tells_its_load_in_a_header_where_it_is_asked_to():
    async with desk(Kind.VLLM) as at:
        asked = await at.ask(max_tokens=2, headers={"endpoint-load-metrics-format": "JSON"})

        told = orjson.loads(asked.headers["endpoint-load-metrics"].removeprefix("JSON "))
        assert set(told["named_metrics"]) == {"num_requests_waiting", "kv_cache_usage_perc"}
        assert "endpoint-load-metrics" not in (await at.ask(max_tokens=2)).headers


@pytest.mark.parametrize("kind", [Kind.SGLANG, Kind.LLAMACPP], ids=str)
async def test_a_repeated_prompt_comes_from_the_cache(kind):
    prompt = "a long story " * 60
    async with desk(kind) as at:
        await at.ask(COMPLETIONS, prompt=prompt, max_tokens=2)
        again = await at.ask(COMPLETIONS, prompt=prompt, max_tokens=2)

        cached = at.engine.read_usage(again.content, stream=False).cached_tokens
        assert cached > 100


async def test_vllm_tells_of_cached_tokens_only_where_it_was_started_so():
    prompt = "a long story " * 60
    for told in (False, True):
        async with desk(Kind.VLLM, reports_cached_tokens=told) as at:
            await at.ask(COMPLETIONS, prompt=prompt, max_tokens=2)
            again = await at.ask(COMPLETIONS, prompt=prompt, max_tokens=2)

            cached = at.engine.read_usage(again.content, stream=False).cached_tokens
            assert (cached is not None and cached > 100) is told


async def test_llamacpp_serves_any_model_and_fills_its_slots():
    async with desk(Kind.LLAMACPP, LlamaCpp(n_parallel=2)) as at:
        assert (await at.ask(model="nope", max_tokens=2)).status_code == 200
        found = at.engine.read_discovery(
            {path: (await at.client.get(path)).content for path in at.engine.traits.discovery_paths}
        )
        (task,) = await at.hold(1)
        slots = (await at.client.get("/slots")).json()

        assert found.max_in_flight == 2
        assert Feature.IMAGES not in found.features
        assert [slot["is_processing"] for slot in slots] == [True, False]
        await at.switch()
        await task


async def test_llamacpp_goes_on_to_the_end_of_its_slot_where_nothing_stops_it():
    async with desk(Kind.LLAMACPP, LlamaCpp(n_ctx_slot=100)) as at:
        whole = await at.ask(max_tokens=-1, ignore_eos=True)
        stream = await at.ask(ignore_eos=True, stream=True)

        choice = whole.json()["choices"][0]
        assert choice["finish_reason"] == "length"
        assert (
            sum(whole.json()["usage"][name] for name in ("prompt_tokens", "completion_tokens"))
            == 100
        )
        assert streamed_text(stream) == choice["message"]["content"]
        assert events(stream)[-1]["choices"][0]["finish_reason"] == "length"


TOKENIZE = {
    Kind.VLLM: ({"prompt": "hi there", "return_token_strs": True}, lambda a: a["tokens"]),
    Kind.TGI: ({"inputs": "hi there"}, lambda a: [one["id"] for one in a]),
    Kind.SGLANG: ({"prompt": "hi there"}, lambda a: a["tokens"]),
    Kind.LLAMACPP: ({"content": "hi there"}, lambda a: a["tokens"]),
}


@ALL
async def test_every_kind_cuts_text_into_the_same_tokens(kind):
    body, ids = TOKENIZE[kind]
    async with desk(kind) as at:
        answer = await at.client.post("/tokenize", json=body)
        broken = await at.client.post("/tokenize", content=b"{")

        assert len(ids(answer.json())) == 2
        assert broken.status_code in {200, 400}


async def test_vllm_tokenizes_conversations():
    async with desk(Kind.VLLM) as at:
        answer = await at.client.post(
            "/tokenize", json={"messages": [{"role": "user", "content": "hi"}]}
        )

        assert answer.json()["count"] > 2


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Kind.VLLM, "/version"),
        (Kind.VLLM, "/load"),
        (Kind.VLLM, "/ping"),
        (Kind.TGI, "/v1/models"),
        (Kind.TGI, "/"),
        (Kind.SGLANG, "/metrics"),
        (Kind.SGLANG, "/ready"),
        (Kind.LLAMACPP, "/health"),
    ],
)
async def test_other_pages_are_there(kind, path):
    async with desk(kind) as at:
        assert (await at.client.get(path)).status_code == 200


@ALL
async def test_what_is_not_there_is_404(kind):
    async with desk(kind) as at:
        answer = await at.client.get("/nosuch")

        assert answer.status_code == 404
        assert at.engine.read_fault(404, answer.content).message


@ALL
async def test_metrics_have_the_engines_own_names(kind):
    prefix = {
        Kind.VLLM: "vllm:",
        Kind.TGI: "tgi_",
        Kind.SGLANG: "sglang:",
        Kind.LLAMACPP: "llamacpp:",
    }
    async with desk(kind) as at:
        await at.ask(max_tokens=3)
        lines = (await at.client.get("/metrics")).text.splitlines()

        samples = [line for line in lines if not line.startswith("#")]
        assert len(samples) > 5
        assert all(line.startswith(prefix[kind]) for line in samples)


async def test_vllm_names_its_adapters():
    served = Served("e", EngineSpec(STEADY, Vllm()), model="base", adapters=("law",))
    async with serve([served]) as (server,), httpx.AsyncClient(base_url=server.url) as client:
        cards = (await client.get("/v1/models")).json()["data"]

        assert [(card["id"], card["parent"]) for card in cards] == [("base", None), ("law", "base")]


@pytest.mark.parametrize(("knobs", "first"), [(Sglang(), False), (Tgi(), True)])
async def test_memory_may_be_small(knobs, first):
    kind = knobs.kind
    async with desk(kind, knobs, memory=Memory(kv_tokens=160)) as at:
        answer = await at.ask(messages=[{"role": "user", "content": "word " * 300}], max_tokens=50)

        assert answer.status_code == (422 if first else 400)
