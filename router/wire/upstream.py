"""Connections to engines: one pool an endpoint, one answer at a time on each connection.

A connection parses the head of an answer, follows the framing of its body, and hands both to the
`Listener` that asked. It decides nothing: what a status or a failure means is the listener's.
"""

import asyncio
import contextlib
import errno
import logging
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import urlsplit

from policies.facts import FailureKind
from router.networks import Networks
from router.wire.framing import Framing, FramingError
from router.wire.heads import (
    FIRST_FINAL_STATUS,
    MAX_HEAD_BYTES,
    AnswerHead,
    HeadError,
    HeadReader,
)

logger = logging.getLogger("headway")
JOIN_BELOW_BYTES = 64 * 1024
"""Smaller bodies are joined with their head into one write; larger ones are never copied."""
MAX_INTERIM = 32
"""Interim answers before the final one; an engine that sends more does not come to an end."""

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})

Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]


class Listener(Protocol):
    """Who asked, and hears how the answer comes."""

    def on_connected(self, connection: "Connection") -> None:
        """The request goes out on this connection: `drop` it to hang up."""

    def on_head(self, head: AnswerHead, framing: Framing) -> None:
        """The head of the answer came; `framing.done` is set where no body follows."""

    def on_body(self, relay: bytes, payload: Sequence[bytes], *, done: bool) -> None:
        """A part of the body came; `done` with the last one. The connection is free by then."""

    def on_failure(self, kind: FailureKind, detail: str) -> None:
        """The attempt failed; nothing more will be heard."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint listens."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    base_path: str
    authority: bytes
    """The `Host` header's value."""
    server_name: str
    """Whom its certificate must name."""
    networks: Networks | None
    """Where it has to be; None: anywhere."""


def address(
    url: str,
    tls: ssl.SSLContext | None,
    networks: Networks | None = None,
    server_name: str | None = None,
) -> Address:
    """Return the address in a checked `http(s)://host[:port][/base]` URL."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = parts.hostname or ""
    return Address(
        host=host,
        port=parts.port or (443 if secure else 80),
        tls=(tls or ssl.create_default_context()) if secure else None,
        base_path=parts.path.rstrip("/"),
        authority=parts.netloc.rpartition("@")[2].encode("ascii"),
        server_name=server_name or host,
        networks=networks,
    )


class Connection:
    """One connection to an engine: an `asyncio.Protocol` by its methods."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._listener: Listener | None = None
        self._transport = cast("asyncio.Transport", None)
        self._head = b""
        self._framing: Framing | None = None
        self._keep = True
        self._paused = False
        self._interim = 0
        self._kept = False
        """This request went out on a connection that had served another one before."""
        self.idle_since = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a new connection (asyncio)."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer (asyncio)."""
        listener = self._listener
        if listener is None:
            # An engine that speaks unasked cannot be trusted with the next request.
            self._transport.abort()
            return
        framing = self._framing
        if framing is None:
            self._read_head(listener, data)
            return
        try:
            relay = framing.feed(data)
        except FramingError as error:
            self._fail(FailureKind.BROKEN, str(error))
            return
        if framing.done:
            self._finish(listener, framing, relay)
        else:
            listener.on_body(relay, framing.payload, done=False)

    def eof_received(self) -> bool:
        """Close when the engine closes its side (asyncio)."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the listener, if one waits, what the end of the connection means (asyncio)."""
        self._pool.forget(self)
        listener, framing = self._listener, self._framing
        if listener is None:
            return
        if framing is not None and exc is None and framing.closed():
            self._listener = None
            listener.on_body(b"", (), done=True)
        elif framing is None and not self._head and self._kept:
            self._fail(FailureKind.STALE_CONNECTION, "the kept connection was closed")
        else:
            what = "the connection was reset" if exc else "the connection was closed"
            when = "before the answer" if framing is None else "in the middle of the answer"
            self._fail(FailureKind.BROKEN, f"{what} {when}")

    # asking

    def ask(self, listener: Listener, head: bytes, body: bytes) -> None:
        """Send one request; `listener` hears of the answer."""
        self._listener = listener
        listener.on_connected(self)
        if len(body) < JOIN_BELOW_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def drop(self) -> None:
        """Close at once and say nothing more: the engine sees a hang-up."""
        self._listener = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no further until `resume`: the caller is slower than the engine."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on after `pause`."""
        if self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused = False

    def is_open(self) -> bool:
        """Return whether another request may be sent."""
        return not self._transport.is_closing()

    # answering

    def _read_head(self, listener: Listener, data: bytes) -> None:
        data = self._head + data if self._head else data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:  # noqa: PLR2004 # not found
            if len(data) > MAX_HEAD_BYTES:
                self._fail(FailureKind.BROKEN, "the answer's head is larger than 64 KiB")
            self._head = data
            return
        self._head = b""
        try:
            head = self._pool.heads.read(data[:end])
        except HeadError as error:
            self._fail(FailureKind.BROKEN, f"the answer's head is malformed: {error}")
        else:
            self._begin(listener, head, data[end:])

    def _begin(self, listener: Listener, head: AnswerHead, rest: bytes) -> None:
        if head.status < FIRST_FINAL_STATUS:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                detail = f"more than {MAX_INTERIM} interim answers came before the final one"
                self._fail(FailureKind.BROKEN, detail)
            elif rest:
                self._read_head(listener, rest)
            return
        self._interim = 0
        framing = head.framing()
        self._keep = head.keep
        self._framing = framing
        listener.on_head(head, framing)
        if framing.done:
            framing.excess = bool(rest)
            if self._listener is listener:
                self._finish(listener, framing, b"")
        elif rest and self._listener is listener:
            self.data_received(rest)

    def _finish(self, listener: Listener, framing: Framing, relay: bytes) -> None:
        self._listener = None
        self._framing = None
        if self._keep and not framing.excess and not self._transport.is_closing():
            self._kept = True
            self.resume()
            self._pool.give(self)
        else:
            self._transport.close()
        listener.on_body(relay, framing.payload, done=True)

    def _fail(self, kind: FailureKind, detail: str) -> None:
        listener = self._listener
        self._listener = None
        self._transport.abort()
        if listener is not None:
            listener.on_failure(kind, detail)


class Pool:
    """The connections to one endpoint, newest idle one first."""

    def __init__(  # noqa: PLR0913 # all that connections to one endpoint share
        self,
        where: Address,
        *,
        loop: asyncio.AbstractEventLoop,
        spawn: Spawn,
        clock: Callable[[], float],
        heads: HeadReader,
        connect_s: float,
        keep_s: float,
    ) -> None:
        self.where = where
        self.heads = heads
        self._loop = loop
        self._spawn = spawn
        self._clock = clock
        self._connect_s = connect_s
        self._keep_s = keep_s
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()

    @property
    def open_connections(self) -> int:
        """Connections held, busy and idle."""
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        """Connections waiting for a request."""
        return len(self._idle)

    def ask(self, listener: Listener, head: bytes, body: bytes) -> asyncio.Task[None] | None:
        """Send one request on an idle connection or, where none is left, on a fresh one.

        Returns the task that connects, to be cancelled should the caller leave before the
        listener hears `on_connected`; None where the request is on its way already.
        """
        idle = self._idle
        oldest_kept = self._clock() - self._keep_s
        while idle:
            connection = idle.pop()
            if connection.idle_since >= oldest_kept and connection.is_open():
                connection.ask(listener, head, body)
                return None
            connection.drop()
        return self._spawn(self._connect(listener, head, body))

    async def _connect(self, listener: Listener, head: bytes, body: bytes) -> None:
        try:
            await self._ask_afresh(listener, head, body)
        except Exception:  # its task shares a group with all that must go on
            logger.exception("connecting broke", extra={"endpoint": self.where.authority.decode()})

    async def _ask_afresh(self, listener: Listener, head: bytes, body: bytes) -> None:
        """Connect, and ask on the fresh connection."""
        connection = Connection(self)
        try:
            async with asyncio.timeout(self._connect_s):
                await self._reach(connection)
        except asyncio.CancelledError:
            # Made already, perhaps, and nobody was told yet.
            connection.drop()
            raise
        except TimeoutError:
            connection.drop()
            detail = f"no connection within {self._connect_s:g} s"
            listener.on_failure(FailureKind.NOT_REACHED, detail)
        except (OSError, ssl.SSLError) as error:
            # That the router is out of files or ports is no fault of the endpoint.
            is_ours = error.errno in _OURS
            kind = FailureKind.BUSY if is_ours else FailureKind.NOT_REACHED
            listener.on_failure(kind, str(error) or type(error).__name__)
        else:
            if not connection.is_open():
                # Its end was reported before there was anybody to tell.
                listener.on_failure(FailureKind.NOT_REACHED, "the connection was closed at once")
                return
            self._open.add(connection)
            connection.ask(listener, head, body)

    async def _reach(self, connection: Connection) -> None:
        """Make a connection, to an allowed address where not all are; raises OSError."""
        where = self.where
        *others, last = [where.host]
        if where.networks is not None:
            *others, last = await where.networks.addresses(where.host, where.port)
        for host in others:
            with contextlib.suppress(OSError):
                return await self._connect_to(host, connection)
        return await self._connect_to(last, connection)

    async def _connect_to(self, host: str, connection: Connection) -> None:
        where = self.where
        await self._loop.create_connection(
            lambda: cast("asyncio.Protocol", connection),
            host,
            where.port,
            ssl=where.tls,
            server_hostname=where.server_name if where.tls else None,
        )

    def give(self, connection: Connection) -> None:
        """Take back a connection that is free again."""
        connection.idle_since = self._clock()
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that was closed."""
        self._open.discard(connection)
        if connection.idle_since:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)

    def sweep(self) -> None:
        """Close the connections that have been idle for longer than they may be kept."""
        oldest_kept = self._clock() - self._keep_s
        while self._idle and self._idle[0].idle_since < oldest_kept:
            self._idle.popleft().drop()

    def close(self) -> None:
        """Close the idle connections; busy ones end with their answers."""
        while self._idle:
            self._idle.pop().drop()
