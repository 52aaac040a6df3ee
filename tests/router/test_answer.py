import json
from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.facts import Reason, SlaClass, Targets
from router.answer import (
    Outcome,
    Phases,
    Placement,
    header_value,
    met,
    receipt,
    routing_lines,
)

PLACEMENT = Placement(SlaClass.INTERACTIVE, "fast", "tgi-0", Reason.HOME, 0.0123, 0.2)
OUTCOME = Outcome(
    router_s=0.0002,
    first_token_s=0.18,
    per_token_s=0.02,
    total_s=3.1,
    prompt_tokens=1234,
    output_tokens=130,
    targets=Targets(first_token_s=0.5, per_token_s=0.05),
)


def routing_headers(request_id, placement, phases, **options):
    """Read the lines as a client would."""
    lines = routing_lines(request_id, placement, phases, **options)
    assert lines.endswith(b"\r\n")
    return [tuple(line.split(b": ", 1)) for line in lines.removesuffix(b"\r\n").split(b"\r\n")]


times = st.none() | st.floats(min_value=0, max_value=1e6)


def test_the_headers_say_how_the_request_was_routed():
    headers = dict(routing_headers("abc", PLACEMENT, Phases(0.001, 0.18)))

    assert headers == {
        b"x-request-id": b"abc",
        b"x-sla-class": b"interactive",
        b"x-sla-pool": b"fast",
        b"x-sla-endpoint": b"tgi-0",
        b"x-sla-reason": b"home",
        b"x-sla-queue-ms": b"12.3",
        b"x-sla-predicted-ttft-ms": b"200.0",
        b"server-timing": b"queue;dur=12.3, connect;dur=1.0, ttft;dur=180.0",
    }


def test_callers_who_should_not_see_the_fleet_do_not_see_it():
    names = dict(routing_headers("abc", PLACEMENT, Phases(), show_routing=False)).keys()

    assert not names & {b"x-sla-pool", b"x-sla-endpoint", b"x-sla-reason"}
    assert b"x-sla-class" in names


@pytest.mark.parametrize("predicted_s", [None, inf])
def test_no_prediction_is_no_header(predicted_s: float | None):
    placement = Placement(SlaClass.BULK, "bulk", "vllm-0", Reason.ONLY, 0.0, predicted_s)

    assert b"x-sla-predicted-ttft-ms" not in dict(routing_headers("abc", placement, Phases()))


@pytest.mark.parametrize(
    ("phases", "timing"),
    [
        (Phases(), b"queue;dur=12.3"),
        (Phases(total_s=2.0), b"queue;dur=12.3, total;dur=2000.0"),
        (Phases(first_token_s=0.1), b"queue;dur=12.3, ttft;dur=100.0"),
    ],
)
def test_a_phase_that_was_not_seen_is_left_out(phases: Phases, timing: bytes):
    assert dict(routing_headers("abc", PLACEMENT, phases))[b"server-timing"] == timing


@given(name=st.text(st.characters(), max_size=30))
def test_a_name_cannot_break_out_of_its_header(name: str):
    placement = Placement(SlaClass.BULK, name, name, Reason.SPILL, 0.0)

    for _, value in routing_headers(name, placement, Phases()):
        assert all(0x20 <= byte < 0x7F for byte in value)


@given(name=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30))
def test_a_printable_name_is_repeated_as_it_is(name: str):
    assert header_value(name) == name.encode()


def test_the_receipt_tells_everything():
    assert json.loads(receipt(PLACEMENT, OUTCOME)) == {
        "class": "interactive",
        "pool": "fast",
        "endpoint": "tgi-0",
        "reason": "home",
        "queue_ms": 12.3,
        "router_ms": 0.2,
        "predicted_ttft_ms": 200.0,
        "ttft_ms": 180.0,
        "tpot_ms": 20.0,
        "total_ms": 3100.0,
        "prompt_tokens": 1234,
        "output_tokens": 130,
        "attempts": 1,
        "hedged": False,
        "targets": {"ttft_ms": 500.0, "tpot_ms": 50.0, "deadline_ms": None},
        "sla": "met",
    }


def test_a_receipt_for_untrusted_callers_is_silent_about_the_fleet():
    document = json.loads(receipt(PLACEMENT, OUTCOME, show_routing=False))

    assert not document.keys() & {"pool", "endpoint", "reason"}
    assert document["sla"] == "met"


def test_a_first_token_that_never_came_is_a_miss_and_has_no_time():
    outcome = Outcome(
        router_s=0.0,
        first_token_s=inf,
        per_token_s=None,
        total_s=1.0,
        prompt_tokens=None,
        output_tokens=None,
        targets=Targets(first_token_s=0.5),
    )

    document = json.loads(receipt(PLACEMENT, outcome))

    assert (document["ttft_ms"], document["sla"]) == (None, "missed")


def test_without_targets_nothing_is_met_and_nothing_missed():
    outcome = Outcome(0.0, 0.1, 0.1, 1.0, 1, 1)

    assert json.loads(receipt(PLACEMENT, outcome))["sla"] == "none"


@example(pool="\x7f")
@given(pool=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_receipt_is_one_line_of_ascii_fit_for_a_header(pool: str):
    placement = Placement(SlaClass.BULK, pool, "e", Reason.HEDGE, 0.0)

    line = receipt(placement, OUTCOME)

    assert all(0x20 <= byte < 0x7F for byte in line)
    assert json.loads(line)["pool"] == pool


@pytest.mark.parametrize(
    ("targets", "measured", "verdict"),
    [
        (Targets(), (0.1, 0.1, 1.0), None),
        (Targets(first_token_s=0.5), (0.5, None, 9.0), True),
        (Targets(first_token_s=0.5), (0.51, None, 9.0), False),
        (Targets(per_token_s=0.05), (9.0, 0.04, 9.0), True),
        (Targets(per_token_s=0.05), (9.0, 0.06, 9.0), False),
        (Targets(deadline_s=10.0), (9.0, 0.06, 10.0), True),
        (Targets(deadline_s=10.0), (9.0, 0.06, 10.1), False),
        (Targets(first_token_s=0.5, deadline_s=10.0), (0.1, None, 10.1), False),
        (Targets(first_token_s=0.5, deadline_s=10.0), (None, None, 1.0), True),
        (Targets(first_token_s=0.5), (None, None, 1.0), None),
        (Targets(per_token_s=0.05), (0.1, None, 1.0), None),
    ],
)
def test_a_target_is_met_by_what_was_measured(
    targets: Targets, measured: tuple[float | None, float | None, float | None], verdict: object
):
    assert met(targets, *measured) is verdict


@given(targets=st.builds(Targets, times, times, times), measured=st.tuples(times, times, times))
def test_taking_longer_never_turns_a_miss_into_a_hit(
    targets: Targets, measured: tuple[float | None, float | None, float | None]
):
    slower = [None if took_s is None else took_s * 2 + 1 for took_s in measured]

    if met(targets, *measured) is False:
        assert met(targets, *slower) is False
