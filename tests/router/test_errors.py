import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import errors
from router.errors import Problem


def parse_error(body: bytes) -> orjson.JSONDecodeError:
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(body)
    return caught.value


CASES = {
    "bad_json": errors.bad_json(parse_error(b'{"model": ')),
    "bad_header": errors.bad_header("x-sla-class", "gold", "one of interactive, bulk"),
    "conflicting_header": errors.conflicting_header("x-sla-class", ["bulk", "standard"]),
    "wrong_type": errors.wrong_type("messages[2].content", "a string", 7),
    "wrong_value": errors.wrong_value("service_tier", "gold", "one of auto, flex"),
    "missing_field": errors.missing_field("messages"),
    "missing_model": errors.missing_model(),
    "body_too_large": errors.body_too_large(1000, 2000),
    "body_too_large_unannounced": errors.body_too_large(1000),
    "headers_too_large": errors.headers_too_large(65536),
    "body_too_slow": errors.body_too_slow(30.0, 17),
    "unsupported_media": errors.unsupported_media("content-type", "image/png", "application/json"),
    "no_such_path": errors.no_such_path("POST", "/v1/chat", ["/v1/chat/completions"]),
    "wrong_method": errors.wrong_method("GET", "/v1/completions", ["POST"]),
    "internal": errors.internal("abc"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_problem_is_openais_error_object(case: Problem):
    document = json.loads(errors.body(case))

    assert document.keys() == {"error"}
    assert document["error"] == {
        "message": case.message,
        "type": case.type,
        "param": case.param,
        "code": case.code,
    }
    assert case.message
    assert case.code


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_problem_is_anthropics_error_object_too_where_it_must_be(case: Problem):
    document = json.loads(errors.body(case, anthropic=True))

    assert document["type"] == "error"
    assert document["error"]["message"] == case.message
    assert document["error"]["type"] == errors.TYPES[case.status][1]


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("bad_json", ["line 1", "column", "char"]),
        ("bad_header", ["x-sla-class", "'gold'", "one of interactive, bulk"]),
        ("conflicting_header", ["x-sla-class", "'bulk'", "'standard'", "once"]),
        ("wrong_type", ["'messages[2].content'", "a string", "an integer (7)"]),
        ("wrong_value", ["'service_tier'", "'gold'", "one of auto, flex"]),
        ("missing_field", ["'messages'"]),
        ("body_too_large", ["2000", "1000"]),
        ("body_too_large_unannounced", ["1000"]),
        ("headers_too_large", ["65536"]),
        ("body_too_slow", ["30 s", "17 bytes"]),
        ("unsupported_media", ["content-type", "'image/png'", "application/json"]),
        ("no_such_path", ["POST", "'/v1/chat'", "/v1/chat/completions"]),
        ("wrong_method", ["GET", "/v1/completions", "POST"]),
        ("internal", ["'abc'"]),
    ],
)
def test_a_message_names_the_value_the_place_and_what_would_be_right(name: str, facts: list[str]):
    message = CASES[name].message

    assert [fact for fact in facts if fact not in message] == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "a boolean"),
        (3, "an integer (3)"),
        (2.5, "a decimal number (2.5)"),
        ("x", "a string ('x')"),
        ([1], "an array"),
        ({"a": 1}, "an object"),
    ],
)
def test_a_wrong_type_is_named_in_the_words_of_json(value: object, words: str):
    message = errors.wrong_type("n", "something else", value).message

    assert message == f"invalid type for 'n': expected something else, but got {words} instead"


def test_a_wrong_body_is_called_the_body():
    problem = errors.wrong_type("", "an object", [])

    assert problem.message.startswith("invalid type for the JSON body")
    assert problem.param is None


def test_a_long_value_is_cut_and_control_characters_are_escaped():
    assert errors.shown("x" * 1000) == repr("x" * 80 + "...")
    assert errors.shown("a\r\nb") == r"'a\r\nb'"


def test_a_long_list_of_names_is_cut_and_says_how_much_is_left():
    names = [f"m{index:02}" for index in range(23)]

    assert errors.listed(names).endswith("m19 and 3 more")
    assert errors.listed(names[:20]).endswith("m19")
    assert errors.listed([]) == "none"


@given(text=st.text(st.characters(), max_size=40))
def test_any_text_can_be_written(text: str):
    problem = Problem(400, "invalid_request_error", text, code=text, param=text)

    written = json.loads(errors.body(problem))["error"]

    assert written["message"] == text.encode("utf-8", "replace").decode()
    assert written["code"] == written["param"] == written["message"]


@given(text=st.text(st.characters(), max_size=40))
def test_an_event_is_one_line_of_data_and_an_empty_line(text: str):
    problem = Problem(502, "server_error", text)

    event = errors.event(problem)

    assert event == b"data: " + errors.body(problem) + b"\n\n"
    assert event.count(b"\n") == 2
    assert b"\r" not in event


def test_anthropics_clients_get_a_named_event_because_they_pass_over_others():
    problem = errors.internal("abc")

    event = errors.event(problem, anthropic=True)

    assert event == b"event: error\ndata: " + errors.body(problem, anthropic=True) + b"\n\n"


def written_headers(**fields: object) -> dict[bytes, bytes]:
    problem = Problem(429, "rate_limit_error", "busy", **fields)  # type: ignore[arg-type]  # a table's row
    return dict(errors.headers(problem))


def test_without_a_hint_there_is_only_a_content_type():
    assert written_headers() == {b"content-type": b"application/json"}


@pytest.mark.parametrize(
    ("after_s", "whole_seconds", "milliseconds"),
    [
        (0.2, b"1", b"200"),
        (1.0, b"1", b"1000"),
        (1.0001, b"2", b"1001"),
        (7.25, b"8", b"7250"),
        (0.0, b"1", b"1"),
        (-3.0, b"1", b"1"),
        (120.0, b"120", b"120000"),
        (3600.0, b"120", b"120000"),
    ],
)
def test_coming_back_is_asked_in_whole_seconds_and_exactly(
    after_s: float, whole_seconds: bytes, milliseconds: bytes
):
    headers = written_headers(retry_after_s=after_s)

    assert headers[b"retry-after"] == whole_seconds
    assert headers[b"retry-after-ms"] == milliseconds


@given(after_s=st.floats(allow_nan=False, min_value=-10, max_value=1e9))
def test_the_whole_seconds_never_ask_to_come_back_sooner_than_the_exact_time(after_s: float):
    headers = written_headers(retry_after_s=after_s)

    seconds, milliseconds = int(headers[b"retry-after"]), int(headers[b"retry-after-ms"])

    assert 0 < milliseconds <= seconds * 1000 <= 120_000
    assert seconds * 1000 - milliseconds < 1000
    assert milliseconds >= min(after_s * 1000, 120_000)


@pytest.mark.parametrize(("should_retry", "written"), [(True, b"true"), (False, b"false")])
def test_the_client_library_is_told_whether_to_repeat(should_retry: bool, written: bytes):
    assert written_headers(should_retry=should_retry)[b"x-should-retry"] == written


def test_a_shed_request_is_told_why_in_both_names():
    headers = written_headers(dropped_reason="rejected-saturated")

    assert headers[b"x-sla-dropped-reason"] == b"rejected-saturated"
    assert headers[b"x-llm-d-request-dropped-reason"] == b"rejected-saturated"


@given(reason=st.text(st.characters(), min_size=1, max_size=30))
def test_no_header_value_can_start_another_header(reason: str):
    for _, value in errors.headers(Problem(429, "rate_limit_error", "", dropped_reason=reason)):
        assert all(0x20 <= byte < 0x7F for byte in value)
