"""Strangers: wrong keys at a steady pace on many connections, no two of them the same.

python -m tests.bench.access.flood PORT SECONDS; writes what was sent, what was refused, and how
long it took, s.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop

from router.access.secret import new_id, new_text
from tests.bench.access.strangers import LINES, PER_S

TICK_S = 0.001
KEYS = 4000
REFUSED = b"HTTP/1.1 401 "
BODY = b'{"model":"mock","messages":[{"role":"user","content":"let me in"}]}'


class Line(asyncio.Protocol):
    """One connection; counts answers by how they begin."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Count."""
        self.answers += data.count(REFUSED)


def _request() -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: router\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
        % (new_text(new_id()).encode(), len(BODY), BODY)
    )


async def flood(port: int, seconds: float) -> str:
    """Send; returns the counts."""
    loop = asyncio.get_running_loop()
    lines = [(await loop.create_connection(Line, "127.0.0.1", port))[1] for _ in range(LINES)]
    requests = [_request() for _ in range(KEYS)]
    began = time.monotonic()
    sent = refused = 0
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * PER_S:
            number = sent % LINES
            if lines[number].transport.is_closing():
                # Hung up on for sending far ahead of the answers: strangers come again.
                refused += lines[number].answers
                lines[number] = (await loop.create_connection(Line, "127.0.0.1", port))[1]
            lines[number].transport.write(requests[sent % KEYS])
            sent += 1
        await asyncio.sleep(TICK_S)
    took_s = time.monotonic() - began
    await asyncio.sleep(0.2)
    answers = refused + sum(each.answers for each in lines)
    for each in lines:
        each.transport.close()
    return f"{sent} {answers} {took_s}"


if __name__ == "__main__":
    print(uvloop.run(flood(int(sys.argv[1]), float(sys.argv[2]))))  # noqa: T201
