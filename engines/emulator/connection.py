"""One connection of a caller: HTTP/1.1 in, whole answers and event streams out."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from engines.emulator.faces.words import Answer

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_GARBAGE = b"\x16\x03\x01 this is not HTTP\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    keeps: bool
    """The caller means to use the connection again."""


class Host(Protocol):
    """What a connection needs of its server."""

    def joined(self, connection: "Connection") -> None:
        """Take note of a connection."""
        ...

    def asked(self, request: Request, connection: "Connection") -> None:
        """Answer a request, now or later."""
        ...

    def left(self, connection: "Connection") -> None:
        """Let go of what the connection was waiting for."""
        ...


class Connection(asyncio.Protocol):
    """Requests are answered one after another; what comes early waits."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._data = b"data: "

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._host.joined(self)

    def data_received(self, data: bytes) -> None:
        """Read on; hang up on what is no HTTP."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        self._transport = None
        self._host.left(self)

    def on_url(self, url: bytes) -> None:
        """Take the URL, which may come in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand the request on, when its turn comes."""
        request = Request(
            method=self._parser.get_method().decode(),
            path=self._url.decode("latin-1").partition("?")[0],
            headers=self._headers,
            body=b"".join(self._body),
            keeps=self._parser.should_keep_alive(),
        )
        self._url, self._headers, self._body = b"", {}, []
        self._waiting.append(request)
        self._next()

    @property
    def is_open(self) -> bool:
        """The caller is there."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, answer: Answer) -> None:
        """Send a whole answer."""
        lines = _lines(answer.headers)
        if answer.content_type is not None:
            lines += f"content-type: {answer.content_type}\r\n"
        lines += f"content-length: {len(answer.body)}\r\n"
        self._write(_head(answer.status, lines, keeps=self._keeps) + answer.body)
        self._done()

    def begin(self, headers: Sequence[tuple[str, str]], *, space: bool) -> None:
        """Begin a stream; `space`: a space follows `data:`."""
        self._data = b"data: " if space else b"data:"
        lines = _lines(headers) + "transfer-encoding: chunked\r\n"
        self._write(_head(200, lines, keeps=self._keeps))

    def event(self, payload: bytes) -> None:
        """Send one event of a stream."""
        size = len(self._data) + len(payload) + 2
        self._write(b"%x\r\n%b%b\n\n\r\n" % (size, self._data, payload))

    def comment(self, line: bytes) -> None:
        """Send something that is no event."""
        self._write(b"%x\r\n%b\r\n" % (len(line), line))

    def end(self) -> None:
        """End a stream."""
        self._write(b"0\r\n\r\n")
        self._done()

    def garbage(self) -> None:
        """Send what no client understands, and hang up."""
        self._write(_GARBAGE)
        self.close()

    def close(self) -> None:
        """Hang up when all is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def _keeps(self) -> bool:
        return self._current is not None and self._current.keeps

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _next(self) -> None:
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft()
            self._host.asked(self._current, self)

    def _done(self) -> None:
        keeps = self._keeps
        self._current = None
        if keeps:
            self._next()
        else:
            self.close()


def factory(host: Host) -> Callable[[], Connection]:
    """Return what the event loop makes connections with."""
    return lambda: Connection(host)


def _lines(headers: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _head(status: int, lines: str, *, keeps: bool) -> bytes:
    phrase = _PHRASES.get(status, "Emulated")
    closing = "" if keeps else "connection: close\r\n"
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}{closing}\r\n".encode("latin-1")
