"""Answers as they come: counted the same however they are cut."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bench.stream import AnswerStream


def chunk(content: str | None = None, **more: object) -> bytes:
    choice: dict[str, object] = {
        "index": 0,
        "delta": {} if content is None else {"content": content},
    }
    return b"data: " + orjson.dumps({"choices": [choice | more]}) + b"\n\n"


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b": hello\n\n" + ROLE + b"".join(chunk(word) for word in ("one", "two", "data:", "four"))
WHOLE += chunk(finish_reason="stop") + USAGE + DONE


def fed(*pieces: tuple[bytes, float]) -> AnswerStream:
    stream = AnswerStream()
    for data, at in pieces:
        stream.feed(data, at)
    return stream


def test_the_first_token_is_the_first_that_says_something():
    stream = fed((ROLE, 1.0), (chunk("a"), 2.0), (chunk("b"), 2.5), (chunk("c"), 4.0))

    assert stream.first_at == 2.0
    assert stream.last_at == 4.0
    assert stream.slowest_gap_s == 1.5
    assert (stream.events, stream.tokens) == (3, 3)
    assert not stream.done


def test_the_engines_own_count_goes_before_the_count_of_events():
    stream = fed((WHOLE, 1.0))

    assert stream.events == 4
    assert stream.tokens == 12
    assert stream.finish_reason == "stop"
    assert stream.done
    assert stream.error is None


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=12), crlf=st.booleans())
@settings(max_examples=60, deadline=None)
def test_it_does_not_matter_how_a_stream_is_cut(cuts, crlf):
    text = WHOLE.replace(b"\n", b"\r\n") if crlf else WHOLE
    stream = AnswerStream()
    at = 0
    for cut in [*sorted(cuts), len(text)]:
        stream.feed(text[at:cut], 1.0)
        at = max(at, cut)

    assert (stream.events, stream.tokens, stream.done) == (4, 12, True)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (b'data: {"error":{"message":"no room","code":429}}\n\n', "no room"),
        (b'data: {"error":"no room"}\n\n', "no room"),
        (b'data: {"error":{"code":500}}\n\n', "{'code': 500}"),
        (b"data: nonsense\n\n", "an event is not JSON: b'nonsense'"),
        (b"data: [1]\n\n", "an event is no object: b'[1]'"),
    ],
)
def test_an_error_inside_a_stream_is_seen_before_the_first_token(event, error):
    assert fed((ROLE + event, 1.0)).error == error


def test_an_error_after_tokens_is_seen_too():
    stream = fed((chunk("a"), 1.0), (b'data: {"error":{"message":"gone"}}\n\n', 2.0))

    assert stream.error == "gone"
    assert stream.tokens == 1


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"tool_calls": [{"index": 0}]}},
        {"text": "completion"},
    ],
)
def test_thoughts_calls_and_plain_completions_are_tokens(choice):
    assert fed((b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n", 1.0)).events == 1


def test_events_with_spaces_after_colons_are_read_as_well():
    spaced = (
        b'data: {"id": "x", "choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
    )
    stream = fed((chunk("a"), 1.0), (spaced, 2.0))

    assert stream.finish_reason == "stop"
    assert stream.events == 2
