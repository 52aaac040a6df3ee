import json
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.engine import Feature, Route
from policies.facts import ANYTHING, OnMiss, RequestFacts, SlaClass, Targets, Wish
from router import errors
from router.errors import Problem
from router.intake import Intake, read_asked, read_request

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def read(*headers: tuple[bytes, bytes], **fields: object) -> Intake | Problem:
    body = orjson.dumps({**CHAT, **fields})
    return read_request(Route.CHAT, read_asked(headers), body, new_id=lambda: "made")


def wish_of(*headers: tuple[bytes, bytes], **fields: object) -> Wish:
    intake = read(*headers, **fields)
    assert isinstance(intake, Intake), intake
    return intake.facts.wish


def test_a_request_is_read_into_facts():
    intake = read(
        (b"x-request-id", b"abc"),
        (b"x-sla-class", b"interactive"),
        (b"x-sla-ttft-ms", b"500"),
        (b"x-sla-on-miss", b"reject"),
        (b"x-sla-queue", b"never"),
        (b"x-sla-receipt", b"1"),
        (b"priority", b"u=1"),
        (b"x-tenant-id", b"acme"),
        (b"x-session-id", b"s-7"),
        stream=True,
        max_tokens=9,
        n=2,
    )

    assert isinstance(intake, Intake)
    assert intake.facts == RequestFacts(
        id="abc",
        model="m",
        needs=frozenset({Route.CHAT, Feature.MANY_CHOICES}),
        prompt_bytes=5,
        max_tokens=9,
        choices=2,
        wish=Wish(
            SlaClass.INTERACTIVE,
            Targets(first_token_s=0.5),
            on_miss=OnMiss.REJECT,
            may_wait=False,
            urgency=1,
        ),
        tenant="acme",
        session="s-7",
    )
    assert (intake.stream, intake.wants_receipt, intake.request_id) == (True, True, "abc")
    assert intake.document["n"] == 2


def test_a_request_that_asks_for_nothing_shares_the_empty_wish():
    assert wish_of((b"content-type", b"application/json")) is ANYTHING


def test_a_request_without_an_id_gets_one():
    intake = read()

    assert isinstance(intake, Intake)
    assert intake.request_id == intake.facts.id == "made"


def test_an_id_is_made_only_where_it_is_needed():
    def new_id() -> str:
        pytest.fail("the caller sent an id")

    headers = [(b"x-request-id", b"abc")]

    assert isinstance(
        read_request(Route.CHAT, read_asked(headers), orjson.dumps(CHAT), new_id=new_id), Intake
    )


@pytest.mark.parametrize(
    ("headers", "fields", "expected"),
    [
        ([(b"x-sla-class", b"bulk")], {"service_tier": "priority"}, SlaClass.BULK),
        (
            [(b"x-llm-d-inference-objective", b"bulk")],
            {"service_tier": "priority"},
            SlaClass.INTERACTIVE,
        ),
        ([(b"x-llm-d-inference-objective", b"bulk")], {"service_tier": "auto"}, SlaClass.BULK),
        ([(b"x-smg-priority", b"bulk")], {}, SlaClass.BULK),
        ([], {"service_tier": "flex"}, SlaClass.BULK),
        ([], {"service_tier": "default"}, None),
    ],
)
def test_the_class_is_what_the_strongest_says(
    headers: list[tuple[bytes, bytes]], fields: dict[str, object], expected: SlaClass | None
):
    assert wish_of(*headers, **fields).sla_class is expected


@pytest.mark.parametrize(
    ("headers", "fields", "expected"),
    [
        ([], {"priority": -2}, 1),
        ([], {"priority": 0}, 3),
        ([(b"x-vllm-priority", b"4")], {"priority": -2}, 7),
        ([(b"priority", b"u=0")], {"priority": 5}, 0),
        ([(b"priority", b"i")], {"priority": 1}, 4),
    ],
)
def test_the_urgency_is_the_headers_before_the_bodys(
    headers: list[tuple[bytes, bytes]], fields: dict[str, object], expected: int
):
    assert wish_of(*headers, **fields).urgency == expected


@pytest.mark.parametrize(
    ("headers", "patience_s", "deadline_s"),
    [
        ([(b"x-stainless-read-timeout", b"20")], 20.0, None),
        ([(b"x-stainless-read-timeout", b"20"), (b"x-sla-deadline-ms", b"5000")], 20.0, 5.0),
        ([(b"x-sla-deadline-ms", b"5000")], None, 5.0),
        ([(b"x-stainless-read-timeout", b"600")], None, None),
    ],
)
def test_a_client_librarys_timeout_is_patience_and_no_deadline(
    headers: list[tuple[bytes, bytes]], patience_s: float | None, deadline_s: float | None
):
    wish = wish_of(*headers)

    assert (wish.patience_s, wish.targets.deadline_s) == (patience_s, deadline_s)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-sla-class", b"standard")],
        [(b"x-sla-tpot-ms", b"50")],
        [(b"x-sla-on-miss", b"serve")],
        [(b"x-sla-queue", b"never")],
        [(b"priority", b"u=4")],
        [(b"prefer", b"wait=3")],
    ],
)
def test_every_single_thing_that_is_asked_for_is_kept(headers: list[tuple[bytes, bytes]]):
    assert wish_of(*headers) != ANYTHING


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b'{"model": ', "line 1 column"),
        (b"[" * 100_000, "depth"),
        (b'{"n": 1e999}', "infinity"),
        (b'{"n": NaN}', "line 1 column"),
        (b"\xff", "line 1 column"),
        (b"[1, 2]", "expected an object, but got an array"),
        (b'"text"', "expected an object, but got a string"),
        (b"null", "expected an object, but got null"),
    ],
)
def test_a_body_that_is_no_json_object_is_a_400_that_says_why(body: bytes, words: str):
    problem = read_request(Route.CHAT, read_asked([]), body, new_id=str)

    assert isinstance(problem, Problem)
    assert problem.status == 400
    assert words in problem.message


def test_of_a_key_given_twice_the_last_counts():
    body = b'{"model":"a","messages":[],"model":"b"}'

    intake = read_request(Route.CHAT, read_asked([]), body, new_id=str)

    assert isinstance(intake, Intake)
    assert intake.facts.model == "b"


def test_a_bad_header_is_answered_before_the_body_is_read():
    problem = read_request(Route.CHAT, read_asked([(b"x-sla-class", b"gold")]), b"{", new_id=str)

    assert isinstance(problem, Problem)
    assert problem.param == "x-sla-class"


def test_equal_needs_are_one_object():
    first, second = read(n=2), read(n=3)

    assert isinstance(first, Intake)
    assert isinstance(second, Intake)
    assert first.facts.needs is second.facts.needs


PART_KEYS = ["type", "text", "content", "function", "tool_calls", "format", "arguments", "input"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(PART_KEYS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [
    *("model", "messages", "prompt", "input", "tokens", "documents", "query", "system"),
    *("stream", "max_tokens", "n", "best_of", "tools", "tool_choice", "response_format", "stop"),
    *("service_tier", "priority", "logprobs", "text", "instructions", "suffix", "logit_bias"),
]
documents = st.dictionaries(st.sampled_from(FIELDS), values, max_size=5)
headers = st.lists(
    st.tuples(
        st.sampled_from([b"x-sla-class", b"x-sla-ttft-ms", b"priority", b"prefer", b"host"]),
        st.binary(max_size=12) | st.sampled_from([b"bulk", b"500", b"u=1", b"wait=3"]),
    ),
    max_size=3,
)


def assert_sound(answer: Intake | Problem) -> None:
    if isinstance(answer, Problem):
        assert 400 <= answer.status < 500
        assert json.loads(errors.body(answer))["error"]["message"]
    else:
        facts = answer.facts
        assert facts.model
        assert facts.prompt_bytes >= 0
        assert facts.choices >= 1
        assert facts.max_tokens is None or facts.max_tokens >= 0
        assert 0 <= facts.wish.urgency <= 7


@given(route=st.sampled_from(Route), headers=headers, document=documents)
def test_no_document_makes_the_intake_fail(
    route: Route, headers: Sequence[tuple[bytes, bytes]], document: dict[str, object]
):
    body = orjson.dumps({"model": "m", **document})

    assert_sound(read_request(route, read_asked(headers), body, new_id=lambda: "made"))


@given(route=st.sampled_from(Route), body=st.binary(max_size=60))
def test_no_bytes_make_the_intake_fail(route: Route, body: bytes):
    assert_sound(read_request(route, read_asked([]), body, new_id=lambda: "made"))


@given(
    texts=st.lists(st.text(max_size=50), min_size=1, max_size=4),
    max_tokens=st.none() | st.integers(min_value=0, max_value=10**6),
    n=st.integers(min_value=1, max_value=9),
    stream=st.booleans(),
)
def test_what_a_valid_request_says_is_what_the_facts_say(
    texts: list[str], max_tokens: int | None, n: int, stream: bool
):
    messages = [{"role": "user", "content": text} for text in texts]

    intake = read(messages=messages, max_tokens=max_tokens, n=n, stream=stream)

    assert isinstance(intake, Intake)
    assert intake.facts.prompt_bytes == sum(len(text.encode()) for text in texts)
    assert intake.facts.max_tokens == max_tokens
    assert intake.facts.choices == n
    assert (Feature.MANY_CHOICES in intake.facts.needs) is (n > 1)
    assert intake.stream is stream
