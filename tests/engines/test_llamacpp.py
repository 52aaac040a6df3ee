"""llama.cpp: load, discovery and what its model can do."""

import orjson
import pytest

from engines.engine import Dialect, Discovery, EngineLoad, Feature
from engines.llamacpp import LlamaCpp
from tests.engines.exchanges import body_of, read
from tests.engines.questions import ask

LLAMACPP = LlamaCpp()
BASE = LLAMACPP.traits.features


def discovered(**props):
    return LLAMACPP.read_discovery({"/props": orjson.dumps(props)}).features


def test_the_callers_bytes_go_on_even_where_priority_is_hoped_for():
    question = ask({"model": "m", "priority": 1})

    prepared = LLAMACPP.prepare(question, Dialect(honours_priority=True))

    assert prepared.body is question.body


def test_the_load_of_a_busy_server_is_read():
    load = LLAMACPP.read_load(body_of("llamacpp_xllamacpp/metrics_under_load").decode())

    assert load == EngineLoad(running=2, waiting=2, progress=15.0)


def test_an_older_servers_kv_usage_is_read():
    assert LLAMACPP.read_load("llamacpp:kv_cache_usage_ratio 0.5\n").kv_usage == 0.5


def test_slots_and_the_context_of_one_slot_are_discovered():
    answers = {
        "/v1/models": read("llamacpp_xllamacpp/models").body,
        "/props": read("llamacpp_xllamacpp/props").body,
    }

    assert LLAMACPP.read_discovery(answers) == Discovery(
        models=("smollm2",),
        max_context_tokens=2048,
        max_in_flight=4,
        features=BASE,
        version="b0-unknown",
    )


@pytest.mark.parametrize(
    ("props", "more"),
    [
        ({"modalities": {"vision": True}}, {Feature.IMAGES, Feature.TOOL_CHOICE_REQUIRED}),
        ({"modalities": {"audio": True}}, {Feature.AUDIO, Feature.TOOL_CHOICE_REQUIRED}),
        ({"chat_template_caps": {"supports_tools": False}}, set()),
        ({"chat_template_caps": {"supports_tools": True}}, {Feature.TOOL_CHOICE_REQUIRED}),
    ],
)
def test_what_the_model_can_take_in_is_added(props, more):
    assert discovered(**props) == BASE | more


def test_a_server_that_tells_nothing_is_not_credited_with_anything():
    assert LLAMACPP.read_discovery({}) == Discovery()


def test_timings_stand_in_for_usage_only_where_there_is_none():
    both = b'{"timings":{"prompt_n":1,"cache_n":2,"predicted_n":3},"usage":{"prompt_tokens":9}}'
    usage = LLAMACPP.read_usage(both, stream=False)

    assert usage is not None
    assert usage.prompt_tokens == 9
    assert LLAMACPP.read_usage(b'{"timings":{}}', stream=False) is None
