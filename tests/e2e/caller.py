"""A caller that writes what it likes and reads strictly: h11 is the judge of what comes back."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import h11

from engines import sse

CHAT = "/v1/chat/completions"
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the one value of a header; None where it is missing."""
        values = [value for each, value in self.headers if each == name]
        assert len(values) <= 1, f"{name} came more than once: {values}"
        return values[0] if values else None

    @property
    def document(self) -> dict[str, object]:
        """The body, parsed."""
        parsed: dict[str, object] = json.loads(self.body)
        return parsed

    @property
    def error(self) -> dict[str, object]:
        """The error object in the body."""
        error = self.document["error"]
        assert isinstance(error, dict)
        return error

    @property
    def events(self) -> list[bytes]:
        """The data of a stream's events; the stream must end at the end of one."""
        frames, rest = sse.split(self.body)
        assert rest == b"", f"the stream ends in the middle of an event: {rest!r}"
        return [data for data in map(sse.data_of, frames) if data is not None]


def chat(*, stream: bool = False, **more: object) -> dict[str, object]:
    """Return the body of a request."""
    messages = [{"role": "user", "content": "hello"}]
    return {"model": "m", "messages": messages, "stream": stream, **more}


def request(
    document: Mapping[str, object] | bytes,
    headers: Mapping[str, str] | None = None,
    *,
    path: str = CHAT,
    version: str = "1.1",
) -> bytes:
    """Return the bytes of a POST."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [f"POST {path} HTTP/{version}", "host: router", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join((*lines, "", "")).encode() + body


class Caller:
    """One connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._judge = h11.Connection(h11.CLIENT)
        self.left_at = 0.0
        """When it hung up."""

    async def send(self, *requests: bytes) -> None:
        """Write requests, as they are."""
        self._writer.write(b"".join(requests))
        await self._writer.drain()

    async def ask(
        self, document: Mapping[str, object] | bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one chat request and read its answer."""
        await self.send(request(document, headers))
        return await self.answer()

    async def begin(self) -> h11.Response:
        """Read the head of the next answer."""
        self._turn()
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        assert isinstance(event, h11.Response), event
        return event

    async def more(self) -> bytes:
        """Read a part of the body; empty at its end."""
        event = await self._next()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        return b""

    async def read_until(self, text: bytes) -> bytes:
        """Read the body as far as `text`, and what came with it."""
        seen = b""
        while text not in seen:
            part = await self.more()
            assert part, f"the body ended without {text!r}: {seen!r}"
            seen += part
        return seen

    async def rest(self) -> bytes:
        """Read the body to its end."""
        parts = []
        while part := await self.more():
            parts.append(part)
        return b"".join(parts)

    async def answer(self) -> Answer:
        """Read one whole answer."""
        head = await self.begin()
        headers = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
        return Answer(head.status_code, headers, await self.rest())

    async def leave_to_send(self) -> None:
        """Read the interim answer that lets a body be sent."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await self._reader.readexactly(len(interim)) == interim

    async def ended(self) -> bytes:
        """Return what comes before the router closes, which it must."""
        return self._judge.trailing_data[0] + await self._reader.read()

    async def raw(self) -> bytes:
        """Read everything until the router closes, unjudged."""
        return await self._reader.read()

    def hang_up(self, *, reset: bool = True) -> None:
        """Leave at once."""
        self.left_at = time.monotonic()
        if reset:
            self._writer.transport.abort()
        else:
            self._writer.close()

    def stop_reading(self) -> None:
        """Let the router's bytes pile up."""
        cast("asyncio.Transport", self._writer.transport).pause_reading()

    def read_on(self) -> None:
        """Take what piled up."""
        cast("asyncio.Transport", self._writer.transport).resume_reading()

    def _turn(self) -> None:
        """Tell the judge that a request was sent."""
        if self._judge.our_state is h11.DONE:
            self._judge.start_next_cycle()
        self._judge.send(h11.Request(method="POST", target="/", headers=[("host", "router")]))
        self._judge.send(h11.EndOfMessage())

    async def _next(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._judge.next_event()) is h11.NEED_DATA:
            self._judge.receive_data(await self._reader.read(READ_BYTES))
        assert not isinstance(event, type) or event is h11.PAUSED
        return event


@asynccontextmanager
async def caller(port: int, *, window_bytes: int | None = None) -> AsyncGenerator[Caller]:
    """Connect to the router, and hang up in the end.

    `window_bytes`: what the kernel may hold that was not read; None leaves it to grow.
    """
    raw = socket.socket()
    raw.setblocking(False)  # noqa: FBT003 # the socket's own signature
    if window_bytes is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=READ_BYTES)
    one = Caller(reader, writer)
    try:
        yield one
    finally:
        writer.transport.abort()


async def ask(
    port: int,
    document: Mapping[str, object] | bytes,
    headers: Mapping[str, str] | None = None,
    *,
    path: str = CHAT,
) -> Answer:
    """Send one request on a connection of its own and read its answer."""
    async with caller(port) as one:
        await one.send(request(document, headers, path=path))
        return await one.answer()
