"""An engine on a real socket that says exactly what a test tells it to."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

Script = Callable[["Call"], Awaitable[None]]


class Call:
    """One request that reached the engine."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.body = body
        self._writer = writer

    async def say(self, data: bytes) -> None:
        """Write, and wait until it has left."""
        self._writer.write(data)
        await self._writer.drain()

    async def say_json(self, body: bytes, status: bytes = b"200 OK") -> None:
        """Answer whole, and keep the connection."""
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        await self.say(head % (status, len(body)) + body)

    async def begin_stream(self) -> None:
        """Write the head of an event stream."""
        await self.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def say_chunk(self, data: bytes) -> None:
        """Write one chunk."""
        await self.say(b"%x\r\n%b\r\n" % (len(data), data))

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self._writer.close()

    def reset(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


class ScriptedEngine:
    """Runs one script a request, the last one again and again."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.port = 0
        self.calls: list[Call] = []
        self.connections = 0
        self.hang_ups: asyncio.Queue[Call | None] = asyncio.Queue()
        """Each connection's end, with the call that was being answered then."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its end."""
        self.connections += 1
        call: Call | None = None
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                lengths = [line for line in lines if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                call = Call(head, body, writer)
                self.calls.append(call)
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                await script(call)
                call = None
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.hang_ups.put_nowait(call)
            writer.close()


@asynccontextmanager
async def scripted_engine(*scripts: Script) -> AsyncGenerator[ScriptedEngine]:
    """Serve scripts on a free port."""
    engine = ScriptedEngine(*scripts)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()


async def silence(call: Call) -> None:
    """Read the request and say nothing, for ever."""
    await asyncio.Event().wait()
