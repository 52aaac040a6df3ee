"""Sends bytes as they are, and tells what came back apart into answers."""

import asyncio
from dataclasses import dataclass

PATIENCE_S = 40.0
"""How long a connection may last; only a test that fails gets there."""

NEVER_ENDED = b"(the connection was not ended)"


class Unreadable(AssertionError):
    """What came back is not a row of whole answers."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One final answer."""

    status: int
    head: bytes
    body: bytes


async def call(data: bytes, port: int) -> bytes:
    """Send data on a connection of its own; return all that comes until the other side ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    parts = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(data)
            while part := await reader.read(1 << 16):
                parts.append(part)
    except ConnectionError:
        pass  # what was sent behind a refusal was not read any more
    except TimeoutError:
        parts.append(NEVER_ENDED)
    finally:
        writer.transport.abort()
    return b"".join(parts)


def answers(data: bytes, *, heads_only: bool = False) -> list[Heard]:
    """Return the final answers in what came back; `heads_only` where bodies were not asked for."""
    found: list[Heard] = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        version, _, status = lines[0].partition(b" ")
        if not end or version not in {b"HTTP/1.1", b"HTTP/1.0"} or not status[:3].isdigit():
            raise Unreadable(f"no head of an answer: {data[:300]!r}")
        if any(
            line[:1] in b" \t" or b":" not in line or b"\n" in line or b"\r" in line
            for line in lines[1:]
        ):
            raise Unreadable(f"a header that is none: {head!r}")
        code = int(status[:3])
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        body, data = _body(code, headers, rest, heads_only=heads_only)
        if code >= 200:
            found.append(Heard(code, head, body))
    return found


def _body(
    status: int, headers: dict[bytes, bytes], rest: bytes, *, heads_only: bool
) -> tuple[bytes, bytes]:
    """Return a body, and what follows it."""
    if heads_only or status < 200 or status in {204, 304}:
        return b"", rest
    if headers.get(b"transfer-encoding") == b"chunked":
        return _chunks(rest)
    if b"content-length" not in headers:
        return rest, b""
    length = int(headers[b"content-length"])
    if len(rest) < length:
        raise Unreadable(f"{len(rest)} of {length} bytes of a body: {rest!r}")
    return rest[:length], rest[length:]


def _chunks(rest: bytes) -> tuple[bytes, bytes]:
    parts: list[bytes] = []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if rest[length : length + 2] != b"\r\n":
            raise Unreadable(f"a chunk without its end: {rest!r}")
        if not length:
            return b"".join(parts), rest[2:]
        parts.append(rest[:length])
        rest = rest[length + 2 :]
