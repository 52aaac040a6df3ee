"""An engine on a real socket that says exactly what a test tells it to."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Script = Callable[["Call"], Awaitable[None]]

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


class Call:
    """One request that reached the engine."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self._writer = writer

    @property
    def path(self) -> str:
        """Where it was sent."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """As they came, names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        pairs = [line.split(": ", 1) for line in lines]
        return [(name.lower(), value) for name, value in pairs]

    def header(self, name: str) -> str | None:
        """Return the one value of a header; None where it is missing."""
        values = [value for each, value in self.headers if each == name]
        assert len(values) <= 1, f"{name} came more than once: {values}"
        return values[0] if values else None

    async def say(self, data: bytes) -> None:
        """Write, and wait until it has left."""
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the caller hung up")
        self._writer.write(data)
        await self._writer.drain()

    async def say_json(self, body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> None:
        """Answer whole, and keep the connection; `headers` are whole lines."""
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
        await self.say(head % (status, headers, len(body)) + body)

    async def begin_stream(self) -> None:
        """Write the head of an event stream."""
        await self.say(STREAM_HEAD)

    async def say_chunk(self, data: bytes) -> None:
        """Write one chunk."""
        await self.say(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        """Write what ends a stream of OpenAI's."""
        await self.say_chunk(DONE)
        await self.say(LAST_CHUNK)

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self._writer.close()

    def reset(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


class ScriptedEngine:
    """Runs one script a request, the last one again and again; a GET is a probe, and answered."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._open: set[asyncio.StreamWriter] = set()
        self._asked: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.scheme = "http"
        self.calls: list[Call] = []
        self.arrivals: asyncio.Queue[Call] = asyncio.Queue()
        """The same requests, to wait for."""
        self.connections = 0
        """Those that a request came on."""
        self.hang_ups: asyncio.Queue[Call | None] = asyncio.Queue()
        """The end of each of these, with the call that was being answered then."""
        self.probe_status = b"200 OK"
        self.probed: dict[str, bytes] = {}
        """Answers to probes, by path; an empty object where there is none."""

    @property
    def open_connections(self) -> int:
        """Those of them that are open still."""
        return len(self._asked)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its end."""
        self._open.add(writer)
        call: Call | None = None
        try:
            while True:
                call = None
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                lengths = [line for line in lines if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                call = Call(head, body, writer)
                if head.startswith(b"GET "):
                    await call.say_json(self.probed.get(call.path, b"{}"), self.probe_status)
                    continue
                if writer not in self._asked:
                    self._asked.add(writer)
                    self.connections += 1
                self.calls.append(call)
                self.arrivals.put_nowait(call)
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                await _run(script, call, reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if writer in self._asked:
                self._asked.discard(writer)
                self.hang_ups.put_nowait(call)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._open.discard(writer)

    async def close(self) -> None:
        """Close every connection, and wait until that is done."""
        for writer in self._open:
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0)


async def _run(script: Script, call: Call, reader: asyncio.StreamReader) -> None:
    """Run a script to its end; raises ConnectionError as soon as the caller hangs up."""

    async def until_over(group: asyncio.TaskGroup) -> None:
        await script(call)
        listening.cancel()

    async def listen() -> None:
        sent = await reader.read(1)
        assert not sent, "a request was sent before the one before it was answered"
        raise ConnectionResetError("the caller hung up")

    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            group.create_task(until_over(group))
    except* ConnectionError as group_of_one:
        error = group_of_one.exceptions[0]
    else:
        return
    raise error


@asynccontextmanager
async def scripted_engine(
    *scripts: Script, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[ScriptedEngine]:
    """Serve scripts on a free port."""
    engine = ScriptedEngine(*scripts)
    engine.scheme = "https" if tls else "http"
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0, ssl=tls)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
        await engine.close()


async def silence(call: Call) -> None:
    """Read the request and say nothing, for ever."""
    await asyncio.Event().wait()


def saying(*parts: bytes, then: Callable[[Call], None] | None = None) -> Script:
    """Return a script that writes parts as they are; `then` may close or reset."""

    async def script(call: Call) -> None:
        for part in parts:
            await call.say(part)
        if then is not None:
            then(call)

    return script


def answering(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> Script:
    """Return a script that answers whole."""

    async def script(call: Call) -> None:
        await call.say_json(body, status, headers)

    return script


def streaming(*events: bytes) -> Script:
    """Return a script that sends events, one a chunk, and ends as OpenAI's streams do."""

    async def script(call: Call) -> None:
        await call.begin_stream()
        for event in events:
            await call.say_chunk(b"data: %b\n\n" % event)
        await call.end_stream()

    return script
