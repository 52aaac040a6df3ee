"""Every recorded refusal and failure, and what it means."""

import orjson
import pytest

from engines import faults, words
from engines.engine import FaultKind, Kind
from engines.registry import ENGINES
from tests.engines.exchanges import every, read

ANSWERED = {
    "llamacpp_xllamacpp/err_bad_json": FaultKind.INVALID,
    "llamacpp_xllamacpp/err_ctx": FaultKind.CONTEXT_TOO_LONG,
    "llamacpp_xllamacpp/err_embeddings": FaultKind.UNSUPPORTED,
    "llamacpp_xllamacpp/err_image_input": FaultKind.UNSUPPORTED,
    "llamacpp_xllamacpp/err_n_above_slots": FaultKind.UNSUPPORTED,
    "llamacpp_xllamacpp/err_no_messages": FaultKind.INVALID,
    "llamacpp_xllamacpp/generate": FaultKind.UNSUPPORTED,
    "llamacpp_xllamacpp/info": FaultKind.UNSUPPORTED,
    "llamacpp_xllamacpp/load": FaultKind.UNSUPPORTED,
    "llamacpp_xllamacpp/version": FaultKind.UNSUPPORTED,
    "sglang_from_source/err_bad_header": FaultKind.INVALID,
    "sglang_from_source/err_bad_value": FaultKind.INVALID,
    "sglang_from_source/err_context": FaultKind.CONTEXT_TOO_LONG,
    "sglang_from_source/err_internal": FaultKind.BROKEN,
    "sglang_from_source/err_no_route": FaultKind.UNSUPPORTED,
    "sglang_from_source/err_queue_full": FaultKind.BUSY,
    "sglang_from_source/err_total_tokens": FaultKind.CONTEXT_TOO_LONG,
    "sglang_from_source/err_validation": FaultKind.INVALID,
    "sglang_from_source/err_waiting_timeout": FaultKind.BUSY,
    "tgi_from_source/err_batch_size": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_generation": FaultKind.BROKEN,
    "tgi_from_source/err_grammar_off": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_grammar_properties": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_incomplete": FaultKind.BROKEN,
    "tgi_from_source/err_input_length": FaultKind.CONTEXT_TOO_LONG,
    "tgi_from_source/err_no_route": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_no_vision": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_overloaded": FaultKind.BUSY,
    "tgi_from_source/err_suffix": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_template": FaultKind.INVALID,
    "tgi_from_source/err_text_bad_json": FaultKind.INVALID,
    "tgi_from_source/err_text_content_type": FaultKind.INVALID,
    "tgi_from_source/err_text_too_large": FaultKind.TOO_LARGE,
    "tgi_from_source/err_text_wrong_type": FaultKind.INVALID,
    "tgi_from_source/err_too_many_stops": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_tool": FaultKind.INVALID,
    "tgi_from_source/err_top_logprobs": FaultKind.UNSUPPORTED,
    "tgi_from_source/err_top_p": FaultKind.INVALID,
    "tgi_from_source/err_total_tokens": FaultKind.CONTEXT_TOO_LONG,
    "tgi_from_source/err_unauthorized": FaultKind.UNAUTHORIZED,
    "tgi_from_source/err_unhealthy": FaultKind.BROKEN,
    "vllm032_default/err_wrong_ctype": FaultKind.INVALID,
    "vllm032_default/lora_chat": FaultKind.NOT_FOUND,
    "vllm032_default/lora_load": FaultKind.UNSUPPORTED,
    "vllm032_default/messages_err_unknown_model": FaultKind.NOT_FOUND,
    "vllm032_faults/drain_new": FaultKind.BROKEN,
    "vllm032_faults/drain_newstream": FaultKind.BROKEN,
    "vllm032_faults/worker_kill9_nonstream": FaultKind.BROKEN,
    "vllm032_full/embeddings": FaultKind.UNSUPPORTED,
    "vllm032_full/err_bad_json": FaultKind.INVALID,
    "vllm032_full/err_ctx_max_tokens_too_big": FaultKind.CONTEXT_TOO_LONG,
    "vllm032_full/err_ctx_prompt_too_long_stream": FaultKind.CONTEXT_TOO_LONG,
    "vllm032_full/err_empty_body": FaultKind.INVALID,
    "vllm032_full/err_empty_messages": FaultKind.INVALID,
    "vllm032_full/err_json_array": FaultKind.INVALID,
    "vllm032_full/err_max_tokens_0": FaultKind.INVALID,
    "vllm032_full/err_method_get": FaultKind.UNSUPPORTED,
    "vllm032_full/err_n0": FaultKind.INVALID,
    "vllm032_full/err_no_messages": FaultKind.INVALID,
    "vllm032_full/err_stream_options_without_stream": FaultKind.INVALID,
    "vllm032_full/err_temperature": FaultKind.INVALID,
    "vllm032_full/err_temperature_type": FaultKind.INVALID,
    "vllm032_full/err_unknown_model": FaultKind.NOT_FOUND,
    "vllm032_full/err_unknown_model_stream": FaultKind.NOT_FOUND,
    "vllm032_full/err_wrong_ctype": FaultKind.INVALID,
    "vllm032_full/lora_load_again": FaultKind.INVALID,
    "vllm032_full/lora_load_missing": FaultKind.NOT_FOUND,
    "vllm032_full/lora_unload_again": FaultKind.NOT_FOUND,
    "vllm032_full/messages_err_unknown_model": FaultKind.NOT_FOUND,
    "vllm032_full/nosuch": FaultKind.UNSUPPORTED,
    "vllm032_full/tools_required": FaultKind.UNSUPPORTED,
    "vllm032_limits/overload_503_nonstream": FaultKind.BUSY,
    "vllm032_limits/overload_503_stream": FaultKind.BUSY,
}

IN_STREAM = {
    "sglang_from_source/stream_bad_value": (FaultKind.INVALID, "Failed to compile json grammar"),
    "sglang_from_source/stream_evicted": (
        FaultKind.BUSY,
        "The request is aborted by a higher priority request.",
    ),
    "sglang_from_source/stream_internal": (FaultKind.BROKEN, "Generation aborted."),
    "sglang_from_source/stream_queue_full": (FaultKind.BUSY, "The request queue is full."),
    "tgi_from_source/native_stream_overloaded": (FaultKind.BUSY, "Model is overloaded"),
    "tgi_from_source/stream_generation": (
        FaultKind.BROKEN,
        "Request failed during generation: Server error: transport error",
    ),
    "tgi_from_source/stream_incomplete": (FaultKind.BROKEN, "Incomplete generation stream"),
    "tgi_from_source/stream_input_length": (
        FaultKind.CONTEXT_TOO_LONG,
        "Input validation error: `inputs` must have less than 4095 tokens. Given: 5002",
    ),
    "tgi_from_source/stream_overloaded": (FaultKind.BUSY, "Model is overloaded"),
    "tgi_from_source/stream_top_p": (
        FaultKind.INVALID,
        "Input validation error: `top_p` must be > 0.0 and < 1.0",
    ),
    "vllm032_faults/stream_cut_by_sigterm": (
        FaultKind.BROKEN,
        "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    ),
    "vllm032_faults/worker_kill9_stream": (
        FaultKind.BROKEN,
        "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    ),
}


def test_every_recorded_refusal_is_expected_here():
    refused = {exchange.name for exchange in every() if exchange.status >= 400}

    assert refused == ANSWERED.keys()


@pytest.mark.parametrize(("name", "kind"), ANSWERED.items(), ids=ANSWERED)
def test_a_recorded_refusal_means(name, kind):
    exchange = read(name)

    fault = ENGINES[exchange.kind].read_fault(exchange.status, exchange.body)

    assert fault.kind is kind


@pytest.mark.parametrize(("name", "expected"), IN_STREAM.items(), ids=IN_STREAM)
def test_a_recorded_in_stream_failure_means(name, expected):
    exchange = read(name)
    engine = ENGINES[exchange.kind]

    (fault,) = filter(None, map(engine.read_event_fault, exchange.payloads))

    assert (fault.kind, fault.message) == expected


@pytest.mark.parametrize(
    ("name", "message", "param", "code"),
    [
        (
            "vllm032_full/err_unknown_model",
            "The model `nope` does not exist. Valid aliases: tiny.",
            "model",
            None,
        ),
        ("llamacpp_xllamacpp/err_no_messages", "'messages' is required", None, None),
        ("tgi_from_source/err_overloaded", "Model is overloaded", None, None),
        ("sglang_from_source/err_queue_full", "The request queue is full.", None, None),
        (
            "sglang_from_source/err_validation",
            "body.query: Field required; body.items: Field required",
            "body.query",
            None,
        ),
        (
            "tgi_from_source/err_unauthorized",
            "the engine answered 401 Unauthorized without saying why",
            None,
            None,
        ),
    ],
)
def test_the_engines_own_words_are_kept(name, message, param, code):
    exchange = read(name)

    fault = ENGINES[exchange.kind].read_fault(exchange.status, exchange.body)

    assert (fault.message, fault.param, fault.code) == (message, param, code)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, b'{"error":"Unauthorized"}', FaultKind.UNAUTHORIZED, "Unauthorized"),
        (403, b"", FaultKind.UNAUTHORIZED, None),
        (
            502,
            b"<html><h1>Bad Gateway</h1></html>",
            FaultKind.BROKEN,
            "the engine answered 502 Bad Gateway without saying why",
        ),
        (599, b"", FaultKind.BROKEN, "the engine answered 599 without saying why"),
        (302, b"", FaultKind.BROKEN, None),
        (408, b"", FaultKind.BROKEN, None),
        (500, b"Internal Server Error", FaultKind.BROKEN, "Internal Server Error"),
        (429, b'"slow down"', FaultKind.BUSY, "slow down"),
        (
            529,
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            FaultKind.BUSY,
            "Overloaded",
        ),
        (
            400,
            b'{"error":{"message":"too long","code":"context_length_exceeded"}}',
            FaultKind.CONTEXT_TOO_LONG,
            "too long",
        ),
        (400, b'{"message":"no"}', FaultKind.INVALID, "no"),
        (400, b'{"reason":"no"}', FaultKind.INVALID, '{"reason":"no"}'),
        (400, b"[1]", FaultKind.INVALID, "[1]"),
        (400, b'{"detail":{"code":"c","message":"m"}}', FaultKind.INVALID, "m"),
        (400, b'{"detail":7}', FaultKind.INVALID, None),
        (400, b"a\x00b\xff", FaultKind.INVALID, "ab�"),
        (404, b"404 page not found", FaultKind.UNSUPPORTED, "404 page not found"),
        (404, b'{"error":"no model m"}', FaultKind.NOT_FOUND, "no model m"),
        (501, b"", FaultKind.UNSUPPORTED, None),
    ],
)
def test_a_refusal_in_any_form_is_understood(status, body, kind, message):
    fault = ENGINES[Kind.OPENAI].read_fault(status, body)

    assert fault.kind is kind
    assert message is None or fault.message == message


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "m"}}, FaultKind.BROKEN),
        ({"error": "m"}, FaultKind.BROKEN),
        ({"error": True}, FaultKind.BROKEN),
        ({"error": {"message": "m", "code": 429}}, FaultKind.BUSY),
        ({"error": {"message": "m", "code": 7}}, FaultKind.BROKEN),
        ({"error": {"message": "m", "type": "BadRequestError"}}, FaultKind.INVALID),
        ({"type": "error", "error": {"type": "overloaded_error"}}, FaultKind.BUSY),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, FaultKind.BUSY),
        ({"object": "error", "message": "m", "code": 503}, FaultKind.BUSY),
        ({"id": "1", "choices": [], "error": {"code": 400, "message": "m"}}, FaultKind.INVALID),
        ({"response": {"error": {"code": "server_error"}}, "type": "response.failed"}, "broken"),
        ({"response": {"status": "failed"}, "type": "response.failed"}, FaultKind.BROKEN),
        ({"response": {"error": None}, "type": "response.completed"}, None),
        ({"choices": [{"delta": {"content": "error"}}]}, None),
        ({"error": None, "choices": []}, None),
        ({"error": {}, "choices": []}, None),
    ],
)
def test_an_event_is_a_fault_only_if_it_says_so(event, kind):
    fault = ENGINES[Kind.OPENAI].read_event_fault(orjson.dumps(event))

    assert (fault.kind if fault else None) == kind


@pytest.mark.parametrize("length", [1, 1999, 2000, 2001, 300_000])
def test_a_long_message_is_cut_and_says_so(length):
    fault = faults.fault(words.Words(400, "x" * length), FaultKind.INVALID)

    assert len(fault.message) == min(length, 2000)
    assert fault.message.endswith("…") == (length > 2000)
