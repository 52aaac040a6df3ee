"""Cutting streams into frames, wherever the network cut them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import sse
from tests.engines.exchanges import every

LINE_ENDS = [b"\n", b"\r\n", b"\r"]

streams = st.builds(
    lambda end, events: b"".join(b"".join(line + end for line in lines) + end for lines in events),
    st.sampled_from(LINE_ENDS),
    st.lists(
        st.lists(
            st.sampled_from([b"data: a", b"data:b", b": note", b"event: x", b"id: 1", b"data"]),
            max_size=3,
        ),
        max_size=5,
    ),
)


def read_in_pieces(stream, cuts):
    frames, rest = [], b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        whole, rest = sse.split(rest + stream[start:end])
        frames += whole
    return frames, rest


def data_in(frames):
    return [data for data in map(sse.data_of, frames) if data is not None]


@given(stream=streams, data=st.data())
def test_however_a_stream_is_cut_it_says_the_same(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    whole, _ = sse.split(stream)

    frames, rest = read_in_pieces(stream, cuts)

    assert data_in(frames) == data_in(whole)
    assert b"".join(frames) + rest == stream


@given(noise=st.binary(max_size=80))
def test_nothing_is_lost_of_a_stream_that_is_noise(noise):
    frames, rest = sse.split(noise)

    assert b"".join(frames) + rest == noise
    assert all(data is None or isinstance(data, bytes) for data in map(sse.data_of, frames))


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: {}\n\n", b"{}"),
        (b"data:{}\n\n", b"{}"),
        (b"data:  two spaces\n\n", b" two spaces"),
        (b"data: {}\r\n\r\n", b"{}"),
        (b"data: {}\r\r", b"{}"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\ndata\ndata: b\n\n", b"a\n\nb"),
        (b"event: x\ndata: a\n\n", b"a"),
        (b"\ndata: a\n\n", b"a"),
        (b": keep-alive\n\n", None),
        (b"event: ping\n\n", None),
        (b"\n\n", None),
        (b"metadata: a\n\n", None),
        (b'error: {"code":500}\n\n', b'{"error":{"code":500}}'),
    ],
)
def test_a_frames_data_is(frame, data):
    assert sse.data_of(frame) == data


@pytest.mark.parametrize(
    ("frame", "changed"),
    [
        (b"data: old\n\n", b"data: new\n\n"),
        (b"data:old\r\n\r\n", b"data: new\n\n"),
        (b"event: x\ndata: old\nid: 7\n\n", b"event: x\ndata: new\nid: 7\n\n"),
        (b"data: old\ndata: older\n\n", b"data: new\n\n"),
        (b": note\n\n", b": note\n\n"),
    ],
)
def test_a_frame_can_say_something_else(frame, changed):
    assert sse.with_data(frame, b"new") == changed


def test_the_last_events_of_a_cut_stream_are_read_without_the_remains_of_the_first():
    tail = b'ta: {"a":1}\n\ndata: {"b":2}\n\n: note\n\ndata: [DONE]'

    assert sse.last_events(tail) == [b'{"b":2}', sse.DONE]


@pytest.mark.parametrize(
    "exchange",
    [exchange for exchange in every() if exchange.is_stream],
    ids=lambda exchange: exchange.name,
)
def test_recorded_streams_are_read_to_their_end(exchange):
    frames, rest = sse.split(exchange.body)

    assert rest == b""
    assert len(exchange.payloads) + exchange.body.count(b"\n:") + exchange.body.startswith(
        b":"
    ) == len(frames)
    assert sse.last_events(exchange.body[-8192:])[-1] == exchange.payloads[-1]
