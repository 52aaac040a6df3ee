"""One connection to a Redis, used for one command after the other.

The library's own client takes a connection out of a pool for each command, looks whether it is well
and times every step: several times what a command costs that comes twenty times a second. Here a
connection that turns out to be broken costs the command at hand, and the next one makes another.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection


class Line:
    """A client of one server, or of whichever the sentinels name; nothing is connected yet."""

    def __init__(self, client: Redis, limit_s: float) -> None:
        """`limit_s`: what a command may take, making a connection included."""
        self._client = client
        self._limit_s = limit_s
        self._connection: AbstractConnection | None = None
        self._free = asyncio.Lock()

    async def execute_command(self, *words: Any) -> Any:
        """Send one command and return its answer. Raises RedisError, OSError."""
        async with self._free, asyncio.timeout(self._limit_s):
            if self._connection is None:
                pool = self._client.connection_pool
                self._connection = await pool.get_connection()  # type: ignore[no-untyped-call] # the library's own gap
            if not self._connection.is_connected:
                # Left to the next line, it would go where it was before: sentinels would not be asked.
                await self._connection.connect()
            # Both let go of the socket where they fail.
            await self._connection.send_packed_command([packed(words)], check_health=False)
            return await self._connection.read_response()

    async def aclose(self) -> None:
        """Close the connection."""
        self._connection = None
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


def packed(words: Sequence[object]) -> bytes:
    """Return a command as bytes. Source: the protocol's specification, RESP 2, bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        said = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(said), said))
    return b"".join(parts)
