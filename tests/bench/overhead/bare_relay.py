"""The yardstick: a relay on the router's own stack that decides nothing.

A uvicorn protocol class on one leg, kept `asyncio.Protocol` connections on the other, httptools
as the grammar of both, uvloop underneath. Every request goes to the one engine there is; bytes
are relayed as they come, with back-pressure both ways. What the router costs above this is what
its reading, deciding and remembering cost.

    python -m tests.bench.overhead.bare_relay --port 8080 --engine-port 8000
"""

import argparse
import asyncio
import ctypes
from collections import deque
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.server import ServerState

HOP_BY_HOP = frozenset((b"connection", b"host", b"keep-alive", b"te", b"upgrade", b"expect"))
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Engine:
    """The one engine: its address and the connections to it that are kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.idle: list[Upstream] = []
        self.connecting: set[asyncio.Task[None]] = set()


class Upstream(asyncio.Protocol):
    """A connection to the engine; serves one caller at a time."""

    def __init__(self, engine: Engine, caller: "Caller") -> None:
        self.engine = engine
        self.caller: Caller | None = caller
        self.parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, caller: "Caller", data: bytes) -> None:
        """Begin a request: its head and what has come of its body."""
        self.caller = caller
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        caller = self.caller
        if caller is None:
            self.transport.abort()
            return
        caller.transport.write(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            caller.transport.abort()
            self.transport.abort()

    def on_message_complete(self) -> None:
        caller = self.caller
        self.caller = None
        if caller is not None:
            if self.parser.should_keep_alive() and caller.asked_whole():
                self.engine.idle.append(self)
            else:
                self.transport.close()
            caller.answered()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.engine.idle:
            self.engine.idle.remove(self)
        if self.caller is not None:
            self.caller.transport.close()

    def pause_writing(self) -> None:
        if self.caller is not None:
            self.caller.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.caller is not None:
            self.caller.transport.resume_reading()


class Caller(asyncio.Protocol):
    """A caller's connection, as uvicorn builds it."""

    engine: Engine

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.connections = cast("set[Caller]", server_state.connections)
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport
        self.upstream: Upstream | None = None
        self.out: list[bytes] = []
        """What has come of the request that is served and is not written yet."""
        self.coming = self.out
        """What has come of the request that is read: the same one, unless callers pipeline."""
        self.whole = False
        """The request that is read has come to its end."""
        self.full = False
        """The caller reads more slowly than the engine writes."""
        self.busy = False
        """From a request's head until its answer is whole."""
        self.later: deque[list[bytes]] = deque()
        """Requests that came before the answer to the one before them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        if self.upstream is not None:
            self.upstream.caller = None
            self.upstream.transport.abort()

    def shutdown(self) -> None:
        """Close, as uvicorn asks of each connection when it stops."""
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(BAD_REQUEST)
            self.transport.close()
            return
        self.flush()

    def flush(self) -> None:
        """Write what has come of the request, in one piece."""
        out = self.out
        if not out:
            return
        upstream = self.upstream
        if upstream is not None:
            upstream.transport.write(out[0] if len(out) == 1 else b"".join(out))
        elif self.engine.idle:
            self.upstream = self.engine.idle.pop()
            self.upstream.send(self, b"".join(out))
        else:
            self.connect()
            return
        out.clear()

    def connect(self) -> None:
        """Open one more connection to the engine, and flush when it is there."""
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self.connected())
        self.engine.connecting.add(task)
        task.add_done_callback(self.engine.connecting.discard)

    async def connected(self) -> None:
        """Connect, then send what has come meanwhile."""
        try:
            _, upstream = await asyncio.get_running_loop().create_connection(
                lambda: Upstream(self.engine, self), "127.0.0.1", self.engine.port
            )
        except OSError:
            self.transport.write(BAD_GATEWAY)
            self.transport.close()
            return
        if self.transport.is_closing():
            upstream.transport.abort()
            return
        self.upstream = upstream
        upstream.send(self, b"".join(self.out))
        self.out.clear()
        if not self.later:
            self.transport.resume_reading()

    def on_message_begin(self) -> None:
        self.whole = False
        if self.busy:
            self.coming = []
            self.later.append(self.coming)
            self.transport.pause_reading()
        else:
            self.busy = True
            self.coming = self.out
        self.url = b""
        self.head: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in HOP_BY_HOP:
            self.head += (name, b": ", value, b"\r\n")

    def on_headers_complete(self) -> None:
        method = self.parser.get_method()
        start = b"%b %b HTTP/1.1\r\nhost: engine\r\n" % (method, self.url)
        self.coming += (start, *self.head, b"\r\n")

    def on_body(self, body: bytes) -> None:
        self.coming.append(body)

    def on_message_complete(self) -> None:
        self.whole = True

    def asked_whole(self) -> bool:
        """Whether the request that is served has been sent to its end."""
        return self.whole or self.coming is not self.out

    def answered(self) -> None:
        """Be ready for the next request; it may have come already."""
        if self.full and self.upstream is not None:
            self.upstream.transport.resume_reading()
        self.upstream = None
        if not self.asked_whole():
            self.transport.close()
        elif self.later:
            self.out = self.later.popleft()
            if not self.later:
                self.transport.resume_reading()
            self.flush()
        else:
            self.busy = False

    def pause_writing(self) -> None:
        self.full = True
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        if self.upstream is not None:
            self.upstream.transport.resume_reading()


async def no_app(scope: object, receive: object, send: object) -> None:
    """Stand where uvicorn wants an application: no request gets this far."""


M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST_KEPT_BYTES = 32 << 20
MOST_FREE_BYTES = 64 << 20


def keep_memory() -> None:
    """Let the C library keep what large bodies freed, where it is one that can be asked.

    By default glibc hands large buffers back to the kernel at once and pays for every page of the
    next one. Source: mallopt(3).
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, MOST_FREE_BYTES)


def main() -> None:
    """Relay until a signal says stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine-port", type=int, required=True)
    parser.add_argument("--keep-memory", action="store_true", help="do not give freed pages back")
    arguments = parser.parse_args()
    if arguments.keep_memory:
        keep_memory()
    relay = type("Relay", (Caller,), {"engine": Engine(arguments.engine_port)})
    uvicorn.run(
        no_app,
        host="127.0.0.1",
        port=arguments.port,
        http=relay,
        loop="uvloop",
        lifespan="off",
        log_level="warning",
    )


if __name__ == "__main__":
    main()
