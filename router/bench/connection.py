"""HTTP/1.1 connections to one target: as few as needed, each used again after a whole answer."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from router.bench.question import Target

CONTINUE_BELOW: Final = 200
"""Statuses below are interim answers."""
_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})


class Listener(Protocol):
    """Whoever waits for one answer. Exactly one of `over` and `lost` is called, last."""

    def sent(self) -> None:
        """Take note that the request has been written."""

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Take in status and headers, names in lower case; the last of equal names."""

    def body(self, data: bytes) -> None:
        """Take in a part of the body."""

    def over(self) -> None:
        """Take note that the answer is complete."""

    def lost(self, why: str) -> None:
        """Take note that nothing more comes."""


class Connection(asyncio.Protocol):
    """One connection; answers one request at a time."""

    def __init__(self, freed: Callable[["Connection"], None]) -> None:
        self._freed = freed
        self._listener: Listener | None = None
        self._headers: dict[bytes, bytes] = {}
        self._ends_by_close = False
        """The answer has no length: it is complete when the connection is closed."""
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        """None once it is closed."""

    def ask(self, request: bytes, listener: Listener) -> None:
        """Send a request. The connection must be open and free."""
        if self.transport is None or self._listener is not None:
            raise RuntimeError("the connection is closed or in use")
        self._listener = listener
        self.transport.write(request)
        listener.sent()

    def drop(self) -> None:
        """Close at once; the listener hears nothing more."""
        self._listener = None
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.transport = None
        if self._ends_by_close and exc is None:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.over()
        self._lose("the connection was closed" if exc is None else f"the connection broke: {exc}")

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            transport, self.transport = self.transport, None
            if transport is not None:
                transport.abort()
            self._lose(f"the answer is not HTTP: {error}")

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `httptools`."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """See `httptools`."""
        status = self._parser.get_status_code()
        if status >= CONTINUE_BELOW:
            self._ends_by_close = not _LENGTHS & self._headers.keys()
            if self._listener is not None:
                self._listener.head(status, self._headers)
        self._headers = {}

    def on_body(self, data: bytes) -> None:
        """See `httptools`."""
        if self._listener is not None:
            self._listener.body(data)

    def on_message_complete(self) -> None:
        """See `httptools`."""
        if self._parser.get_status_code() < CONTINUE_BELOW:
            return
        keep_alive = self._parser.should_keep_alive()
        listener, self._listener = self._listener, None
        if not keep_alive and self.transport is not None:
            self.transport.close()
            self.transport = None
        if listener is not None:
            listener.over()
        if self.transport is not None:
            self._ends_by_close = False
            self._parser = httptools.HttpResponseParser(self)
            self._freed(self)

    def _lose(self, why: str) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.lost(why)


class Connections:
    """Free connections to one target; more are opened when there is none."""

    def __init__(self, aim: Target) -> None:
        self._target = aim
        self._free: list[Connection] = []
        self._tls = ssl.create_default_context() if aim.secure else None
        self.opened = 0
        """How many there have been."""

    async def one(self) -> Connection:
        """Return a free connection, the one used last; raises OSError where none can be opened."""
        while self._free:
            connection = self._free.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        self.opened += 1
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._free.append),
            self._target.host,
            self._target.port,
            ssl=self._tls,
        )
        return connection

    def close(self) -> None:
        """Close all that are free."""
        for connection in self._free:
            connection.drop()
        self._free.clear()
