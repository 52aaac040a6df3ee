"""The OpenAI SDK, unchanged, against the router and a real engine."""

import asyncio
import json

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
# The engine's memory of earlier prompts would change the last bits of a sum, and so maybe a word.
EXACT = {"cache_prompt": False}
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": PLACE,
    },
}


def ask(client, model, **more):
    options = {"messages": QUESTION, "max_tokens": 12, "temperature": 0, "extra_body": EXACT}
    return client.chat.completions.create(model=model, **options | more)


def test_a_chat_is_answered(client, model):
    answer = ask(client, model)

    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_whole_answer_says(client, model):
    whole = ask(client, model).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(client, model, stream=True)]

    assert "".join(pieces) == whole
    assert len(pieces) > 3


def test_a_stream_ends_with_the_usage_that_was_asked_for(client, model):
    *_, last = ask(client, model, stream=True, stream_options={"include_usage": True})

    assert last.choices == []
    assert 0 < last.usage.completion_tokens <= 12


@pytest.mark.anyio
async def test_more_callers_at_once_than_the_engine_has_slots_are_all_answered(router_url, model):
    async with (
        openai.AsyncOpenAI(base_url=f"{router_url}/v1", api_key="none") as client,
        asyncio.TaskGroup() as tasks,
    ):
        calls = [tasks.create_task(ask(client, model)) for _ in range(5)]

    assert {call.result().choices[0].finish_reason for call in calls} <= {"stop", "length"}


@pytest.mark.anyio
async def test_an_async_stream_is_answered(router_url, model):
    async with openai.AsyncOpenAI(base_url=f"{router_url}/v1", api_key="none") as client:
        stream = await ask(client, model, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert "Paris" in text


def test_the_older_completions_are_answered(client, model):
    answer = client.completions.create(
        model=model, prompt="The capital of France is", max_tokens=4, temperature=0
    )

    assert "Paris" in answer.choices[0].text


def asked_for_the_weather():
    """Return a conversation after which even a small model calls the tool once more."""
    messages = []
    for city in ("Rome", "Milan", "Berlin"):
        call = {"name": "weather", "arguments": json.dumps({"city": city})}
        messages += [
            {"role": "user", "content": f"What is the weather in {city}?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": city, "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": city, "content": "sunny"},
        ]
    return [*messages, {"role": "user", "content": "What is the weather in Paris?"}]


def test_a_tool_is_called(client, model):
    answer = ask(
        client, model, messages=asked_for_the_weather(), tools=[WEATHER], max_tokens=40
    ).choices[0]

    assert answer.finish_reason == "tool_calls"
    (call,) = answer.message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def test_a_tool_is_called_piece_by_piece_in_a_stream(client, model):
    stream = ask(
        client,
        model,
        messages=asked_for_the_weather(),
        tools=[WEATHER],
        max_tokens=40,
        stream=True,
    )
    pieces = [
        call.function.arguments
        for chunk in stream
        for call in chunk.choices[0].delta.tool_calls or ()
    ]

    assert len(pieces) > 3
    assert json.loads("".join(pieces)) == {"city": "Paris"}


def test_an_answer_keeps_to_the_schema_that_was_given(client, model):
    answer = ask(
        client,
        model,
        max_tokens=48,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": PLACE, "strict": True},
        },
    )

    assert json.loads(answer.choices[0].message.content).keys() == {"city"}


def test_the_answer_tells_who_served_it_and_why(client, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=QUESTION,
        max_tokens=2,
        extra_headers={"X-SLA-Class": "interactive", "X-Request-Id": "my-own-id"},
    )

    assert raw.headers["x-request-id"] == "my-own-id"
    assert raw.headers["x-sla-class"] == "interactive"
    assert raw.headers["x-sla-pool"] == "real"
    assert raw.headers["x-sla-endpoint"] == "llamacpp-real"
    assert raw.headers["x-sla-reason"]


def test_the_models_are_listed_and_each_can_be_looked_up(client, model):
    assert [card.id for card in client.models.list()] == [model]
    assert client.models.retrieve(model).id == model


def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(client, model):
    with pytest.raises(openai.NotFoundError, match=model) as caught:
        ask(client, "gpt-17")

    assert caught.value.code == "model_not_found"


def test_a_prompt_that_is_too_long_is_the_callers_fault(client, model):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model, messages=[{"role": "user", "content": "word " * 6000}])

    assert caught.value.code == "context_length_exceeded"


def test_a_header_that_cannot_be_read_is_named(client, model):
    with pytest.raises(openai.BadRequestError, match=r"(?i)x-sla-ttft-ms.*soon"):
        ask(client, model, extra_headers={"X-SLA-TTFT-Ms": "soon"})


def test_a_field_of_the_wrong_type_is_named(client, model):
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        ask(client, model, extra_body={"max_tokens": "many"})


def take_every_slot(client, model, max_tokens):
    """Return two streams that have begun: the most urgent class may hold both slots."""
    streams = [
        ask(
            client,
            model,
            stream=True,
            max_tokens=max_tokens,
            extra_body={"ignore_eos": True},
            extra_headers={"X-SLA-Class": "interactive"},
        )
        for _ in range(2)
    ]
    for stream in streams:
        next(stream)
    return streams


def test_who_will_not_wait_is_refused_at_once_while_the_slots_are_taken(client, model):
    """Even a client that repeats is told not to: repeating would be the wait it did not want."""
    repeating = client.with_options(max_retries=8)
    streams = take_every_slot(client, model, max_tokens=200)

    with pytest.raises(openai.RateLimitError) as caught:
        ask(repeating, model, max_tokens=1, extra_headers={"X-SLA-Queue": "never"})
    for stream in streams:
        stream.close()

    headers = caught.value.response.headers
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert 1 <= int(headers["retry-after"]) <= 120
    assert headers["x-sla-dropped-reason"] == "rejected-would-queue"


def test_a_slot_whose_caller_hung_up_serves_the_next_who_waits(client, model):
    for stream in take_every_slot(client, model, max_tokens=1000):
        stream.close()

    # Both answers would have taken half a minute more.
    assert ask(client.with_options(timeout=8.0), model, max_tokens=1).choices
