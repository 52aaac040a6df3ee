from enum import Enum

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.engine import Feature, Route
from policies.facts import SlaClass
from router.errors import BadRequest, Problem
from router.intake_body import Contents, max_tokens_of, read_body
from router.intake_features import needs_of
from router.prompt_size import EXACT_CHARACTERS, text_bytes

HELLO: list[object] = [{"role": "user", "content": "hello"}]
MAIN_FIELD: dict[Route, dict[str, object]] = {
    Route.CHAT: {"messages": HELLO},
    Route.MESSAGES: {"messages": HELLO},
    Route.COUNT_TOKENS: {"messages": HELLO},
    Route.EMBEDDINGS: {"input": "hello"},
}


def read(route: Route, **fields: object) -> Contents:
    """Read a body that has all its route needs, changed by `fields`."""
    return read_body(route, {"model": "m", **MAIN_FIELD.get(route, {}), **fields})


def refusal_of(route: Route, **fields: object) -> Problem:
    with pytest.raises(BadRequest) as caught:
        read(route, **fields)
    return caught.value.problem


def features_of(route: Route, **fields: object) -> set[Enum]:
    return set(needs_of(route, read(route, **fields).features)) - {route}


@pytest.mark.parametrize("route", Route)
def test_every_route_needs_a_model(route: Route):
    for model in (None, ""):
        problem = refusal_of(route, model=model)
        assert problem.message == "you must provide a model parameter"
        assert problem.param == "model"
    assert "expected a string" in refusal_of(route, model=7).message


@pytest.mark.parametrize("route", MAIN_FIELD)
def test_a_route_names_the_field_it_cannot_do_without(route: Route):
    (name,) = MAIN_FIELD[route]

    problem = refusal_of(route, **{name: None})

    assert (problem.code, problem.param) == ("missing_required_parameter", name)


def test_embeddings_of_messages_need_no_input():
    assert read(Route.EMBEDDINGS, input=None, messages=HELLO).prompt.text_bytes == 5


@pytest.mark.parametrize("route", Route)
def test_unknown_fields_and_nulls_pass(route: Route):
    contents = read(route, stream=None, service_tier=None, priority=None, tools=None, zzz=[1])

    assert contents.features == 0
    assert contents.stream is False


@pytest.mark.parametrize("route", [Route.CHAT, Route.COMPLETIONS, Route.RESPONSES, Route.MESSAGES])
def test_a_stream_is_asked_for_with_true_alone(route: Route):
    assert read(route, stream=True).stream is True
    assert read(route, stream=False).stream is False
    for value in (1, "true"):
        assert refusal_of(route, stream=value).param == "stream"


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (Route.CHAT, {}, None),
        (Route.CHAT, {"max_tokens": 7}, 7),
        (Route.CHAT, {"max_tokens": 7, "max_completion_tokens": 5}, 5),
        (Route.CHAT, {"max_completion_tokens": 5, "max_tokens": 7}, 5),
        (Route.CHAT, {"max_completion_tokens": None, "max_tokens": 7}, 7),
        (Route.CHAT, {"max_tokens": 16.0}, 16),
        (Route.CHAT, {"max_tokens": 0}, 0),
        (Route.CHAT, {"max_tokens": -1}, None),
        (Route.COMPLETIONS, {"max_tokens": 9}, 9),
        (Route.RESPONSES, {"max_output_tokens": 11}, 11),
        (Route.MESSAGES, {"max_tokens": 12}, 12),
        (Route.COUNT_TOKENS, {"max_tokens": 12}, 0),
        (Route.EMBEDDINGS, {}, 0),
        (Route.RERANK, {}, 0),
        (Route.SCORE, {}, 0),
        (Route.TOKENIZE, {}, 0),
        (Route.DETOKENIZE, {}, 0),
    ],
)
def test_the_callers_bound_on_the_answer_is_read(
    route: Route, fields: dict[str, object], expected: int | None
):
    assert max_tokens_of(route, read(route, **fields)) == expected


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (Route.CHAT, {}, 1),
        (Route.CHAT, {"n": 3}, 3),
        (Route.CHAT, {"n": 0}, 1),
        (Route.CHAT, {"n": -2}, 1),
        (Route.COMPLETIONS, {"prompt": "x", "n": 2, "best_of": 5}, 5),
        (Route.COMPLETIONS, {"best_of": 5, "n": 2}, 5),
        (Route.COMPLETIONS, {"prompt": ["a", "b", "c"], "n": 2}, 6),
        (Route.COMPLETIONS, {"n": 2, "prompt": ["a", "b", "c"]}, 6),
        (Route.COMPLETIONS, {"prompt": []}, 1),
        (Route.EMBEDDINGS, {"input": ["a", "b"]}, 1),
    ],
)
def test_every_answer_that_costs_output_is_counted(
    route: Route, fields: dict[str, object], expected: int
):
    assert read(route, **fields).choices == expected


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        ("priority", SlaClass.INTERACTIVE),
        ("fast", SlaClass.INTERACTIVE),
        ("default", None),
        ("auto", None),
        ("scale", None),
        ("standard_only", None),
        ("flex", SlaClass.BULK),
        ("batch", SlaClass.BULK),
    ],
)
def test_a_service_tier_is_a_class(tier: str, expected: SlaClass | None):
    assert read(Route.CHAT, service_tier=tier).tier is expected


def test_an_unknown_service_tier_is_refused_with_the_known_ones():
    problem = refusal_of(Route.CHAT, service_tier="gold")

    assert problem.param == "service_tier"
    assert "'gold' is not one of priority, fast, auto, default" in problem.message


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (Route.CHAT, {"n": 1}, set()),
        (Route.CHAT, {"n": 2}, {Feature.MANY_CHOICES}),
        (Route.CHAT, {"tools": []}, set()),
        (Route.CHAT, {"tools": [{"type": "function"}]}, {Feature.TOOLS}),
        (Route.CHAT, {"functions": [{"name": "f"}]}, {Feature.TOOLS}),
        (Route.CHAT, {"tool_choice": "auto"}, set()),
        (Route.CHAT, {"tool_choice": "none"}, set()),
        (Route.CHAT, {"tool_choice": "required"}, {Feature.TOOL_CHOICE_REQUIRED}),
        (Route.CHAT, {"tool_choice": {"type": "function"}}, {Feature.TOOL_CHOICE_REQUIRED}),
        (Route.CHAT, {"function_call": {"name": "f"}}, {Feature.TOOL_CHOICE_REQUIRED}),
        (Route.CHAT, {"function_call": "auto"}, set()),
        (Route.CHAT, {"response_format": {"type": "text"}}, set()),
        (Route.CHAT, {"response_format": {}}, set()),
        (Route.CHAT, {"response_format": {"type": "json_object"}}, {Feature.JSON_OBJECT}),
        (Route.CHAT, {"response_format": {"type": "json_schema"}}, {Feature.JSON_SCHEMA}),
        (Route.CHAT, {"response_format": {"type": "regex"}}, {Feature.GUIDED}),
        (Route.CHAT, {"response_format": {"type": ["odd"]}}, set()),
        (Route.CHAT, {"structured_outputs": {"regex": "a+"}}, {Feature.GUIDED}),
        (Route.CHAT, {"guided_json": {}}, {Feature.GUIDED}),
        (Route.COMPLETIONS, {"grammar": "root ::= x"}, {Feature.GUIDED}),
        (Route.CHAT, {"logprobs": False}, set()),
        (Route.CHAT, {"logprobs": True}, {Feature.LOGPROBS}),
        (Route.CHAT, {"logprobs": True, "top_logprobs": 5}, {Feature.LOGPROBS}),
        (Route.CHAT, {"top_logprobs": 0}, set()),
        (Route.CHAT, {"top_logprobs": 6}, {Feature.LOGPROBS, Feature.MANY_LOGPROBS}),
        (Route.COMPLETIONS, {"logprobs": 0}, {Feature.LOGPROBS}),
        (Route.COMPLETIONS, {"logprobs": 20}, {Feature.LOGPROBS, Feature.MANY_LOGPROBS}),
        (Route.COMPLETIONS, {"prompt_logprobs": 0}, {Feature.PROMPT_LOGPROBS}),
        (Route.CHAT, {"logit_bias": {}}, set()),
        (Route.CHAT, {"logit_bias": {"5": 1}}, {Feature.LOGIT_BIAS}),
        (Route.CHAT, {"presence_penalty": 0}, set()),
        (Route.CHAT, {"presence_penalty": 0.0}, set()),
        (Route.CHAT, {"presence_penalty": -0.5}, {Feature.PRESENCE_PENALTY}),
        (Route.CHAT, {"stop": "x"}, set()),
        (Route.CHAT, {"stop": ["a", "b", "c", "d"]}, set()),
        (Route.CHAT, {"stop": ["a", "b", "c", "d", "e"]}, {Feature.MANY_STOPS}),
        (Route.COMPLETIONS, {"prompt": ["a"]}, set()),
        (Route.COMPLETIONS, {"prompt": ["a", "b"]}, {Feature.MANY_PROMPTS}),
        (Route.COMPLETIONS, {"prompt": [1, 2]}, {Feature.TOKEN_IDS}),
        (Route.COMPLETIONS, {"prompt": [[1], [2]]}, {Feature.TOKEN_IDS, Feature.MANY_PROMPTS}),
        (Route.COMPLETIONS, {"suffix": ""}, set()),
        (Route.COMPLETIONS, {"suffix": "end"}, {Feature.SUFFIX}),
        (Route.COMPLETIONS, {"echo": True}, {Feature.ECHO}),
        (Route.COMPLETIONS, {"echo": False}, set()),
        (Route.COMPLETIONS, {"best_of": 1}, set()),
        (Route.COMPLETIONS, {"best_of": 2}, {Feature.BEST_OF}),
        (Route.EMBEDDINGS, {"input": [1, 2]}, {Feature.TOKEN_IDS}),
        (Route.EMBEDDINGS, {"input": ["a", "b"]}, set()),
        (Route.RESPONSES, {"text": {"format": {"type": "json_schema"}}}, {Feature.JSON_SCHEMA}),
        (Route.RESPONSES, {"text": {"verbosity": "low"}}, set()),
        (Route.RESPONSES, {"tools": [{"type": "function"}]}, {Feature.TOOLS}),
        (Route.RESPONSES, {"tool_choice": "required"}, {Feature.TOOL_CHOICE_REQUIRED}),
        (Route.MESSAGES, {"tool_choice": {"type": "auto"}}, set()),
        (Route.MESSAGES, {"tool_choice": {"type": "any"}}, {Feature.TOOL_CHOICE_REQUIRED}),
        (Route.MESSAGES, {"tool_choice": {"type": "tool"}}, {Feature.TOOL_CHOICE_REQUIRED}),
        (Route.MESSAGES, {"stop_sequences": list("abcde")}, {Feature.MANY_STOPS}),
        (Route.MESSAGES, {"output_format": {"type": "json_schema"}}, {Feature.JSON_SCHEMA}),
        (Route.DETOKENIZE, {"tokens": [1, 2]}, set()),
    ],
)
def test_a_request_needs_the_features_it_uses_and_no_others(
    route: Route, fields: dict[str, object], expected: set[Feature]
):
    assert features_of(route, **fields) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": "data:..."}}, {Feature.IMAGES}),
        ({"image_url": {"url": "x"}}, {Feature.IMAGES}),
        ({"type": "input_image", "image_url": "x"}, {Feature.IMAGES}),
        ({"type": "image", "source": {}}, {Feature.IMAGES}),
        ({"type": "input_audio", "input_audio": {}}, {Feature.AUDIO}),
        ({"type": "audio_url"}, {Feature.AUDIO}),
        ({"type": "file"}, set()),
        ({"type": ["odd"]}, set()),
        ({}, set()),
    ],
)
def test_images_and_audio_are_noted_and_other_parts_are_the_engines(
    part: dict[str, object], expected: set[Feature]
):
    assert features_of(Route.CHAT, messages=[{"role": "user", "content": [part]}]) == expected


def content(value: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": value}]}


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (Route.CHAT, content("hello"), 5),
        (Route.CHAT, content("héllo"), 6),
        (Route.CHAT, content("你好"), 6),
        (Route.CHAT, content(None), 0),
        (Route.CHAT, content(["ab", {"type": "text", "text": "cd"}]), 4),
        (Route.CHAT, content([{"text": "cdé"}]), 4),
        (Route.CHAT, content([{"type": "refusal", "refusal": "no"}]), 2),
        (Route.CHAT, content([{"type": "image_url", "image_url": {"url": "x" * 99}}]), 0),
        (Route.CHAT, {"messages": [{"role": "user", "content": "ab"}] * 3}, 6),
        (
            Route.CHAT,
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {"function": {"name": "f", "arguments": '{"a":1}'}},
                            {"function": None},
                            None,
                        ],
                    }
                ]
            },
            8,
        ),
        (Route.CHAT, {"tools": [{"type": "function"}]}, 5 + len('[{"type":"function"}]')),
        (Route.COMPLETIONS, {"prompt": "héllo"}, 6),
        (Route.COMPLETIONS, {"prompt": ["ab", "cd"], "suffix": "e"}, 5),
        (Route.COMPLETIONS, {"prompt": [1, 2, 3]}, 0),
        (Route.COMPLETIONS, {}, 0),
        (Route.EMBEDDINGS, {"input": ["ab", "cd"]}, 4),
        (Route.RESPONSES, {"input": "hello", "instructions": "be nice"}, 12),
        (
            Route.RESPONSES,
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
                    {"type": "function_call", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "1", "output": "42"},
                ]
            },
            9,
        ),
        (Route.MESSAGES, {"system": "be nice"}, 12),
        (Route.MESSAGES, {"system": [{"type": "text", "text": "be nice"}]}, 12),
        (
            Route.MESSAGES,
            content(
                [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "tool_use", "input": {"a": 1}},
                    {"type": "tool_result", "content": "42"},
                    {"type": "tool_result", "content": [{"type": "text", "text": "43"}]},
                    {"type": "tool_result"},
                ]
            ),
            2 + 7 + 2 + 2,
        ),
        (Route.RERANK, {"query": "hello", "documents": ["a", "bb", "ccc"]}, 3 * 5 + 6),
        (Route.RERANK, {"query": "hello", "documents": [{"text": "a"}]}, 5 + 12),
        (Route.SCORE, {"text_1": "hello", "text_2": "a"}, 6),
        (Route.SCORE, {"text_1": ["ab", "cd"], "text_2": ["e", "f"]}, 6),
        (Route.TOKENIZE, {"prompt": "hello"}, 5),
        (Route.TOKENIZE, {"messages": HELLO}, 5),
    ],
)
def test_the_text_that_the_model_reads_is_counted_in_bytes(
    route: Route, fields: dict[str, object], expected: int
):
    assert read(route, **fields).prompt.text_bytes == expected


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (Route.COMPLETIONS, {"prompt": [1, 2, 3]}, 3),
        (Route.COMPLETIONS, {"prompt": [[1, 2], [3]]}, 3),
        (Route.COMPLETIONS, {"prompt": "x"}, None),
        (Route.EMBEDDINGS, {"input": [5, 6]}, 2),
        (Route.DETOKENIZE, {"tokens": [1, 2, 3, 4]}, 4),
    ],
)
def test_token_ids_are_an_exact_length(
    route: Route, fields: dict[str, object], expected: int | None
):
    assert read(route, **fields).prompt.token_ids == expected


def test_content_inside_content_is_read_only_so_deep():
    value: object = "deep"
    for _ in range(300):
        value = [{"type": "tool_result", "content": value}]

    assert read(Route.MESSAGES, **content(value)).prompt.text_bytes == 0


def test_tools_too_deep_to_be_written_are_not_counted():
    tools = orjson.loads(b"[" * 900 + b"]" * 900)

    assert features_of(Route.CHAT, tools=tools) == {Feature.TOOLS}


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        (Route.CHAT, {"messages": "hello"}, "messages"),
        (Route.CHAT, {"messages": [HELLO[0], "x"]}, "messages[1]"),
        (Route.CHAT, content(7), "messages[0].content"),
        (Route.CHAT, content([7]), "messages[0].content[0]"),
        (Route.CHAT, content([{"type": "text"}]), "messages[0].content[0].text"),
        (
            Route.MESSAGES,
            content([{"type": "tool_result", "content": 7}]),
            "messages[0].content[0].content",
        ),
        (Route.CHAT, {"max_tokens": "7"}, "max_tokens"),
        (Route.CHAT, {"max_tokens": 7.5}, "max_tokens"),
        (Route.CHAT, {"max_tokens": True}, "max_tokens"),
        (Route.CHAT, {"max_completion_tokens": [7]}, "max_completion_tokens"),
        (Route.RESPONSES, {"max_output_tokens": "7"}, "max_output_tokens"),
        (Route.CHAT, {"n": "2"}, "n"),
        (Route.CHAT, {"priority": "high"}, "priority"),
        (Route.CHAT, {"service_tier": 1}, "service_tier"),
        (Route.CHAT, {"tools": {}}, "tools"),
        (Route.CHAT, {"tool_choice": 1}, "tool_choice"),
        (Route.CHAT, {"response_format": "json"}, "response_format"),
        (Route.RESPONSES, {"text": "json"}, "text"),
        (Route.RESPONSES, {"text": {"format": "json"}}, "text.format"),
        (Route.CHAT, {"logprobs": "yes"}, "logprobs"),
        (Route.CHAT, {"top_logprobs": True}, "top_logprobs"),
        (Route.CHAT, {"prompt_logprobs": "1"}, "prompt_logprobs"),
        (Route.CHAT, {"logit_bias": 3}, "logit_bias"),
        (Route.CHAT, {"presence_penalty": True}, "presence_penalty"),
        (Route.CHAT, {"stop": 3}, "stop"),
        (Route.COMPLETIONS, {"prompt": 7}, "prompt"),
        (Route.COMPLETIONS, {"prompt": [True]}, "prompt[0]"),
        (Route.COMPLETIONS, {"prompt": ["a", 7]}, "prompt[1]"),
        (Route.COMPLETIONS, {"suffix": 7}, "suffix"),
        (Route.COMPLETIONS, {"echo": 1}, "echo"),
        (Route.COMPLETIONS, {"best_of": "2"}, "best_of"),
        (Route.EMBEDDINGS, {"input": {}}, "input"),
        (Route.RESPONSES, {"input": 7}, "input"),
        (Route.MESSAGES, {"system": 7}, "system"),
        (Route.TOKENIZE, {"prompt": [1]}, "prompt"),
        (Route.DETOKENIZE, {"tokens": "1 2"}, "tokens"),
    ],
)
def test_a_field_of_the_wrong_type_is_a_400_that_names_its_path(
    route: Route, fields: dict[str, object], param: str
):
    problem = refusal_of(route, **fields)

    assert (problem.status, problem.code, problem.param) == (400, "invalid_type", param)
    assert f"'{param}'" in problem.message


@given(text=st.text(max_size=EXACT_CHARACTERS))
def test_a_short_text_is_counted_exactly(text: str):
    assert text_bytes(text) == len(text.encode())


@given(
    unit=st.text(min_size=1, max_size=7),
    times=st.integers(min_value=EXACT_CHARACTERS, max_value=3 * EXACT_CHARACTERS),
)
def test_a_long_text_is_counted_within_the_bounds_of_utf_8(unit: str, times: int):
    text = unit * times

    assert len(text) <= text_bytes(text) <= 4 * len(text)
    if len({len(character.encode()) for character in unit}) == 1:
        assert text_bytes(text) == len(text.encode())


def test_a_mixture_of_scripts_is_counted_within_a_few_per_cent():
    text = "你" * 30_000 + "plain words " * 5_000 + "приве́т " * 4_000

    assert text_bytes(text) == pytest.approx(len(text.encode()), rel=0.03)
