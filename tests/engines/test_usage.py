"""Token counts, against the numbers that the engines gave with their answers."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.engine import Kind, TokenUsage
from engines.registry import ENGINES
from tests.engines.exchanges import every, read

RECORDED = {
    "llamacpp_xllamacpp/chat_nonstream": TokenUsage(32, 12, 0),
    "llamacpp_xllamacpp/chat_stream": TokenUsage(32, 8, 31),
    "llamacpp_xllamacpp/chat_stream_usage": TokenUsage(32, 8, 31),
    "llamacpp_xllamacpp/completion": TokenUsage(1, 6, 0),
    "llamacpp_xllamacpp/completion_stream": TokenUsage(1, 6, 0),
    "llamacpp_xllamacpp/messages": TokenUsage(32, 6, 31),
    "llamacpp_xllamacpp/responses": TokenUsage(31, 6, 24),
    "sglang_from_source/chat": TokenUsage(31, 4, 16),
    "sglang_from_source/chat_stream_usage": TokenUsage(31, 2, None),
    "tgi_from_source/chat": TokenUsage(37, 4, None),
    "tgi_from_source/chat_stream": None,
    "tgi_from_source/chat_stream_usage": TokenUsage(37, 4, None),
    "tgi_from_source/chat_stream_usage_no_space": TokenUsage(37, 4, None),
    "tgi_from_source/completion": TokenUsage(2, 3, None),
    "tgi_from_source/completion_stream": TokenUsage(2, 3, None),
    "tgi_from_source/generate": TokenUsage(None, 2, None),
    "tgi_from_source/generate_stream": TokenUsage(2, 2, None),
    "vllm032_faults/worker_kill9_stream": None,
    "vllm032_full/chat_nonstream": TokenUsage(15, 12, 0),
    "vllm032_full/chat_stream_plain": None,
    "vllm032_full/chat_stream_usage": TokenUsage(15, 8, 0),
    "vllm032_full/chat_stream_usage_continuous": TokenUsage(15, 8, 0),
    "vllm032_full/completion_nonstream": TokenUsage(2, 6, 0),
    "vllm032_full/completion_stream_usage": TokenUsage(2, 6, 0),
    "vllm032_full/messages_nonstream": TokenUsage(15, 6, 0),
    "vllm032_full/messages_stream": TokenUsage(15, 6, 0),
    "vllm032_full/responses_nonstream": TokenUsage(13, 6, 0),
    "vllm032_full/responses_stream": TokenUsage(13, 6, 0),
}


@pytest.mark.parametrize(("name", "usage"), RECORDED.items(), ids=RECORDED)
def test_a_recorded_answers_usage_is_read(name, usage):
    exchange = read(name)
    engine = ENGINES[exchange.kind]

    assert engine.read_usage(exchange.body, stream=exchange.is_stream) == usage


@pytest.mark.parametrize(
    "exchange",
    [
        exchange
        for exchange in every()
        if not exchange.is_stream and exchange.status == 200 and b'"usage"' in exchange.body
    ],
    ids=lambda exchange: exchange.name,
)
def test_reading_the_end_tells_what_reading_it_all_tells(exchange):
    whole = orjson.loads(exchange.body)["usage"]

    usage = ENGINES[exchange.kind].read_usage(exchange.body[-8192:], stream=False)

    assert usage is not None
    assert usage.output_tokens == whole.get("completion_tokens", whole.get("output_tokens"))


def test_a_messages_stream_counts_its_prompt_at_the_start_and_its_output_at_the_end():
    exchange = read("llamacpp_xllamacpp/messages_stream")
    engine = ENGINES[Kind.LLAMACPP]
    opening = orjson.loads(exchange.payloads[0])["message"]["usage"]
    prompt = opening["input_tokens"] + opening["cache_read_input_tokens"]

    assert engine.read_usage(exchange.body, stream=True) == TokenUsage(
        prompt, 6, opening["cache_read_input_tokens"]
    )
    assert engine.read_usage(exchange.body[-300:], stream=True) == TokenUsage(None, 6, None)


def test_a_messages_stream_that_broke_off_has_no_output_count_yet():
    exchange = read("vllm032_full/messages_stream")
    cut = exchange.body[: exchange.body.index(b"event: message_delta")]

    assert ENGINES[Kind.VLLM].read_usage(cut, stream=True) == TokenUsage(15, None, None)


def test_an_embedding_has_no_output():
    body = b'{"object":"list","data":[],"model":"m","usage":{"prompt_tokens":5,"total_tokens":5}}'

    assert ENGINES[Kind.OPENAI].read_usage(body, stream=False) == TokenUsage(5, None, None)


@given(content=st.text(max_size=40), prompt=st.integers(0, 10**6), output=st.integers(0, 10**6))
def test_text_that_speaks_of_usage_is_not_taken_for_it(content, prompt, output):
    body = {
        "usage": {"prompt_tokens": prompt, "completion_tokens": output},
        "choices": [{"message": {"content": content + '"usage":{"prompt_tokens":1}'}}],
    }

    usage = ENGINES[Kind.OPENAI].read_usage(orjson.dumps(body), stream=False)

    assert usage == TokenUsage(prompt, output, None)


@given(cut=st.integers(0, 500))
def test_usage_that_was_cut_off_is_not_guessed(cut):
    exchange = read("vllm032_full/chat_stream_usage")
    start = exchange.body.rindex(b'"usage"')
    end = exchange.body.index(b"}}", start) + 2
    body = exchange.body[: min(start + cut, end - 1)]

    assert ENGINES[Kind.VLLM].read_usage(body, stream=True) is None
