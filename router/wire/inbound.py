"""The server side of the wire: uvicorn's protocol class for every caller's connection.

A request is read whole before anything is done with it. One for an inference route becomes an
`Exchange` of the door's, which writes to the transport itself; all else runs through uvicorn's
own ASGI cycle. Requests on one connection are answered one after the other, in order.

What two parsers could read differently is refused, never repaired: see `_doubt`.
Source: RFC 9112, sections 3, 6 and 11.2.
"""

import asyncio
import http
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from engines.engine import Route
from router import errors
from router.settings import Limits
from router.wire.heads import KnownRequest, KnownRequests, RequestHead
from router.wire.knocks import RefusedHead, refused_head
from router.wire.targets import AUTHORITY, doubtful_path, doubtful_target

_SILENT = logging.getLogger("headway.asgi")
MAX_PIPELINED = 16
"""Requests read ahead on one connection; more is not a client but an attack."""
MOST_FRAMING = 8
"""Bytes around a byte of a chunked body; a chunk of one has five."""
LINGER_S = 2.0
"""How long bytes that nobody wants are read and dropped, so that a refusal can be read."""

STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
}
_NUMBERED = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


class Exchange(Protocol):
    """One inference request under way, as its connection sees it."""

    def caller_left(self) -> None:
        """The connection is gone."""

    def pause_writing(self) -> None:
        """The caller reads more slowly than the engine writes."""

    def resume_writing(self) -> None:
        """The caller has caught up."""


class Door(Protocol):
    """Where inference requests go, and what bounds they are held to."""

    routes: Mapping[bytes, Route]
    limits: Limits
    known: KnownRequests
    clock: Callable[[], float]
    """Monotonic seconds."""
    connections: "set[Inbound]"
    most_connections: int
    """Callers that may be connected at once."""
    trusts: Callable[[str], bool]
    """Whether what an address says of whom it speaks for is believed."""

    def begin(self, caller: "Inbound", request: "Incoming") -> Exchange | None:
        """Take on a request; None where it was answered, and `finished`, at once."""
        ...

    def refusal_of(self, head: RequestHead, key: bytes) -> bytes | None:
        """Return the whole answer to who has only a wrong key to show, counted; None: look closer."""
        ...


class Incoming:
    """One request as it came in."""

    __slots__ = ("arrived", "body", "chunks", "head", "keep_alive", "size", "whole")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.arrived = 0.0
        """When its last byte had come and the answers before it were made: its targets count from
        then, for no router hastens a sender, or those whom it sent ahead."""
        self.chunks: list[bytes] = []
        self.size = 0
        self.body = b""
        self.keep_alive = head.keep_alive
        self.whole: bytes | None = None
        """All of it as it came in one piece, until it is known what there is to learn from it."""


class _State(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    LINGER = auto()
    """Answered and closing: what still comes is dropped."""


# A member looked up on its class costs more than a name of this module.
_IDLE: Final = _State.IDLE
_HEAD: Final = _State.HEAD
_BODY: Final = _State.BODY
_LINGER: Final = _State.LINGER


class Inbound:
    """One caller's connection: an `asyncio.Protocol` by its methods."""

    def __init__(
        self,
        door: Door,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._door = door
        self._limits = door.limits
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.is_trusted = False
        """What the caller says of whom it speaks for is believed."""
        self._state = _IDLE
        self._deadline = math.inf
        self._head_bytes = 0
        self._later_bytes = 0
        """Bytes that came since those with which the present request began."""
        self._request = Incoming(RequestHead())
        self._numbered: list[tuple[bytes, bytes]] = []
        self._problem: errors.Problem | None = None
        self._known: KnownRequest | None = None
        """The head of the latest request that was known: most callers say the same again."""
        self._whole: bytes | None = None
        """What is being read, where a request begins with it."""
        self._refused: RefusedHead | None = None
        """The head of the latest request whose key opened nothing."""
        self._exchange: Exchange | None = None
        self._cycle: RequestResponseCycle | None = None
        self._flow: FlowControl | None = None
        self._busy = False
        self._paused_at: float | None = None
        """When the caller stopped reading, or last read a little; None while it reads."""
        self._unread_bytes = 0
        self._queue: deque[Incoming] = deque()
        self._last_request = False
        """The server is stopping: close as soon as the present answer ends."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a new connection (asyncio)."""
        self.transport = cast("asyncio.Transport", transport)
        self.is_trusted = self._door.trusts(_peer(transport))
        self._server_state.connections.add(self)  # type: ignore[arg-type] # it names its own two classes
        self._door.connections.add(self)
        self._deadline = self._door.clock() + self._limits.header_timeout_s
        if len(self._door.connections) > self._door.most_connections:
            self.refuse(errors.too_many_connections(self._door.most_connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: the connection is gone (asyncio)."""
        self._server_state.connections.discard(self)
        self._door.connections.discard(self)
        self._queue.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.caller_left()
        cycle, self._cycle = self._cycle, None
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if self._flow is not None:
            self._flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read what came; start a request once it is whole (asyncio)."""
        state = self._state
        if state is _LINGER:
            return
        self._whole = None
        if state is _IDLE and not self._head_bytes and self._problem is None:
            self._read_whole(data)
        else:
            self._parse(data)
        if not self._busy:
            self._go_on()

    def _read_whole(self, data: bytes) -> None:
        """Read what begins with a request; one whose head is known is not parsed again."""
        known, most = self._known, self._limits.max_body_bytes
        body = None if known is None else known.body_of(data, most)
        if body is None:
            known = self._door.known.find(data)
            body = None if known is None else known.body_of(data, most)
        if known is None or body is None:
            if self._refused is not None:
                data = self._refuse_again(self._refused, data)
                if not data:
                    return
            self._whole = data
            self._parse(data)
        else:
            self._known = known
            self._accept(Incoming(known.head), body)

    def _refuse_again(self, refused: RefusedHead, data: bytes) -> bytes:
        """Answer those requests at the beginning of `data` that only try other keys; return the rest."""
        if self._busy or self._queue or self._paused_at is not None or self._last_request:
            return data
        answers: list[bytes] = []
        at = 0
        while (knock := refused.read(data, at, self._limits.max_body_bytes)) is not None:
            key, end = knock
            answer = self._door.refusal_of(refused.head, key)
            if answer is None:
                break
            answers.append(answer)
            at = end
        if not at:
            return data
        self.transport.write(b"".join(answers))
        self._server_state.total_requests += len(answers)
        self._deadline = self._door.clock() + self._limits.keep_alive_s
        return data[at:]

    def _parse(self, data: bytes) -> None:
        if self._state is not _BODY:
            self._head_bytes += len(data)
        self._later_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if self._problem is None:
                self._problem = _bad_request(f"the request is not valid HTTP/1.1: {error}")
        if self._state is _HEAD and self._head_bytes > self._limits.max_header_bytes:
            self._problem = self._problem or errors.headers_too_large(self._limits.max_header_bytes)
        elif self._state is _BODY:
            around = self._later_bytes - self._request.size
            if around > self._limits.max_header_bytes + MOST_FRAMING * self._request.size:
                self._problem = self._problem or _bad_request(
                    "the body's chunks have more extensions and trailers than are taken; send none"
                )

    def eof_received(self) -> bool:
        """Close when the caller closes its side (asyncio)."""
        return False

    def pause_writing(self) -> None:
        """Hold the answer back: the caller reads too slowly (asyncio)."""
        self._paused_at = self._door.clock()
        self._unread_bytes = self.transport.get_write_buffer_size()
        if self._exchange is not None:
            self._exchange.pause_writing()
        elif self._flow is not None:
            self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Go on with the answer (asyncio)."""
        self._paused_at = None
        if self._exchange is not None:
            self._exchange.resume_writing()
        elif self._flow is not None:
            self._flow.resume_writing()
        if not self._busy:
            self._go_on()

    # httptools

    def on_message_begin(self) -> None:
        """Begin with a request (httptools)."""
        now = self._door.clock()
        self._request = Incoming(RequestHead())
        self._numbered = []
        self._later_bytes = 0
        self._state = _HEAD
        self._deadline = now + self._limits.header_timeout_s

    def on_url(self, url: bytes) -> None:
        """Collect a part of the target (httptools)."""
        self._request.head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header (httptools); a trailer is dropped, for nobody in front has judged it.

        Source: RFC 9110, section 6.5.1.
        """
        if self._state is _BODY:
            return
        name = name.lower()
        self._request.head.headers.append((name, value))
        if name in _NUMBERED:
            self._numbered.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head, before any of the body is taken (httptools)."""
        request, parser = self._request, self._parser
        self._state = _BODY
        if self._head_bytes > self._limits.max_header_bytes:
            self._measure_head(request)
        self._head_bytes = 0
        self._deadline += self._limits.body_timeout_s
        head = request.head
        head.method = parser.get_method()
        version = parser.get_http_version()
        head.http_1_0 = version == "1.0"
        head.keep_alive = parser.should_keep_alive() and not head.http_1_0
        request.keep_alive = head.keep_alive
        doubt = _doubt(version, head.target, self._numbered)
        if head.method == b"CONNECT":
            # To the parser it is always a change of protocol, however often it is read again.
            doubt = "CONNECT asks for a tunnel, and none leads through here"
        path = _path(head.target)
        if head.method == b"POST":
            head.route = self._door.routes.get(path)
        if head.route is None and doubt is None:
            doubt = doubtful_path(path)
        if doubt is not None:
            self._problem = self._problem or _bad_request(doubt)
            return
        numbered = dict(self._numbered)
        if int(numbered.get(b"content-length", 0)) > self._limits.max_body_bytes:
            self._problem = self._problem or errors.body_too_large(self._limits.max_body_bytes)
        if b"expect" in numbered and not head.http_1_0:
            self._expect(numbered[b"expect"])

    def _measure_head(self, request: Incoming) -> None:
        """Tell a large head from a small one that came together with a body."""
        head = request.head
        size = len(head.target) + sum(len(n) + len(v) + 4 for n, v in head.headers)
        if size > self._limits.max_header_bytes:
            too_large = errors.headers_too_large(self._limits.max_header_bytes)
            self._problem = self._problem or too_large

    def _expect(self, value: bytes) -> None:
        if value.lower() != b"100-continue":
            shown = errors.shown(value.decode("latin-1"))
            message = f"header Expect: {shown} is not '100-continue'"
            odd = errors.problem(417, message, "invalid_header", "Expect")
            self._problem = self._problem or odd
        elif self._problem is None and not self._busy:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body (httptools)."""
        request = self._request
        request.size += len(body)
        if request.size > self._limits.max_body_bytes:
            self._problem = self._problem or errors.body_too_large(self._limits.max_body_bytes)
        elif self._problem is None:
            request.chunks.append(body)

    def on_message_complete(self) -> None:
        """Queue the request (httptools)."""
        request = self._request
        self._state = _IDLE
        self._head_bytes = 0
        if self._problem is not None:
            return
        if request.head.route is not None:
            request.whole = self._whole
        chunks = request.chunks
        self._accept(request, chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def _accept(self, request: Incoming, body: bytes) -> None:
        """Queue a request that was read whole."""
        self._deadline = math.inf
        request.body = body
        if len(self._queue) < MAX_PIPELINED:
            self._queue.append(request)
        else:
            self._problem = _bad_request(f"more than {MAX_PIPELINED} requests were sent ahead")

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Read a request again as if it had not asked for another protocol.

        A server may ignore the wish (RFC 9110, section 7.8), and Java's client sends it with
        every request; but the parser takes what follows the head for the other protocol's.
        """
        self._parser = httptools.HttpRequestParser(self)
        if self._problem is not None:
            return
        request = self._queue.pop() if self._queue else self._request
        lines = [
            b"%b: %b\r\n" % (name, value)
            for name, value in request.head.headers
            if name not in {b"upgrade", b"connection"}
        ]
        start = b"%b %b HTTP/1.1\r\n" % (request.head.method, request.head.target)
        self.data_received(b"".join((start, *lines, b"\r\n", rest)))

    # requests

    def _go_on(self) -> None:
        """Start the next request; where none waits, refuse what could not be read as one.

        While the caller does not read the answer before, there is no sense in making another.
        """
        if self._paused_at is not None:
            return
        if self._queue:
            request = self._queue.popleft()
            request.arrived = self._door.clock()
            self._start(request)
        elif self._problem is not None and self._state is not _LINGER:
            self.refuse(self._problem)

    def _start(self, request: Incoming) -> None:
        self._busy = True
        if request.head.route is not None:
            exchange = self._door.begin(self, request)
            if exchange is not None:
                self._exchange = exchange
            if request.whole is not None:
                self._door.known.learn(request.whole, request.head, len(request.body))
                request.whole = None
        else:
            self._start_cycle(request)

    def _start_cycle(self, request: Incoming) -> None:
        """Run a request that is not hot through the ASGI application."""
        head = request.head
        transport = self.transport
        self._flow = self._flow or FlowControl(transport)
        path, _, query = head.target.partition(b"?")
        raw_path = _path(path)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": "1.0" if head.http_1_0 else "1.1",
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "scheme": "https" if is_ssl(transport) else "http",
            "root_path": "",
            "method": head.method.decode("ascii"),
            "path": unquote(raw_path.decode("ascii", "replace")),
            "raw_path": raw_path,
            "query_string": query,
            "headers": head.headers,
            "state": self._app_state.copy(),
        }
        cycle = RequestResponseCycle(
            scope=scope,  # type: ignore[arg-type] # built as uvicorn builds it
            transport=transport,
            flow=self._flow,
            logger=_SILENT,
            access_logger=_SILENT,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=request.keep_alive and not self._last_request,
            on_response=lambda: self.finished(keep_alive=cycle.keep_alive),
        )
        cycle.body += request.body
        cycle.more_body = False
        cycle.message_event.set()
        self._cycle = cycle
        task = self._loop.create_task(cycle.run_asgi(self._config.loaded_app))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def finished(self, *, keep_alive: bool) -> None:
        """The present answer is complete: go on with the next request, or wait for one."""
        self._server_state.total_requests += 1
        self._busy = False
        self._exchange = None
        self._cycle = None
        if not keep_alive or self._last_request:
            self._state = _LINGER
            self._deadline = self._door.clock() + self._limits.keep_alive_s
            self.transport.close()
            return
        if self._state is _IDLE:
            self._deadline = self._door.clock() + self._limits.keep_alive_s
        self._go_on()

    def refuse(self, problem: errors.Problem) -> None:
        """Answer what could not be read as a request, and close."""
        self.answer(problem.status, errors.headers(problem), errors.body(problem), close=True)
        self._state = _LINGER
        self._deadline = self._door.clock() + LINGER_S
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def answer(
        self,
        status: int,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        close: bool = False,
    ) -> None:
        """Write one whole answer; `headers` name its type."""
        self.transport.write(whole_answer(status, headers, body, close=close))

    def keep_out(self, request: Incoming, key: bytes | None, answer: bytes) -> None:
        """Answer a request whose key opens nothing: nothing but that is learned from its head."""
        whole, request.whole = request.whole, None
        if whole is not None and key is not None:
            self._refused = refused_head(whole, key, request.head)
        self.transport.write(answer)
        self.finished(keep_alive=request.keep_alive)

    # uvicorn and the sweep

    def shutdown(self) -> None:
        """Close when idle, else with the end of the present answer (uvicorn, on its way out)."""
        self._last_request = True
        if self._cycle is not None:
            self._cycle.keep_alive = False
        if not self._busy:
            self.transport.close()

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed: a slow request, an idle or a lingering connection.

        An exchange sees itself to a caller that does not read; of all else it is seen here.
        """
        if self._paused_at is not None and self._exchange is None:
            unread_bytes = self.transport.get_write_buffer_size()
            if unread_bytes < self._unread_bytes:
                self._paused_at, self._unread_bytes = now, unread_bytes
            elif now >= self._paused_at + self._limits.keep_alive_s:
                self.transport.abort()
            return
        if now < self._deadline or self._busy:
            return
        if self._state is _HEAD or self._state is _BODY:
            in_head = self._state is _HEAD
            self.refuse(_too_slow(self._request, self._limits, in_head=in_head))
        else:
            self.transport.abort()


def whole_answer(
    status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, close: bool
) -> bytes:
    """Return one whole answer as it goes over the wire; `headers` name its type."""
    parts = [STATUS_LINES[status]]
    parts += [b"%b: %b\r\n" % header for header in headers]
    parts.append(b"connection: close\r\n" if close else b"")
    parts.append(b"content-length: %d\r\n\r\n" % len(body))
    parts.append(body)
    return b"".join(parts)


def _peer(transport: asyncio.BaseTransport) -> str:
    """Return the address that a connection comes from; empty where it has none (a Unix socket)."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _path(target: bytes) -> bytes:
    """Return a request target's path; the authority of an absolute form is passed over."""
    if target[:1] != b"/":
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target.partition(b"?")[0]


def _doubt(version: str, target: bytes, numbered: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Say why two parsers might read this head differently; None where they cannot."""
    if version not in {"1.0", "1.1"}:
        return f"HTTP/{version} is not spoken here; HTTP/1.1 is"
    if target[:1] != b"/" and (doubt := doubtful_target(target)) is not None:
        return doubt
    names = [name for name, _ in numbered]
    for name in names:
        if names.count(name) > 1:
            return f"header {name.decode().title()!r} was sent {names.count(name)} times"
    if version == "1.1" and b"host" not in names:
        return "header 'Host' is missing"
    values = dict(numbered)
    host = values.get(b"host", b"")
    if host and not AUTHORITY.fullmatch(host):
        return f"header 'Host': {host.decode('latin-1')!r} is not a host, with or without a port"
    return _doubtful_length(version, values)


def _doubtful_length(version: str, numbered: Mapping[bytes, bytes]) -> str | None:
    length = numbered.get(b"content-length")
    coding = numbered.get(b"transfer-encoding")
    if length is not None and not length.isdigit():
        return f"header 'Content-Length': {length.decode('latin-1')!r} is not a whole number"
    if coding is not None and coding.lower() != b"chunked":
        shown = coding.decode("latin-1")
        return f"header 'Transfer-Encoding': {shown!r} is not supported; only 'chunked' is"
    if coding is not None and (length is not None or version == "1.0"):
        return "'Transfer-Encoding' goes with neither 'Content-Length' nor HTTP/1.0"
    return None


def _bad_request(message: str) -> errors.Problem:
    return errors.problem(400, message, "bad_http_request")


def _too_slow(request: Incoming, limits: Limits, *, in_head: bool) -> errors.Problem:
    if in_head:
        message = f"the request's headers were not complete after {limits.header_timeout_s:g} s"
        return errors.problem(408, message, "request_timeout")
    return errors.body_too_slow(limits.body_timeout_s, request.size)
