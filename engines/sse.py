"""Server-sent events: cuts a byte stream into frames and reads what a frame says.

A frame is everything up to and with its blank line, as bytes: joined again, frames and rest are the
stream. Accepted are all three line ends, `data:` with and without a space, comments, data of
several lines, and cuts anywhere.
Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""

import re

DONE = b"[DONE]"
"""The data of OpenAI's closing event."""

# A lone CR ends a line, but the CR of a CRLF does not end one by itself.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


def split(buffer: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole frames in `buffer`, and the rest to put before the next bytes."""
    if b"\r" not in buffer:
        *whole, rest = buffer.split(b"\n\n")
        return [frame + b"\n\n" for frame in whole], rest
    frames = []
    start = 0
    for blank in _BLANK_LINE.finditer(buffer):
        frames.append(buffer[start : blank.end()])
        start = blank.end()
    return frames, buffer[start:]


def data_of(frame: bytes) -> bytes | None:
    """Return a frame's data, lines joined by newlines; None for comments and frames without data.

    A field named `error` (older llama.cpp servers) is returned as `{"error": …}`, the form that all
    other engines use.
    """
    if frame.startswith(b"data: ") and frame.find(b"\n") == len(frame) - 2 and b"\r" not in frame:
        return frame[6:-2]
    data = []
    for line in frame.splitlines():
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"error":
            data.append(b'{"error":%b}' % value.removeprefix(b" "))
    return b"\n".join(data) if data else None


def with_data(frame: bytes, payload: bytes) -> bytes:
    """Return `frame` saying `payload` (one line) instead, its other fields and comments kept."""
    lines = []
    said = False
    for line in frame.splitlines():
        if line.partition(b":")[0] not in {b"data", b"error"}:
            lines.append(line)
        elif not said:
            lines.append(b"data: " + payload)
            said = True
    return b"\n".join(line for line in lines if line) + b"\n\n"


def last_events(tail: bytes) -> list[bytes]:
    """Return the data of the events in the last bytes of a stream, oldest first.

    The first event may be cut: its remains are left out where they do not begin like a field. The
    last one counts even without its blank line, for a stream may end there.
    """
    frames, rest = split(tail)
    return [data for data in map(data_of, (*frames, rest)) if data is not None]
