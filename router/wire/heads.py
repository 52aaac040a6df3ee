"""The heads of engines' answers: read once, and known again.

Engines say the same thing again and again: heads that differ by nothing, or by the second of
their `date`. A head that was read before is found by its bytes and not read again.
"""

import httptools

from router.wire.framing import Chunked, FixedLength, Framing, UntilClose

MAX_HEAD_BYTES = 64 * 1024
MAX_KNOWN = 512
"""Heads remembered; all are forgotten when there are more."""
MAX_KNOWN_BYTES = 2048
"""Longer heads are read anew each time."""
FIRST_FINAL_STATUS = 200
"""Answers below it are interim: another one follows."""
FIRST_NOT_GOOD_STATUS = 300
"""Answers from here on are no answers to the question."""
_BODILESS = frozenset({204, 304})

Headers = list[tuple[bytes, bytes]]

_NOT_RETURNED = frozenset(
    {
        *(b"connection", b"content-length", b"keep-alive", b"proxy-authenticate"),
        *(b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        b"x-request-id",
    }
)


class HeadError(Exception):
    """The bytes are not the head of an answer that could be relayed."""


class AnswerHead:
    """One head. Shared by all answers that have it, so nothing here changes."""

    __slots__ = ("_length", "chunked", "headers", "is_event_stream", "keep", "passed_on", "status")

    def __init__(self, status: int, headers: Headers, *, keep: bool) -> None:
        """Raises `HeadError` where the headers contradict each other."""
        self.status = status
        self.headers = headers
        self.keep = keep
        """The engine lets the connection be used again."""
        self.chunked = False
        self._length = _length(status, headers)
        if any(name == b"transfer-encoding" for name, _ in headers) and self._length != 0:
            self.chunked = True
        self.is_event_stream = any(
            name == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in headers
        )
        self.passed_on = b"".join(
            [b"%b: %b\r\n" % header for header in headers if header[0] not in _NOT_RETURNED]
        )
        """The end-to-end headers, as lines."""

    @property
    def content_length(self) -> int | None:
        """Bytes of the body; None where its framing tells its end."""
        return None if self.chunked else self._length

    def framing(self) -> Framing:
        """Return the framing of one body under this head."""
        if self.chunked:
            return Chunked()
        return UntilClose() if self._length is None else FixedLength(self._length)


def _length(status: int, headers: Headers) -> int | None:
    """Return the length that the head announces; None where it announces none."""
    if status in _BODILESS or status < FIRST_FINAL_STATUS:
        return 0
    length: bytes | None = None
    for name, value in headers:
        if name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise HeadError(f"transfer-encoding {value!r} is not understood")
            return None
        if name == b"content-length":
            if length is not None and length != value:
                raise HeadError("two content-lengths disagree")
            length = value
    return None if length is None else int(length)


class _Reader:
    """What httptools reports of one head."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header."""
        self.headers.append((name.lower(), value))


class HeadReader:
    """Reads heads; one for all connections of a process."""

    def __init__(self) -> None:
        self._known: dict[bytes, AnswerHead] = {}

    def read(self, raw: bytes) -> AnswerHead:
        """Return a whole head, its empty line included; raises `HeadError`."""
        head = self._known.get(raw)
        if head is None:
            head = _read(raw)
            if len(raw) <= MAX_KNOWN_BYTES:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[raw] = head
        return head


def _read(raw: bytes) -> AnswerHead:
    reader = _Reader()
    parser = httptools.HttpResponseParser(reader)
    try:
        parser.feed_data(raw)
        return AnswerHead(parser.get_status_code(), reader.headers, keep=parser.should_keep_alive())
    except httptools.HttpParserError as error:
        raise HeadError(str(error)) from error
