"""Whose child a request is, by the headers that it came with."""

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.trace import Parent, Trace, read_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def read(*parents: str, states: tuple[str, ...] = ()) -> Parent | None:
    headers = [(b"host", b"x"), *((b"traceparent", each.encode()) for each in parents)]
    return read_parent([*headers, *((b"tracestate", each.encode()) for each in states)])


@pytest.mark.parametrize(
    ("sent", "flags"),
    [
        (PARENT, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-ff", 255),
        (f"cc-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-comes", 1),
        (f" {PARENT}\t", 1),
    ],
)
def test_a_parent_is_read(sent, flags):
    assert read(sent) == Parent(TRACE, SPAN, flags, b"")


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "x",
        PARENT[:-1],
        PARENT.upper(),
        f"{PARENT}-more",
        f"{PARENT}.",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_a_parent_that_cannot_be_is_none(sent):
    assert read(sent, states=("a=b",)) is None


def test_one_of_two_parents_is_not_chosen():
    assert read(PARENT, PARENT) is None


def test_states_are_joined_in_their_order():
    parent = read(PARENT, states=("a=1, b=2", "", " c=3"))

    assert parent is not None
    assert parent.state == b"a=1, b=2,c=3"


@given(st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate"]), st.binary())))
def test_no_header_raises(headers):
    assert read_parent(headers) is None or isinstance(read_parent(headers), Parent)


@given(seed=st.integers(), sample=st.sampled_from([0.0, 1.0]))
def test_all_or_none_of_the_traces_that_begin_here_are_kept(seed, sample):
    trace = Trace(None, Random(seed).getrandbits, sample=sample)

    assert trace.sampled is bool(sample)
    assert re.fullmatch("[0-9a-f]{32}", trace.id)
    assert re.fullmatch("[0-9a-f]{16}", trace.span_id)


def test_an_id_is_never_all_zeros():
    trace = Trace(None, lambda _: 0, sample=1.0)

    assert trace.id == "0" * 31 + "1"
    assert trace.span_id == "0" * 15 + "1"


@pytest.mark.parametrize(("flags", "passed_on"), [(0, 0), (1, 1), (2, 2), (255, 3)])
def test_flags_that_nobody_knows_are_not_passed_on(flags, passed_on):
    trace = Trace(Parent(TRACE, SPAN, flags, b""), Random(1).getrandbits, sample=0.5)

    assert trace.flags == passed_on
    assert trace.sampled is bool(flags & 1)


@pytest.mark.parametrize(
    ("tail", "reasons"),
    [
        (b'{"finish_reason":"stop"}', ("stop",)),
        (b'{"finish_reason": "length"},{"finish_reason" :"stop"}', ("length", "stop")),
        (b'{"finish_reason":null}', ()),
        (b'{"finish_reason":"stop","stop_reason":"my_word"}', ("stop",)),
        (b'{"stop_reason":"end_turn"}', ("end_turn",)),
        (b'{"content":"{\\"finish_reason\\":\\"stop\\"}"}', ()),
        (b'{"finish_reason":"stop"}' + b" " * 4096, ()),
    ],
)
def test_only_known_reasons_are_read_where_an_answer_tells_them(tail, reasons):
    trace = Trace(None, Random(1).getrandbits, sample=1.0)
    trace.answered(tail)

    assert trace.reasons == reasons


def test_of_a_trace_that_is_not_kept_no_answer_is_read():
    trace = Trace(None, Random(1).getrandbits, sample=0.0)
    trace.answered(b'{"finish_reason":"stop"}')

    assert trace.reasons == ()
