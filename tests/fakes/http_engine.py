"""An engine's HTTP face with scripted answers, on a real socket of its own."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What is sent for one path."""

    body: bytes = b""
    status: int = 200
    is_sent: bool = True
    """False: the connection stays open and silent."""
    raw: bytes | None = None
    """Sent as it is in place of an HTTP answer, and then the connection is closed."""


SILENCE = Answer(is_sent=False)
GARBAGE = Answer(raw=b"\x00\x01 nothing of HTTP\r\n\r\n")
HANG_UP = Answer(raw=b"")


class HttpEngine:
    """Answers GET by path, 404 where nothing is scripted; `answers` may be changed at any time."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.asked = Counter[str]()
        """Requests by path."""
        self.headers: dict[str, str] = {}
        """Of the last request, names in lower case."""
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["HttpEngine"]:
        """Listen on a free port; at the end every connection is closed."""
        connections = set[asyncio.StreamWriter]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(writer)
            try:
                while await self._exchange(reader, writer):
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            for writer in connections:
                writer.close()
            await server.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tells whether another may come on the same connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        path = head[0].split()[1]
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        self.headers = {name.lower(): value for name, value in pairs}
        self.asked[path] += 1
        answer = self.answers.get(path, Answer(b"no such path", 404))
        if answer.raw is not None:
            writer.write(answer.raw)
            return False
        if answer.is_sent:
            length = len(answer.body)
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (answer.status, length))
            writer.write(answer.body)
        await writer.drain()
        return True
