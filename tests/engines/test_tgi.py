"""TGI: bodies rewritten on the way in, answers repaired on the way out."""

import orjson
import pytest

from engines import sse
from engines.engine import Dialect, Discovery, EngineLoad, Feature, Route
from engines.tgi import Tgi
from tests.engines.exchanges import read
from tests.engines.questions import ask

TGI = Tgi()
PLAIN = {"model": "tgi", "max_tokens": 1024}


def sent(document, dialect=Dialect(), route=Route.CHAT):  # noqa: B008  a frozen value
    return orjson.loads(TGI.prepare(ask(document, route), dialect).body)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CALL = {"id": "0", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"top_p": 1}, {}),
        ({"top_p": 1.0}, {}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"top_p": 0}, {"top_p": 0}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"presence_penalty": 0}, {}),
        ({"presence_penalty": 1.5}, {}),
        ({"frequency_penalty": 1.5}, {"frequency_penalty": 1.5}),
        ({"logit_bias": {}}, {}),
        ({"logit_bias": {"5": 1}}, {}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop": ["x", "y"]}),
        ({"stop": None}, {}),
        ({"seed": 5}, {"seed": 5}),
        ({"seed": -5}, {}),
        ({"stream": None}, {}),
        ({"stream": True}, {"stream": True}),
        ({"stream_options": None}, {}),
        ({"stream_options": {"include_usage": None}}, {}),
        ({"stream_options": {"include_usage": False}}, {}),
        (
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
            {"stream_options": {"include_usage": True}},
        ),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 8}, {"max_tokens": 8}),
        ({"max_tokens": 7, "max_completion_tokens": 8}, {"max_tokens": 8}),
        ({"max_tokens": 7, "max_completion_tokens": None}, {"max_tokens": 7}),
        ({"max_tokens": 0}, {"max_tokens": 0}),
        ({"max_tokens": 5000}, {"max_tokens": 5000}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": SCHEMA},
                }
            },
            {
                "response_format": {
                    "type": "json_schema",
                    "value": {"name": "n", "schema": SCHEMA},
                }
            },
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            {"response_format": {"type": "json_schema", "value": {"schema": SCHEMA}}},
        ),
        (
            {"response_format": {"type": "regex", "value": "a+"}},
            {"response_format": {"type": "regex", "value": "a+"}},
        ),
        (
            {"response_format": {"type": "json_schema"}},
            {"response_format": {"type": "json_schema"}},
        ),
        ({"tools": []}, {}),
        ({"suffix": ""}, {}),
        ({"suffix": "x"}, {"suffix": "x"}),
        ({"user": "u", "metadata": {"a": "b"}}, {"user": "u", "metadata": {"a": "b"}}),
        (
            {"messages": [{"role": "user", "content": "hi"}]},
            {"messages": [{"role": "user", "content": "hi"}]},
        ),
        (
            {"messages": [{"role": "assistant", "content": None}, "odd"]},
            {"messages": [{"role": "assistant", "content": ""}, "odd"]},
        ),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [CALL]}]},
            {"messages": [{"role": "assistant", "tool_calls": [CALL]}]},
        ),
        (
            {"messages": [{"role": "assistant", "content": "so", "tool_calls": [CALL]}]},
            {"messages": [{"role": "assistant", "content": "so", "tool_calls": [CALL]}]},
        ),
    ],
    ids=lambda value: orjson.dumps(value).decode(),
)
def test_a_field_is_sent_as_tgi_means_it(given, expected):
    assert sent({"model": "public", **given}) == {**PLAIN, **expected}


def test_the_configured_bound_is_sent_where_the_caller_set_none():
    assert sent({"model": "m"}, Dialect(max_output_tokens=300))["max_tokens"] == 300
    assert sent({"model": "m", "max_tokens": 9}, Dialect(max_output_tokens=300))["max_tokens"] == 9


def test_an_adapter_is_named_and_the_base_model_is_not():
    assert sent({"model": "law-public"}, Dialect(upstream_model="law"))["model"] == "law"
    assert sent({"model": "anything"})["model"] == "tgi"


def test_a_body_that_tgi_understands_as_it_is_goes_as_it_is():
    question = ask({"max_tokens": 5, "model": "tgi", "prompt": "x"}, Route.COMPLETIONS)

    prepared = TGI.prepare(question, Dialect())

    assert prepared.body is question.body
    assert prepared.repairs


def test_what_tgi_does_wrongly_without_saying_so_is_not_offered():
    assert not TGI.traits.features & {
        Feature.MANY_CHOICES,
        Feature.MANY_LOGPROBS,
        Feature.MANY_STOPS,
        Feature.PRESENCE_PENALTY,
        Feature.TOOLS,
        Feature.TOOL_CHOICE_REQUIRED,
        Feature.JSON_OBJECT,
        Feature.TOKEN_IDS,
        Feature.LOGIT_BIAS,
    }
    assert TGI.traits.max_output_tokens == 1024


@pytest.mark.parametrize(
    ("name", "route", "answer_id", "reasons"),
    [
        ("chat", Route.CHAT, "chatcmpl-req-7", ["length"]),
        ("chat_stop_sequence", Route.CHAT, "chatcmpl-req-7", ["stop"]),
        ("chat_tool", Route.CHAT, "chatcmpl-req-7", ["tool_calls"]),
        ("completion", Route.COMPLETIONS, "cmpl-req-7", ["length"]),
        ("chat_stream_usage", Route.CHAT, "chatcmpl-req-7", [None, None, None, "stop"]),
        ("completion_stream", Route.COMPLETIONS, "cmpl-req-7", [None, None, "stop"]),
    ],
)
def test_an_answer_gets_an_id_the_public_name_and_openais_reasons(name, route, answer_id, reasons):
    exchange = read(f"tgi_from_source/{name}")
    question = ask({"model": "public"}, route)
    pieces = exchange.payloads if exchange.is_stream else [exchange.body]

    repaired = [TGI.repair_event(piece, question) for piece in pieces if piece != sse.DONE]

    documents = [orjson.loads(piece) for piece in repaired]
    assert {document["id"] for document in documents} == {answer_id}
    assert {document["model"] for document in documents} == {"public"}
    told = [choice["finish_reason"] for document in documents for choice in document["choices"]]
    assert told == reasons


def test_repair_keeps_the_rest_of_an_answer():
    exchange = read("tgi_from_source/chat")
    before = orjson.loads(exchange.body)

    after = orjson.loads(TGI.repair_body(exchange.body, ask({"model": "public"})))

    assert after == {**before, "id": "chatcmpl-req-7", "model": "public"}


def test_the_end_of_a_stream_is_left_alone():
    assert TGI.repair_event(sse.DONE, ask({"model": "m"})) == sse.DONE


def test_an_id_that_the_engine_gave_is_kept():
    repaired = TGI.repair_body(b'{"id":"own","choices":[7]}', ask({"model": "m"}))

    assert orjson.loads(repaired) == {"id": "own", "choices": [7], "model": "public"}


def test_the_load_is_read_with_reserved_tokens_and_without_a_capacity():
    load = TGI.read_load(read("tgi_from_source/metrics").body.decode())

    assert load == EngineLoad(running=8, waiting=3, kv_reserved_tokens=12288, progress=1221.0)


def test_kv_usage_is_known_where_the_capacity_is():
    load = TGI.read_load("tgi_batch_current_max_tokens 30\ntgi_batch_max_total_tokens 40\n")

    assert (load.kv_usage, load.kv_capacity_tokens) == (0.75, 40)


def test_the_model_the_context_and_the_permits_are_discovered():
    found = TGI.read_discovery({"/info": read("tgi_from_source/info").body})

    assert found == Discovery(
        models=("meta-llama/Llama-3.1-8B-Instruct",),
        max_context_tokens=4096,
        max_in_flight=128,
        version="3.3.6-dev0",
    )
