"""Engines that only take time, in the loop of the benchmark, and count what is at each at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":" t"},"finish_reason":null}]}\n\n'
)
FIRST_S = 0.015
"""To the first token of an engine that does nothing else."""
CROWD_S = 0.003
"""More for each request beside."""
LAST_S = 0.15
"""From the first token to the last."""
MARK = b"bulk@"


@dataclass(slots=True)
class StandIn:
    """One engine, and what was there."""

    port: int = 0
    running: int = 0
    most: int = 0
    bulk: int = 0
    most_bulk: int = 0
    came: list[tuple[float, float]] = field(default_factory=list)
    """When each bulk request came here, and when it had been offered."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it ends."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                    continue
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await self._answer(await reader.readexactly(length), writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the caller hung up, or the benchmark is over
        finally:
            writer.close()

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        marked = body.partition(MARK)[2]
        self.running += 1
        self.most = max(self.most, self.running)
        if marked:
            self.came.append((time.monotonic(), float(marked.partition(b'"')[0])))
            self.bulk += 1
            self.most_bulk = max(self.most_bulk, self.bulk)
        try:
            await asyncio.sleep(FIRST_S + CROWD_S * self.running)
            writer.write(HEAD + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
            await asyncio.sleep(LAST_S)
        finally:
            # Before the last byte: whoever sends the next only then is counted as the next.
            self.running -= 1
            self.bulk -= bool(marked)
        tail = EVENT + b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(tail), tail))


@asynccontextmanager
async def stand_ins(count: int) -> AsyncIterator[list[StandIn]]:
    """Let engines listen on free ports."""
    made = [StandIn() for _ in range(count)]
    async with AsyncExitStack() as stack:
        for each in made:
            server = await asyncio.start_server(each.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            each.port = server.sockets[0].getsockname()[1]
        yield made


def worst_inversion_s(came: list[tuple[float, float]]) -> float:
    """Return by how much a bulk request at most passed one that had been offered before it."""
    worst_s, first_later = 0.0, float("inf")
    for _, offered in sorted(came, reverse=True):
        worst_s = max(worst_s, offered - first_later)
        first_later = min(first_later, offered)
    return worst_s
