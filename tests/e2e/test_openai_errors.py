"""The OpenAI SDK, unchanged, hears every engine's refusals and failures as what they are."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from engines.engine import Kind
from tests.e2e.running import pool, serving
from tests.engines.exchanges import KIND_OF_FOLDER, RECORDINGS
from tests.fakes.scripted import answering, saying, scripted_engine, streaming

BAD, NOT_FOUND, BUSY = openai.BadRequestError, openai.NotFoundError, openai.RateLimitError
FAILED, KEY = openai.InternalServerError, openai.AuthenticationError
TOO_LONG = "context_length_exceeded"

# What the SDK raises, the status, and the code that a program looks at.
EXPECTED = {
    (BAD, 400, None): [
        *("sglang_from_source/err_bad_header", "sglang_from_source/err_bad_value"),
        *("sglang_from_source/err_validation", "sglang_from_source/stream_bad_value"),
        *("tgi_from_source/err_template", "tgi_from_source/err_text_bad_json"),
        *("tgi_from_source/err_text_content_type", "tgi_from_source/err_text_wrong_type"),
        *("tgi_from_source/err_tool", "tgi_from_source/err_top_p"),
        "tgi_from_source/stream_top_p",
        *("vllm032_full/err_empty_messages", "vllm032_full/err_max_tokens_0"),
        *("vllm032_full/err_n0", "vllm032_full/err_no_messages"),
        *("vllm032_full/err_temperature", "vllm032_full/err_temperature_type"),
        "llamacpp_xllamacpp/err_no_messages",
    ],
    (BAD, 400, TOO_LONG): [
        *("sglang_from_source/err_context", "sglang_from_source/err_total_tokens"),
        *("tgi_from_source/err_input_length", "tgi_from_source/err_total_tokens"),
        "tgi_from_source/stream_input_length",
        *("vllm032_full/err_ctx_max_tokens_too_big", "vllm032_full/err_ctx_prompt_too_long_stream"),
        "llamacpp_xllamacpp/err_ctx",
    ],
    (NOT_FOUND, 404, "model_not_found"): [
        *("vllm032_full/err_unknown_model", "vllm032_full/err_unknown_model_stream"),
        "vllm032_default/lora_chat",
    ],
    (KEY, 401, "invalid_api_key"): ["tgi_from_source/err_unauthorized"],
    (openai.APIStatusError, 413, "request_too_large"): ["tgi_from_source/err_text_too_large"],
    (BUSY, 429, "saturated"): [
        *("sglang_from_source/err_queue_full", "sglang_from_source/err_waiting_timeout"),
        *("sglang_from_source/stream_queue_full", "sglang_from_source/stream_evicted"),
        *("tgi_from_source/err_overloaded", "tgi_from_source/stream_overloaded"),
        "tgi_from_source/native_stream_overloaded",
        *("vllm032_limits/overload_503_nonstream", "vllm032_limits/overload_503_stream"),
    ],
    (FAILED, 501, "unsupported"): [
        *("sglang_from_source/err_no_route", "tgi_from_source/err_no_route"),
        *("tgi_from_source/err_batch_size", "tgi_from_source/err_grammar_off"),
        *("tgi_from_source/err_grammar_properties", "tgi_from_source/err_no_vision"),
        *("tgi_from_source/err_suffix", "tgi_from_source/err_too_many_stops"),
        "tgi_from_source/err_top_logprobs",
        *("vllm032_full/nosuch", "vllm032_full/tools_required"),
        *("llamacpp_xllamacpp/err_image_input", "llamacpp_xllamacpp/err_n_above_slots"),
    ],
    (FAILED, 502, "engine_failed"): [
        *("sglang_from_source/err_internal", "sglang_from_source/stream_internal"),
        *("tgi_from_source/err_generation", "tgi_from_source/err_incomplete"),
        *("tgi_from_source/err_unhealthy", "tgi_from_source/stream_generation"),
        *("vllm032_faults/worker_kill9_nonstream", "vllm032_faults/drain_new"),
        "vllm032_faults/drain_newstream",
    ],
}  # fmt: skip
CASES = [
    pytest.param(name, *expected, id=name) for expected, names in EXPECTED.items() for name in names
]


def recorded(name):
    """Return an answer's bytes as they came over the wire."""
    (file,) = (path for path in RECORDINGS.glob(f"{name}.*") if path.suffix in {".http", ".raw"})
    return file.read_bytes().rpartition(b"<<< RESPONSE (raw bytes)\n")[2]


def kind_of(name):
    return KIND_OF_FOLDER[name.split("/", maxsplit=1)[0]]


@asynccontextmanager
async def sdk(router, *, retries=0) -> AsyncGenerator[openai.AsyncOpenAI]:
    url = f"{router.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=retries) as client:
        yield client


async def chat(client, *, stream=False, **more):
    messages = [{"role": "user", "content": "hello"}]
    answer = await client.chat.completions.create(
        model="m", messages=messages, stream=stream, **more
    )
    return [event async for event in answer] if stream else answer


@pytest.mark.parametrize(("name", "raises", "status", "code"), CASES)
async def test_an_engines_error_is_the_sdks_exception(name, raises, status, code):
    raw = recorded(name)
    async with (
        scripted_engine(saying(raw)) as engine,
        serving(pool("p", engine, kind=kind_of(name))) as router,
        sdk(router) as client,
    ):
        with pytest.raises(raises) as caught:
            await chat(client, stream=b"text/event-stream" in raw or "stream" in name)

        error = caught.value
        assert (error.status_code, error.code) == (status, code)
        assert set(error.body) == {"message", "type", "param", "code"}
        assert error.body["message"]
        after = error.response.headers.get("retry-after")
        assert (after is not None and 1 <= int(after) <= 30) is (status == 429)


@pytest.mark.parametrize("name", EXPECTED[BUSY, 429, "saturated"])
async def test_an_engine_without_room_is_not_noticed_where_another_has_some(name):
    """Also where the engine had said 200 already: its status is not ours before its first event."""
    raw = recorded(name)
    good = b'{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}'
    stream = b"text/event-stream" in raw
    async with (
        scripted_engine(saying(raw)) as full,
        scripted_engine(streaming(good) if stream else answering(good)) as free,
        serving(pool("p", full, kind=kind_of(name)), pool("q", free, kind=Kind.VLLM)) as router,
        sdk(router) as client,
    ):
        heads = []
        while not full.calls:
            answer = await client.chat.completions.with_raw_response.create(
                model="m", messages=[{"role": "user", "content": "a"}], stream=stream
            )
            heads.append(answer)
            said: Any = answer.parse()
            if stream:
                assert [event.id async for event in said] == ["1"]
            else:
                assert said.id == "1"

        assert heads[-1].status_code == 200
        assert heads[-1].headers["x-sla-reason"] == "retry"
        assert heads[-1].headers["x-sla-endpoint"] == "q-0"


async def test_the_sdks_own_retries_follow_retry_after_and_are_served():
    busy = answering(b'{"error":"Model is overloaded","error_type":"overloaded"}', b"429 Busy")
    good = b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}'
    async with (
        scripted_engine(busy, answering(good)) as engine,
        serving(pool("p", engine, kind=Kind.TGI)) as router,
        sdk(router, retries=1) as client,
    ):
        answer = await chat(client)

        assert answer.model == "m"
        assert len(engine.calls) == 2


LATE = [
    pytest.param(
        Kind.VLLM,
        b'{"error":{"message":"EngineCore died","type":"InternalServerError","code":500}}',
        id="vllm",
    ),
    pytest.param(
        Kind.SGLANG,
        b'{"error": {"object": "error", "message": "EngineCore died", "code": 500}}',
        id="sglang",
    ),
    pytest.param(
        Kind.TGI,
        b'{"error":{"message":"Request failed during generation: EngineCore died"}}',
        id="tgi",
    ),
    pytest.param(
        Kind.TGI,
        b'{"error":"Request failed during generation: EngineCore died","error_type":"generation"}',
        id="tgi, a string",
    ),
]


@pytest.mark.parametrize(("kind", "late"), LATE)
async def test_an_error_after_the_first_token_is_raised_where_it_came(kind, late):
    first = b'{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}'
    async with (
        scripted_engine(streaming(first, late)) as engine,
        serving(pool("p", engine, kind=kind)) as router,
        sdk(router) as client,
    ):
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "a"}], stream=True
        )
        events = aiter(stream)
        assert (await anext(events)).id == "1"
        with pytest.raises(openai.APIError, match="EngineCore died"):
            await anext(events)


async def test_a_connection_that_breaks_after_the_first_token_is_raised_as_an_error():
    async def breaking(call):
        await call.begin_stream()
        await call.say_chunk(b'data: {"id":"1","choices":[]}\n\n')
        call.close()

    async with (
        scripted_engine(breaking) as engine,
        serving(pool("p", engine)) as router,
        sdk(router) as client,
    ):
        with pytest.raises(openai.APIError, match="broke off"):
            await chat(client, stream=True)


def synchronous(url, **more):
    """Ask with the client that most people use."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        return client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "a"}], **more
        )


async def test_the_synchronous_client_hears_the_same():
    async with (
        scripted_engine(answering(b"busy", b"503 Service Unavailable")) as engine,
        serving(pool("p", engine)) as router,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            await asyncio.to_thread(synchronous, router.url)

        assert int(caught.value.response.headers["retry-after"]) >= 1
