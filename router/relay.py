"""How the bytes of an answer's body reach the caller, once its head says how they are framed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.wire.framing import LAST_CHUNK

DONE_EVENT = b"data: [DONE]"


def chunk(text: bytes) -> bytes:
    """Return `text` as one chunk; nothing where it is empty, since that would end the body."""
    return b"%x\r\n%b\r\n" % (len(text), text) if text else b""


@dataclass(frozen=True, slots=True)
class Relay:
    """Turns parts of the engine's body into parts of the caller's."""

    head: bytes
    """Header lines that announce the framing."""
    part: Callable[[bytes, Sequence[bytes]], bytes]
    """What to write for a part that came as the first argument and holds the second."""
    event: Callable[[bytes], bytes]
    """What to write for an event of the router's own; nothing where none can be fitted in."""
    end: Callable[[], bytes]
    """What ends a body that is complete."""
    abandon: bytes
    """What ends a body that is not."""


_CHUNKED_HEAD = b"transfer-encoding: chunked\r\n"

AS_IT_CAME = Relay(
    head=_CHUNKED_HEAD,
    part=lambda relay, _: relay,
    event=chunk,
    end=lambda: LAST_CHUNK,
    abandon=LAST_CHUNK,
)
"""Chunked on both sides: framing and all, untouched."""

RECHUNKED = Relay(
    head=_CHUNKED_HEAD,
    part=lambda _, payload: chunk(b"".join(payload)),
    event=chunk,
    end=lambda: LAST_CHUNK,
    abandon=LAST_CHUNK,
)
"""The engine frames its body otherwise, or its events are edited: chunks of the router's own."""

BARE = Relay(
    head=b"",
    part=lambda _, payload: b"".join(payload),
    event=lambda event: event,
    end=lambda: b"",
    abandon=b"",
)
"""For a caller that speaks HTTP/1.0: no framing, the connection's end is the body's."""


def fixed(length: int) -> Relay:
    """Return the relay for a body of known length on both sides; no event fits into it."""
    return Relay(
        head=b"content-length: %d\r\n" % length,
        part=lambda relay, _: relay,
        event=lambda _: b"",
        end=lambda: b"",
        abandon=b"",
    )


def edited(
    inner: Relay,
    *,
    repair: Callable[[bytes], bytes] | None,
    before_done: Callable[[], bytes] | None,
) -> Relay:
    """Return a relay that repairs each event's data, and adds an event before the stream's end.

    `inner` must frame by payload (`RECHUNKED`, `BARE`). Parts end where an event ends.
    """
    last = [before_done] if before_done is not None else []

    def part(_: bytes, payload: Sequence[bytes]) -> bytes:
        text = b"".join(payload)
        if repair is not None:
            text = _repaired(text, repair)
        if last and (at := _done_at(text)) >= 0:
            text = text[:at] + last.pop()() + text[at:]
        return inner.part(b"", (text,))

    def end() -> bytes:
        return (inner.event(last.pop()()) if last else b"") + inner.end()

    return Relay(inner.head, part, inner.event, end, inner.abandon)


def _done_at(text: bytes) -> int:
    """Return where the end mark begins; -1 where there is none.

    It stands at the start of a line: within an event's data, which is JSON, no line ends.
    """
    return 0 if text.startswith(DONE_EVENT) else text.find(b"\n" + DONE_EVENT) + 1 or -1


def _repaired(text: bytes, repair: Callable[[bytes], bytes]) -> bytes:
    """Return the events of `text` with the data of each one repaired."""
    lines = text.split(b"\n")
    for at, line in enumerate(lines):
        if line.startswith(b"data:") and not line.startswith(DONE_EVENT):
            lines[at] = b"data: " + repair(line[5:].strip())
    return b"\n".join(lines)
