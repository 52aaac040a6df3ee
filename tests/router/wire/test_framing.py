"""Framings relay what came, up to the end of the body and never past it."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.wire.framing import Chunked, FixedLength, FramingError, UntilClose

CHUNKS = st.lists(st.binary(min_size=1, max_size=50), max_size=6)
CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def on_the_wire(chunks):
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def fed(framing, data, cuts):
    """Feed `data` in pieces; return what was relayed and what it held."""
    relayed, payload, at, turn = b"", b"", 0, 0
    while at < len(data) and not framing.done:
        step = cuts[turn % len(cuts)]
        relayed += framing.feed(data[at : at + step])
        payload += b"".join(framing.payload)
        at += step
        turn += 1
    return relayed, payload


@given(chunks=CHUNKS, cuts=CUTS, trailer=st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc: d\r\n"]))
def test_a_chunked_body_is_relayed_untouched_however_it_is_cut(chunks, cuts, trailer):
    framing = Chunked()
    data = on_the_wire(chunks)

    relayed, payload = fed(framing, data + b"0\r\n" + trailer + b"\r\n", cuts)

    assert framing.done
    assert relayed == data
    assert payload == b"".join(chunks)
    assert framing.between
    assert not framing.excess


@given(chunks=CHUNKS, excess=st.binary(min_size=1, max_size=20))
def test_nothing_behind_the_end_of_a_chunked_body_is_relayed(chunks, excess):
    framing = Chunked()
    data = on_the_wire(chunks)

    relayed = framing.feed(data + b"0\r\n\r\n" + excess)

    assert relayed == data
    assert framing.excess


@given(data=st.binary(max_size=80), cuts=CUTS)
def test_what_the_strict_parser_refuses_is_never_taken_for_a_complete_body(data, cuts):
    framing = Chunked()
    try:
        fed(framing, data, cuts)
    except FramingError:
        return
    if not framing.done:
        return

    class Oracle:
        done = False

        def on_message_complete(self):
            self.done = True

    oracle = Oracle()
    parser = httptools.HttpResponseParser(oracle)
    try:
        parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data)
    except httptools.HttpParserError:
        assert oracle.done


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"5;name=x\r\nhello\r\n", id="extension"),
        pytest.param(b"0x5\r\nhello\r\n", id="prefix"),
        pytest.param(b"+5\r\nhello\r\n", id="sign"),
        pytest.param(b" 5\r\nhello\r\n", id="space"),
        pytest.param(b"\r\nhello\r\n", id="no size"),
        pytest.param(b"5\r\nhelloX\r\n", id="longer than its size"),
        pytest.param(b"5\r\nhello\rX", id="bare carriage return"),
        pytest.param(b"5\nhello\n", id="bare line feed"),
        pytest.param(b"5" * 40, id="endless size"),
        pytest.param(b"fffffffffff\r\n", id="larger than any chunk"),
        pytest.param(b"0\r\n" + b"x" * 9000, id="endless trailer"),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 10000])
def test_broken_chunks_are_refused(data, step):
    framing = Chunked()

    with pytest.raises(FramingError):
        fed(framing, data + b"hello hello hello", [step])


def test_a_chunked_body_that_is_cut_is_not_complete():
    framing = Chunked()
    framing.feed(b"5\r\nhel")

    assert not framing.closed()
    assert not framing.between


@given(body=st.binary(max_size=60), excess=st.binary(max_size=10), cuts=CUTS)
def test_a_body_of_known_length_ends_where_it_says(body, excess, cuts):
    framing = FixedLength(len(body))

    relayed, payload = fed(framing, body + excess, cuts)

    assert framing.done
    assert framing.closed()
    assert relayed == payload == body


def test_bytes_behind_a_body_of_known_length_are_noticed():
    framing = FixedLength(2)
    framing.feed(b"abc")

    assert framing.excess


@given(body=st.binary(max_size=60), cuts=CUTS)
def test_a_body_without_length_ends_with_the_connection(body, cuts):
    framing = UntilClose()

    relayed, payload = fed(framing, body, cuts)

    assert relayed == payload == body
    assert not framing.done
    assert framing.closed()
    assert framing.done
