"""Heads of requests and of answers: read once, and known again.

Clients and engines say the same thing again and again: heads that differ by nothing, by the
length of a body, or by the second of a `date`. A head that was read before is found by its bytes
and not read again, and neither is what was concluded from it.
"""

import re
from collections.abc import Sequence
from typing import Any

import httptools

from engines.engine import Route
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

_VERSIONS = frozenset({"1.0", "1.1"})
_ROUTERS_OWN = (b"x-sla-", b"x-ratelimit-")
"""What headers begin with that this router alone gives its callers; an engine's would contradict it."""
_NOT_RETURNED = frozenset(
    {
        *(b"connection", b"content-length", b"keep-alive", b"proxy-authenticate"),
        *(b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        b"x-request-id",
    }
)


class RequestHead:
    """The head of one request. Shared by all requests that have it: only `memo` grows."""

    __slots__ = ("headers", "http_1_0", "keep_alive", "memo", "method", "route", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: Headers = []
        """Names in lower case, values as sent, in order."""
        self.route: Route | None = None
        """None: not an inference request."""
        self.keep_alive = False
        self.http_1_0 = False
        self.memo: dict[str, Any] = {}
        """What readers of the head concluded from it, each under a name of its own."""


class KnownRequest:
    """A head as it came, around the length of the body, and what was read in it."""

    __slots__ = ("after", "before", "head")

    def __init__(self, before: bytes, after: bytes, head: RequestHead) -> None:
        self.before = before
        """Everything up to the first digit of the body's length."""
        self.after = after
        """Everything from the last digit on, the empty line included."""
        self.head = head

    def body_of(self, data: bytes, max_body_bytes: int) -> bytes | None:
        """Return the body of `data` if it is one whole request with this head."""
        if not data.startswith(self.before):
            return None
        at = len(self.before)
        end = data.find(b"\r\n", at, at + MAX_LENGTH_DIGITS + 2)
        if end < 0 or not data.startswith(self.after, end):
            return None
        digits = data[at:end]
        if not digits.isdigit():
            return None
        length, start = int(digits), end + len(self.after)
        return data[start:] if len(data) - start == length <= max_body_bytes else None


class KnownRequests:
    """Heads of inference requests that were read and found to be in order.

    Known are only whole heads that announce the length of a body and came in one piece with it;
    the length itself may differ. Everything else goes to the parser.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, KnownRequest] = {}

    def find(self, data: bytes) -> KnownRequest | None:
        """Return the known head that `data` begins with, so that its body can be looked for.

        Whoever has seen a caller's head before asks that one first: most say the same again.
        """
        found = split_head(data)
        return None if found is None else self._known.get(found[0] + found[1])

    def learn(self, data: bytes, head: RequestHead, size: int) -> None:
        """Remember the head of `data`, which the parser read as one request of `size` bytes."""
        found = split_head(data)
        if found is None:
            return
        before, after, start, length = found
        if length != size or len(data) - start != size:
            return
        if start <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[before + after] = KnownRequest(before, after, head)


MAX_LENGTH_DIGITS = 9
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})\r\n", re.IGNORECASE)


def split_head(data: bytes) -> tuple[bytes, bytes, int, int] | None:
    """Return a head up to its body's length and after it, where the body starts, and the length.

    None where no whole head is there, or none that announces a length.
    """
    end = data.find(b"\r\n\r\n")
    length = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
    if length is None:
        return None
    start = end + 4
    return data[: length.start(1)], data[length.end(1) : start], start, int(length[1])


def nominated(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return the headers that `Connection` names: they are meant for its other end alone.

    Names in lower case, in and out. Source: RFC 9110, section 7.6.1.
    """
    values = [value.lower() for name, value in headers if name == b"connection"]
    return frozenset(name.strip() for value in values for name in value.split(b","))


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
        dropped = _NOT_RETURNED | nominated(headers)
        self.passed_on = b"".join(
            [
                b"%b: %b\r\n" % header
                for header in headers
                if header[0] not in dropped and not header[0].startswith(_ROUTERS_OWN)
            ]
        )
        """The end-to-end headers, as lines, less what the router alone tells."""

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
        if (version := parser.get_http_version()) not in _VERSIONS:
            raise HeadError(f"HTTP/{version} was not asked for; HTTP/1.1 was")
        return AnswerHead(parser.get_status_code(), reader.headers, keep=parser.should_keep_alive())
    except httptools.HttpParserUpgrade as error:
        raise HeadError("it changes to another protocol, which nobody asked for") from error
    except httptools.HttpParserError as error:
        raise HeadError(str(error)) from error
