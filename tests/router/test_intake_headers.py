from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.facts import OnMiss, SlaClass
from router import intake_headers
from router.errors import BadRequest, Problem
from router.intake_headers import (
    INTERNAL_HEADERS,
    Asked,
    read_headers,
    read_request_id,
    urgency_of,
)


def asked_by(*lines: str) -> Asked:
    """Read headers written as `Name: value`."""
    return read_headers([header(line) for line in lines])


def header(line: str) -> tuple[bytes, bytes]:
    name, _, value = line.partition(":")
    return name.lower().encode(), value.lstrip(" ").encode("latin-1")


def refusal_of(*lines: str) -> Problem:
    with pytest.raises(BadRequest) as caught:
        asked_by(*lines)
    return caught.value.problem


def test_headers_that_mean_nothing_here_ask_for_nothing():
    asked = asked_by("Host: x", "Accept: */*", "Authorization: Bearer k", "X-Whatever: 1")

    for name in filter(str.islower, dir(Asked)):
        assert name.startswith("_") or getattr(asked, name) == getattr(Asked(), name), name


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-SLA-Class: interactive"], SlaClass.INTERACTIVE),
        (["X-SLA-Class: standard"], SlaClass.STANDARD),
        (["X-SLA-Class:  BULK  "], SlaClass.BULK),
        (["X-LLM-D-Inference-Objective: bulk"], None),
    ],
)
def test_the_class_is_what_its_own_header_says(lines: list[str], expected: SlaClass | None):
    assert asked_by(*lines).sla_class is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["x-llm-d-inference-objective: Bulk"], SlaClass.BULK),
        (["x-gateway-inference-objective: interactive"], SlaClass.INTERACTIVE),
        (["x-llm-d-inference-objective: my-objective"], None),
        (["x-smg-priority: system"], SlaClass.INTERACTIVE),
        (["x-smg-priority: Interactive"], SlaClass.INTERACTIVE),
        (["x-smg-priority: default"], None),
        (["x-smg-priority: bulk"], SlaClass.BULK),
        (["x-smg-priority: gold"], None),
        (
            ["x-llm-d-inference-objective: bulk", "x-gateway-inference-objective: standard"],
            SlaClass.BULK,
        ),
        (["x-gateway-inference-objective: standard", "x-smg-priority: bulk"], SlaClass.STANDARD),
        (["x-llm-d-inference-objective: mine", "x-smg-priority: bulk"], SlaClass.BULK),
    ],
)
def test_headers_of_other_routers_hint_at_a_class(lines: list[str], expected: SlaClass | None):
    assert asked_by(*lines).class_hint is expected


@pytest.mark.parametrize(
    ("lines", "expected_s"),
    [
        (["X-SLA-TTFT-Ms: 500"], 0.5),
        (["x-slo-ttft-ms: 250.5"], 0.2505),
        (["x-llm-d-slo-ttft-ms: 1"], 0.001),
        (["x-llm-d-slo-ttft-ms: 1", "x-slo-ttft-ms: 2"], 0.002),
        (["X-SLA-TTFT-Ms: 900", "x-slo-ttft-ms: 2"], 0.9),
    ],
)
def test_the_first_token_target_is_read_and_our_own_name_wins(lines: list[str], expected_s: float):
    assert asked_by(*lines).first_token_s == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("lines", "expected_s"),
    [
        (["X-SLA-TPOT-Ms: 50"], 0.05),
        (["x-slo-tpot-ms: 30"], 0.03),
        (["x-llm-d-slo-tpot-ms: 20"], 0.02),
        (["x-slo-tpot-ms: 30", "X-SLA-TPOT-Ms: 50", "x-llm-d-slo-tpot-ms: 20"], 0.05),
    ],
)
def test_the_per_token_target_is_read_and_our_own_name_wins(lines: list[str], expected_s: float):
    assert asked_by(*lines).per_token_s == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("lines", "expected_s"),
    [
        (["X-SLA-Deadline-Ms: 30000"], 30.0),
        (["x-slo-e2e-ms: 1500"], 1.5),
        (["grpc-timeout: 2H"], 7200.0),
        (["grpc-timeout: 3M"], 180.0),
        (["grpc-timeout: 4S"], 4.0),
        (["grpc-timeout: 250m"], 0.25),
        (["grpc-timeout: 99999999u"], 99.999999),
        (["grpc-timeout: 5n"], 5e-9),
        (["Prefer: wait=10"], 10.0),
        (['Prefer: respond-async; x=1, Wait = "20" ; y=2'], 20.0),
        (["Prefer: wait=10, wait=7"], 7.0),
        (["Prefer: wait=10", "Prefer: wait=7"], 7.0),
        (["Prefer: wait=10", "Prefer: respond-async"], 10.0),
        (['Prefer: foo="a, wait=1"'], None),
        (['Prefer: foo="a\\", wait=1", wait=3'], 3.0),
        (['Prefer: foo="open, wait=3'], 3.0),
        (["Prefer: respond-async"], None),
        (["Prefer: "], None),
        (["X-SLA-Deadline-Ms: 9000", "grpc-timeout: 8S", "Prefer: wait=7"], 7.0),
        (["X-SLA-Deadline-Ms: 6000", "grpc-timeout: 8S", "Prefer: wait=7"], 6.0),
        (["x-slo-e2e-ms: 5000", "grpc-timeout: 4S"], 4.0),
    ],
)
def test_the_deadline_is_the_smallest_of_all_given(lines: list[str], expected_s: float | None):
    assert asked_by(*lines).deadline_s == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("lines", "expected_s"),
    [
        (["x-envoy-expected-rq-timeout-ms: 15000"], 15.0),
        (["x-envoy-expected-rq-timeout-ms: 0"], None),
        (["x-envoy-expected-rq-timeout-ms: 9000", "x-stainless-read-timeout: 20"], 9.0),
        (["x-envoy-expected-rq-timeout-ms: 30000", "x-stainless-read-timeout: 20"], 20.0),
    ],
)
def test_a_proxys_timeout_is_patience_and_no_deadline(lines: list[str], expected_s: float | None):
    asked = asked_by(*lines)

    assert (asked.patience_s, asked.deadline_s) == (expected_s, None)


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [("20", 20.0), ("0.5", 0.5), ("599.9", 599.9), ("600", None), ("3600", None), ("inf", None)],
)
def test_the_client_librarys_timeout_is_read_unless_it_is_the_default(
    value: str, expected_s: float | None
):
    asked = asked_by(f"x-stainless-read-timeout: {value}")

    assert asked.patience_s == expected_s
    assert asked.deadline_s is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-SLA-On-Miss: serve"], OnMiss.SERVE),
        (["X-SLA-On-Miss: Reject"], OnMiss.REJECT),
        ([], None),
    ],
)
def test_what_to_do_on_a_miss_is_the_callers_choice(lines: list[str], expected: OnMiss | None):
    assert asked_by(*lines).on_miss is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(["X-SLA-Queue: never"], False), (["X-SLA-Queue: allow"], True), ([], True)],
)
def test_a_caller_may_refuse_to_wait(lines: list[str], expected: bool):
    assert asked_by(*lines).may_wait is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-SLA-Receipt: 1"], True),
        (["X-SLA-Receipt: true"], True),
        (["X-SLA-Receipt: 0"], False),
        (["X-SLA-Receipt: false"], False),
        ([], False),
    ],
)
def test_a_receipt_comes_only_where_it_is_asked_for(lines: list[str], expected: bool):
    assert asked_by(*lines).wants_receipt is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Priority: u=0"], 0),
        (["Priority: u=7, i"], 7),
        (["Priority: i, u=2"], 2),
        (["Priority: i"], None),
        (["Priority: "], None),
        (["Priority: u=1;x=2, y=?0"], 1),
        (["Priority: u=1, u=5"], 5),
        (["Priority: u=1", "Priority: i"], 1),
        (["Priority: i", "Priority: u=1"], 1),
        (["x-vllm-priority: 0"], 3),
        (["x-vllm-priority: -1"], 2),
        (["x-vllm-priority: -999999999999999999"], 0),
        (["x-vllm-priority: +100"], 7),
        (["x-vllm-priority: -1", "Priority: u=6"], 6),
        (["x-vllm-priority: -1", "Priority: i"], 2),
        ([], None),
    ],
)
def test_urgency_orders_requests_inside_a_class(lines: list[str], expected: int | None):
    assert asked_by(*lines).urgency == expected


@given(priority=st.integers(), other=st.integers())
def test_urgency_keeps_the_order_of_vllms_priorities(priority: int, other: int):
    assert 0 <= urgency_of(priority) <= 7
    if priority <= other:
        assert urgency_of(priority) <= urgency_of(other)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-Session-ID: chat 7"], "chat 7"),
        (["x-session-token: tok"], "tok"),
        (["X-Session-ID: chat", "x-session-token: tok"], "chat"),
        (["X-Session-ID: ", "x-session-token: tok"], "tok"),
        (["X-Session-ID: "], None),
    ],
)
def test_a_session_is_the_callers_own_name_for_it(lines: list[str], expected: str | None):
    assert asked_by(*lines).session == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-Tenant-ID: acme"], "acme"),
        (["x-llm-d-inference-fairness-id: acme"], "acme"),
        (["x-gateway-inference-fairness-id: acme"], "acme"),
        (["x-llm-d-inference-fairness-id: a", "X-Tenant-ID: b"], "b"),
        ([], None),
    ],
)
def test_a_tenant_is_read_under_all_its_names(lines: list[str], expected: str | None):
    assert asked_by(*lines).tenant == expected


@pytest.mark.parametrize(
    "value",
    ["a", "0af7651916cd43dd8448eb211c80319c", "1-2.3_4:5~6@7+8=9/0", "x" * 128],
)
def test_a_sane_request_id_is_kept(value: str):
    assert asked_by(f"X-Request-Id: {value}").request_id == value
    assert read_request_id([header(f"X-Request-Id: {value}")]) == value


@pytest.mark.parametrize("value", ["a b", "x" * 129, 'a"b', "a\\b", "é", "a;b", "a\tb"])
def test_another_request_id_is_refused_and_not_repeated(value: str):
    assert refusal_of(f"X-Request-Id: {value}").param == "x-request-id"
    assert read_request_id([header(f"X-Request-Id: {value}")]) is None


def test_no_request_id_and_an_empty_one_are_the_same():
    assert asked_by("X-Request-Id: ").request_id is None
    assert read_request_id([header("Host: x")]) is None


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("X-SLA-Class: gold", "one of interactive, standard, bulk"),
        ("X-SLA-Class: ", "one of interactive"),
        ("X-SLA-On-Miss: maybe", "one of serve, reject"),
        ("X-SLA-Queue: yes", "one of allow, never"),
        ("X-SLA-Receipt: please", "one of 1, true, 0, false"),
        ("grpc-timeout: 10", "such as 250m"),
        ("grpc-timeout: 0S", "such as 250m"),
        ("grpc-timeout: 123456789m", "such as 250m"),
        ("grpc-timeout: 1s", "such as 250m"),
        ("Prefer: wait=soon", "such as wait=10"),
        ("Prefer: wait", "such as wait=10"),
        ("Prefer: wait=0", "such as wait=10"),
        ("Prefer: wait=-1", "such as wait=10"),
        ("Prefer: wait=1000000000", "such as wait=10"),
        (f"Prefer: {'x' * 600}", "at most 512 bytes"),
        ("Priority: u=8", "u=0 (most urgent) to u=7"),
        ("Priority: u=-1", "u=0 (most urgent) to u=7"),
        ("Priority: u", "u=0 (most urgent) to u=7"),
        ("Priority: 3", "u=0 (most urgent) to u=7"),
        ("x-vllm-priority: high", "an integer"),
        ("x-vllm-priority: 1.5", "an integer"),
        ("X-Session-ID: \xe9", "1 to 256 printable ASCII characters"),
        (f"X-Tenant-ID: {'x' * 257}", "1 to 256 printable ASCII characters"),
    ],
)
def test_a_malformed_value_is_a_400_with_the_header_the_value_and_the_right_form(
    line: str, right: str
):
    problem = refusal_of(line)
    name, value = header(line)

    assert (problem.status, problem.code, problem.param) == (400, "invalid_header", name.decode())
    assert name.decode() in problem.message
    assert repr(value.decode("latin-1"))[:40] in problem.message
    assert right in problem.message


NUMBERS = [
    "x-sla-ttft-ms",
    "x-slo-ttft-ms",
    "x-llm-d-slo-ttft-ms",
    "x-sla-tpot-ms",
    "x-slo-tpot-ms",
    "x-llm-d-slo-tpot-ms",
    "x-sla-deadline-ms",
    "x-slo-e2e-ms",
    "x-envoy-expected-rq-timeout-ms",
    "x-stainless-read-timeout",
]
NO_NUMBERS = [
    "",
    "nan",
    "-inf",
    "Infinity",
    "-5",
    "+5",
    "0.0",
    "1e3",
    "1_000",
    "5ms",
    "1,5",
    ".5",
    "²",
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [*NO_NUMBERS, "9" * 10])
def test_only_plain_positive_numbers_are_numbers(name: str, value: str):
    problem = refusal_of(f"{name}: {value}")

    assert (problem.status, problem.param) == (400, name)
    assert "positive number of" in problem.message


@pytest.mark.parametrize("name", [name.decode() for name in intake_headers._ORDER])
def test_one_header_given_twice_must_say_the_same(name: str):
    values = {"prefer": ("wait=1", "wait=2"), "priority": ("u=1", "u=2")}
    first, second = values.get(name, ("1", "2"))

    if name in values:
        asked_by(f"{name}: {first}", f"{name}: {second}")
    else:
        problem = refusal_of(f"{name}: {first}", "Accept: */*", f"{name}: {second}")
        assert (problem.status, problem.param) == (400, name)
        assert "'1' and '2'" in problem.message


def test_the_same_header_twice_is_no_conflict():
    assert asked_by("X-SLA-Class: bulk", "X-SLA-Class: bulk").sla_class is SlaClass.BULK


@pytest.mark.parametrize(
    "value",
    ["application/json", "application/json; charset=utf-8", "text/json", "text/plain", ""],
)
def test_a_body_that_may_be_json_is_read(value: str):
    asked_by(f"Content-Type: {value}")


@pytest.mark.parametrize(
    "value",
    [
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "Image/PNG",
        "audio/wav",
        "text/html",
    ],
)
def test_a_body_that_is_clearly_something_else_is_a_415(value: str):
    problem = refusal_of(f"Content-Type: {value}")

    assert (problem.status, problem.param) == (415, "content-type")
    assert value in problem.message


@pytest.mark.parametrize("value", ["gzip", "br", "zstd, identity"])
def test_an_encoded_body_is_a_415(value: str):
    problem = refusal_of(f"Content-Encoding: {value}")

    assert (problem.status, problem.param) == (415, "content-encoding")


@pytest.mark.parametrize("value", ["identity", "Identity", ""])
def test_a_body_as_it_is_is_read(value: str):
    asked_by(f"Content-Encoding: {value}")


known_names = st.sampled_from(sorted(intake_headers._ORDER))
values = st.binary(max_size=60) | st.from_regex(rb"[ -~]{0,40}", fullmatch=True)


@example(headers=[(b"prefer", b'"' * 500), (b"priority", b'u="' + b'\\"' * 200)])
@given(headers=st.lists(st.tuples(known_names | st.binary(max_size=10), values), max_size=6))
def test_no_headers_make_the_reader_fail(headers: Sequence[tuple[bytes, bytes]]):
    answer = asked_or_refused(headers)

    if isinstance(answer, Problem):
        assert answer.status in (400, 415)
        assert answer.param is not None
        assert answer.param.encode() in dict(headers)
    else:
        for seconds in (answer.first_token_s, answer.per_token_s, answer.deadline_s):
            assert seconds is None or 0 < seconds < 1e12


def asked_or_refused(headers: Sequence[tuple[bytes, bytes]]) -> Asked | Problem:
    try:
        return read_headers(headers)
    except BadRequest as bad:
        return bad.problem


def test_nothing_that_only_the_router_should_see_goes_on_to_an_engine():
    kept = {b"x-request-id", b"content-type", b"traceparent", b"tracestate", b"authorization"}

    assert not INTERNAL_HEADERS & kept
    assert frozenset(intake_headers._ORDER) - kept <= INTERNAL_HEADERS
    assert {b"connection", b"transfer-encoding", b"upgrade", b"te"} <= INTERNAL_HEADERS
    assert all(name == name.lower() for name in INTERNAL_HEADERS)
