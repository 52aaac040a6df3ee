"""Streams that break and go on at another endpoint."""

import asyncio
import json
from typing import Any

import pytest

from engines import sse
from engines.engine import Kind
from policies.facts import Profile
from policies.policy import Policy, RetryPolicy
from router.settings import Timeouts
from tests.e2e.caller import CHAT, ask
from tests.e2e.running import pool, serving
from tests.fakes.scripted import LAST_CHUNK, saying, scripted_engine, streaming
from tests.faults.markov import Speaker, continued

COMPLETIONS = "/v1/completions"
CONTINUE = {"x-sla-continue": "1", "x-sla-receipt": "1"}
QUIET = Timeouts(first_token_s=1.0, answer_s=1.0, idle_s=0.3)
BEGINNING = "Once upon a time"
TOKENS = 8


def close(call):
    call.close()


def reset(call):
    call.reset()


def keep(call):
    """Say nothing more."""


class Breaking:
    """Speaks rightly as far as some words, and then does what it is told to."""

    def __init__(self, words, then, tail=b""):
        self.words = words
        self.then = then
        self.tail = tail

    async def __call__(self, call):
        document = json.loads(call.body)
        is_chat = call.path == CHAT
        text = BEGINNING
        await call.begin_stream()
        for number in range(self.words + is_chat):
            said: dict[str, object] = {"delta": {"role": "assistant", "content": ""}}
            if not is_chat or number:
                word = continued(text, 1)
                text += word
                said = {"delta": {"content": word}} if is_chat else {"text": word}
            choice = {"index": 0, **said, "finish_reason": None}
            event = {"id": "first", "created": 5, "model": document["model"], "choices": [choice]}
            await call.say_chunk(b"data: %b\n\n" % json.dumps(event).encode())
        if self.tail:
            await asyncio.sleep(0.05)  # in the same read, the tail would spoil what came before
            await call.say(self.tail)
        self.then(call)
        if self.then is keep:
            await call._writer.drain()


def body(path, **more):
    asked: dict[str, object] = {"messages": [{"role": "user", "content": BEGINNING}]}
    if path == COMPLETIONS:
        asked = {"prompt": BEGINNING}
    return {"model": "m", "max_tokens": TOKENS, "stream": True, **asked, **more}


def told(answer):
    """Return the parsed events, the error among them, and the receipt."""
    events = [json.loads(each) for each in answer.events if each != sse.DONE]
    errors = [each["error"] for each in events if "error" in each]
    lines = answer.body.split(b"\n")
    receipts = [json.loads(line[6:]) for line in lines if line.startswith(b": sla ")]
    return [each for each in events if "error" not in each], errors, receipts


def text_of(events):
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(
        choice["text"] if "text" in choice else choice["delta"].get("content", "")
        for choice in choices
    )


def spare(name, engine, kind=Kind.VLLM):
    """Return a pool that is used when the other one cannot be."""
    return pool(name, engine, kind=kind, profile=Profile.PREDICTABLE)


HALF_A_CHUNK = b'40\r\ndata: {"id":"first","cho'
ERROR = b'2c\r\ndata: {"error":{"message":"x","code":500}}\n\n\r\n'
BREAKS = [
    pytest.param(3, close, b"", id="closed between events"),
    pytest.param(3, reset, b"", id="reset"),
    pytest.param(3, close, HALF_A_CHUNK, id="cut in a chunk"),
    pytest.param(3, keep, b"not a chunk\r\n", id="garbage"),
    pytest.param(3, close, ERROR, id="an error event"),
    pytest.param(1, close, b"", id="after one word"),
]


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize(("words", "then", "tail"), BREAKS)
async def test_a_broken_stream_ends_with_the_right_text_as_one_answer(path, words, then, tail):
    rest = Speaker("second", 0.0)
    async with (
        scripted_engine(Breaking(words, then, tail)) as first,
        scripted_engine(rest) as second,
        serving(
            pool("a", first, kind=Kind.VLLM),
            spare("b", second),
            policy=LEAST,
        ) as router,
    ):
        answer = await ask(
            router.port, body(path, stream_options={"include_usage": True}), CONTINUE, path=path
        )

    events, errors, (receipt,) = told(answer)
    assert errors == []
    assert text_of(events) == continued(BEGINNING, TOKENS)
    assert {event["id"] for event in events} == {"first"}
    assert {event["created"] for event in events} == {5}
    assert sum("role" in c.get("delta", {}) for e in events for c in e["choices"]) == (path == CHAT)
    assert answer.events[-1] == sse.DONE
    assert events[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": TOKENS,
        "total_tokens": 7 + TOKENS,
    }
    assert receipt["seams"] == [{"endpoint": "a-0", "tokens": words}]
    assert receipt["output_tokens"] == TOKENS
    assert rest.asked[0]["max_tokens"] == TOKENS - words


LEAST = Policy(retry=RetryPolicy(share_of_requests=1.0))


async def test_a_stream_is_not_continued_unless_that_was_asked_for():
    async with (
        scripted_engine(Breaking(3, close)) as first,
        scripted_engine(Speaker("second", 0.0)) as second,
        serving(pool("a", first), spare("b", second)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), path=COMPLETIONS)

    events, errors, _ = told(answer)
    assert text_of(events) == continued(BEGINNING, 3)
    assert [error["code"] for error in errors] == ["engine_lost"]


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"n": 2},
    ],
    ids=str,
)
async def test_what_no_prefix_can_stand_for_is_broken_off_with_one_error(more):
    async with (
        scripted_engine(Breaking(3, close)) as first,
        scripted_engine(Speaker("second", 0.0)) as second,
        serving(pool("a", first, kind=Kind.VLLM), spare("b", second)) as router,
    ):
        answer = await ask(router.port, body(CHAT, **more), CONTINUE)

    _, errors, _ = told(answer)
    assert [error["code"] for error in errors] == ["engine_lost"]
    assert len(second.calls) == 0


async def test_a_chat_goes_on_only_where_an_assistant_s_message_can_be_continued():
    async with (
        scripted_engine(Breaking(3, close)) as first,
        scripted_engine(Speaker("second", 0.0)) as second,
        serving(pool("a", first, kind=Kind.VLLM), spare("b", second, Kind.OPENAI)) as router,
    ):
        answer = await ask(router.port, body(CHAT), CONTINUE)

    _, errors, _ = told(answer)
    assert len(errors) == 1
    assert len(second.calls) == 0


async def test_reasoning_is_not_continued():
    thinking = b'{"id":"x","choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}'

    async def think(call):
        await call.begin_stream()
        await call.say_chunk(b"data: %b\n\n" % thinking)
        call.close()

    async with (
        scripted_engine(think) as first,
        scripted_engine(Speaker("second", 0.0)) as second,
        serving(pool("a", first, kind=Kind.VLLM), spare("b", second)) as router,
    ):
        answer = await ask(router.port, body(CHAT), CONTINUE)

    _, errors, _ = told(answer)
    assert len(errors) == 1


async def test_a_stream_that_lost_its_mark_alone_is_complete():
    choice = b'{"id":"x","choices":[{"index":0,"text":"all","finish_reason":"stop"}]}'

    async def finish(call):
        await call.begin_stream()
        await call.say_chunk(b"data: %b\n\n" % choice)
        call.close()

    async with (
        scripted_engine(finish) as first,
        serving(pool("a", first, kind=Kind.VLLM)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), CONTINUE, path=COMPLETIONS)

    events, errors, (receipt,) = told(answer)
    assert errors == []
    assert text_of(events) == "all"
    assert answer.events[-1] == sse.DONE
    assert "seams" not in receipt


async def test_where_nobody_can_go_on_the_stream_ends_with_one_error():
    async with (
        scripted_engine(Breaking(3, close)) as first,
        serving(pool("a", first, kind=Kind.VLLM)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), CONTINUE, path=COMPLETIONS)

    events, errors, _ = told(answer)
    assert text_of(events) == continued(BEGINNING, 3)
    assert len(errors) == 1


async def test_a_refusal_of_the_rest_is_told_in_the_stream():
    async def refuse(call):
        await call.say_json(b'{"error":{"message":"no prefix","code":400}}', b"400 Bad Request")

    async with (
        scripted_engine(Breaking(3, close)) as first,
        scripted_engine(refuse) as second,
        serving(pool("a", first, kind=Kind.VLLM), spare("b", second)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), CONTINUE, path=COMPLETIONS)

    _, errors, _ = told(answer)
    assert [error["message"] for error in errors] == ["no prefix"]


async def test_a_rest_that_is_no_stream_is_given_up():
    async def plain(call):
        await call.say_json(b'{"choices":[]}')

    async with (
        scripted_engine(Breaking(3, close)) as first,
        scripted_engine(plain) as second,
        serving(pool("a", first, kind=Kind.VLLM), spare("b", second)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), CONTINUE, path=COMPLETIONS)

    _, errors, _ = told(answer)
    assert len(errors) == 1


async def test_events_that_are_no_json_are_passed_on_and_end_all_hope():
    async with (
        scripted_engine(streaming(b"what", b"[1]")) as first,
        serving(pool("a", first, kind=Kind.VLLM)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), CONTINUE, path=COMPLETIONS)

    assert answer.events == [b"what", b"[1]", sse.DONE]


async def test_a_stream_that_stands_still_goes_on_elsewhere():
    async with (
        scripted_engine(Breaking(3, keep)) as first,
        scripted_engine(Speaker("second", 0.0)) as second,
        serving(pool("a", first, kind=Kind.VLLM), spare("b", second), timeouts=QUIET) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), CONTINUE, path=COMPLETIONS)

    events, errors, _ = told(answer)
    assert errors == []
    assert text_of(events) == continued(BEGINNING, TOKENS)


@pytest.mark.parametrize(("header", "continues"), [(None, True), ("0", False)])
async def test_a_policy_continues_all_streams_but_those_whose_caller_does_not_want_it(
    header, continues
):
    policy = Policy(retry=RetryPolicy(continue_streams=True))
    async with (
        scripted_engine(Breaking(3, close)) as first,
        scripted_engine(Speaker("second", 0.0)) as second,
        serving(pool("a", first), spare("b", second), policy=policy) as router,
    ):
        headers = {} if header is None else {"x-sla-continue": header}
        answer = await ask(router.port, body(COMPLETIONS), headers, path=COMPLETIONS)

    events, errors, _ = told(answer)
    assert (text_of(events) == continued(BEGINNING, TOKENS), errors == []) == (continues, continues)


async def test_a_stream_that_ends_before_its_text_goes_on_elsewhere():
    async def end_early(call):
        await call.begin_stream()
        word = continued(BEGINNING, 1)
        event = {"id": "first", "created": 5, "choices": [{"index": 0, "text": word}]}
        await call.say_chunk(b"data: %b\n\n" % json.dumps(event).encode())
        await call.say(LAST_CHUNK)

    async with (
        scripted_engine(end_early) as first,
        scripted_engine(Speaker("second", 0.0)) as second,
        serving(pool("a", first), spare("b", second)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), CONTINUE, path=COMPLETIONS)

    events, errors, _ = told(answer)
    assert errors == []
    assert text_of(events) == continued(BEGINNING, TOKENS)


async def test_the_end_of_a_connection_is_not_the_end_of_a_stream():
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    event = b'data: {"choices":[{"index":0,"text":"half"}]}\n\n'

    async with (
        scripted_engine(saying(head + event, then=close)) as first,
        serving(pool("a", first)) as router,
    ):
        answer = await ask(router.port, body(COMPLETIONS), path=COMPLETIONS)

    _, errors, _ = told(answer)
    assert [error["code"] for error in errors] == ["engine_lost"]


async def test_a_prompt_that_is_to_be_continued_already_is_prolonged():
    messages = [
        {"role": "user", "content": "Once upon"},
        {"role": "assistant", "content": " a time"},
    ]
    more = {"continue_final_message": True, "add_generation_prompt": False}
    rest = Speaker("second", 0.0)
    async with (
        scripted_engine(Breaking(3, close)) as first,
        scripted_engine(rest) as second,
        serving(pool("a", first, kind=Kind.VLLM), spare("b", second)) as router,
    ):
        answer = await ask(router.port, body(CHAT, messages=messages, **more), CONTINUE)

    events, errors, _ = told(answer)
    assert errors == []
    assert text_of(events) == continued(BEGINNING, TOKENS)
    asked: Any = rest.asked[0]["messages"]
    assert asked[1]["content"] == " a time" + continued(BEGINNING, 3)
