"""A gate before one engine: passes bytes through, counts every request, and breaks on command.

The router knows the engine by its gate's address. What an engine can do wrong on the wire is done
here, so that it befalls stand-ins and real engines alike; what it can do wrong inside is the
stand-in's own business.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httptools

READ_BYTES = 1 << 16
FILLERS = 4
"""Connections that fill the queue of a listener that nobody accepts from."""


@dataclass(slots=True, eq=False)
class Passage:
    """One request at the engine."""

    id: str
    stream: bool
    writer: asyncio.StreamWriter
    """Towards the router."""
    body_bytes: int = 0
    """Of the answer, passed on so far."""
    is_broken: bool = False
    """Nothing more may be passed on."""


Before = Callable[[Passage], Awaitable[bool]]
"""What happens to a request that comes; False: the engine gets it as ever."""
During = Callable[[Passage, bytes], Awaitable[bool]]
"""What happens to a part of an answer; False: it is passed on."""


async def never_before(_: Passage) -> bool:
    """Let requests through."""
    return False


async def never_during(_: Passage, __: bytes) -> bool:
    """Let answers through."""
    return False


@dataclass(slots=True)
class Breach:
    """How a gate misbehaves; the default is not at all."""

    before: Before = never_before
    during: During = never_during
    health_silent: bool = False
    """Questions after health are not answered."""


INTACT = Breach()


@dataclass(slots=True)
class Gate:
    """A relay on a port of its own."""

    name: str
    engine_port: int
    port: int = 0
    breach: Breach = field(default_factory=Breach)
    open: dict[str, Passage] = field(default_factory=dict)
    """Requests that are at the engine, by id."""
    arrived: Counter[str] = field(default_factory=Counter)
    """How often each request came."""
    answered: Counter[str] = field(default_factory=Counter)
    """How often each one was answered as a whole, with success."""
    arrivals: list[tuple[float, str]] = field(default_factory=list)
    """When each came, on the loop's clock, with its class."""
    _listener: socket.socket | None = None
    _fillers: list[socket.socket] = field(default_factory=list)
    _accepting: asyncio.Task[None] | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self) -> None:
        """Begin to accept, at the same port as before."""
        if self._accepting is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)  # noqa: FBT003 # the socket's own signature
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = self._spawn(self._accept(listener))

    def refuse(self) -> None:
        """Listen no more, and reset every connection: the process is gone."""
        self._stop_accepting()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in list(self._tasks):
            task.cancel()

    async def swallow(self) -> None:
        """Accept nothing, refuse nothing: connections beyond a few never come about."""
        self._stop_accepting()
        if self._listener is None:
            return
        self._listener.listen(0)
        loop = asyncio.get_running_loop()
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)  # noqa: FBT003 # the socket's own signature
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(0.05):
                    await loop.sock_connect(filler, ("127.0.0.1", self.port))
            self._fillers.append(filler)

    async def mend(self) -> None:
        """Be as at the start."""
        self.breach = INTACT
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        if self._accepting is None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            await self.listen()

    async def close(self) -> None:
        """End for good."""
        self.refuse()
        for filler in self._fillers:
            filler.close()
        while self._tasks:
            await asyncio.sleep(0)

    def _stop_accepting(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader, writer = await asyncio.open_connection(sock=connection, limit=READ_BYTES)
            self._spawn(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length_of(head))
                await self._pass(head, body, reader, writer)
        except (asyncio.IncompleteReadError, OSError, httptools.HttpParserError):
            pass
        finally:
            writer.transport.abort()

    async def _pass(
        self, head: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        is_probe = head.startswith(b"GET ")
        if is_probe and self.breach.health_silent and b"health" in head.split(b" ")[1]:
            await asyncio.Event().wait()
        id_ = value_of(head, b"x-request-id")
        passage = Passage(id_, b'"stream":true' in body.replace(b" ", b""), writer)
        if not is_probe:
            self.arrived[id_] += 1
            now = asyncio.get_running_loop().time()
            self.arrivals.append((now, value_of(head, b"x-faults-class")))
            self.open[id_] = passage
        try:
            if not is_probe and await self.breach.before(passage):
                return
            await self._relay(passage, head + body, reader, is_probe=is_probe)
        finally:
            if self.open.get(id_) is passage:
                del self.open[id_]

    async def _relay(
        self, passage: Passage, asked: bytes, reader: asyncio.StreamReader, *, is_probe: bool
    ) -> None:
        engine, to_engine = await asyncio.open_connection("127.0.0.1", self.engine_port)
        reading = asyncio.get_running_loop().create_task(_hung_up(reader, to_engine))
        try:
            to_engine.write(asked)
            done = _End()
            parser = httptools.HttpResponseParser(done)
            while not done.is_over:
                data = await engine.read(READ_BYTES)
                if not data:
                    passage.writer.close()
                    raise ConnectionResetError("the engine hung up")
                parser.feed_data(data)
                if is_probe or not await self.breach.during(passage, data):
                    if passage.is_broken:
                        continue
                    passage.writer.write(data)
                    passage.body_bytes += len(data)
                    await passage.writer.drain()
            if not is_probe and not passage.is_broken and parser.get_status_code() == 200:
                self.answered[passage.id] += not done.is_faulty
        finally:
            reading.cancel()
            to_engine.transport.abort()


class _End:
    """Hears from the parser when an answer is complete."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_faulty = False

    def on_body(self, body: bytes) -> None:
        """Look for a failure told inside a good answer."""
        if b'"error"' in body:
            self.is_faulty = True

    def on_message_complete(self) -> None:
        """Take note."""
        self.is_over = True


async def _hung_up(reader: asyncio.StreamReader, to_engine: asyncio.StreamWriter) -> None:
    """Hang up on the engine as soon as the router has hung up."""
    while not reader.at_eof() and reader.exception() is None:  # no event tells of it
        await asyncio.sleep(0.02)
    to_engine.transport.abort()


def value_of(head: bytes, name: bytes) -> str:
    """Return a header's value; empty where it is missing."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip().decode("latin-1")
    return ""


def _length_of(head: bytes) -> int:
    return int(value_of(head, b"content-length") or 0)


@asynccontextmanager
async def gates(ports: dict[str, int]) -> AsyncGenerator[dict[str, Gate]]:
    """Put a gate before each engine, by name, for as long as the block lasts."""
    made = {name: Gate(name, port) for name, port in ports.items()}
    for gate in made.values():
        await gate.listen()
    try:
        yield made
    finally:
        for gate in made.values():
            await gate.close()
