"""Callers with a key: requests at a steady pace on kept connections, and what became of each."""

import asyncio
import time
from dataclasses import dataclass, field

BODY = (
    b'{"model":"mock","max_tokens":64,"messages":[{"role":"user","content":"how are you today"}]}'
)
TOKENS = 22
"""What the mock engine says that each answer took."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer."""

    sent_at: float
    ended_at: float
    status: int
    port: int


@dataclass(slots=True)
class Callers:
    """Everybody who holds one key."""

    key: str
    seen: list[Seen] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def ask(self, port: int, per_s: float, seconds: float, lines: int = 8) -> None:
        """Offer requests to one router on so many connections, taking turns."""
        queue: asyncio.Queue[float | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            for _ in range(lines):
                group.create_task(self._line(port, queue))
            due = time.monotonic()
            end = due + seconds
            while (due := due + 1 / per_s) < end:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                queue.put_nowait(due)
            for _ in range(lines):
                queue.put_nowait(None)

    async def _line(self, port: int, queue: asyncio.Queue[float | None]) -> None:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: router\r\n"
            f"authorization: Bearer {self.key}\r\ncontent-length: {len(BODY)}\r\n\r\n"
        ).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while await queue.get() is not None:
                sent_at = time.monotonic()
                writer.write(head + BODY)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                status = int(answer.split(b" ", 2)[1])
                self.seen.append(Seen(sent_at, time.monotonic(), status, port))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.failed.append(repr(error))
        finally:
            writer.close()

    def let_in(self) -> list[float]:
        """Return when each request was sent that was served."""
        return sorted(each.sent_at for each in self.seen if each.status == 200)

    def worst_minute(self) -> int:
        """Return how many requests were surely let in in the fullest minute.

        A request is let in between being sent and being answered: one that may have been let in
        before the minute, or after it, is not counted.
        """
        served = sorted((each.ended_at, each.sent_at) for each in self.seen if each.status == 200)
        began = [
            sum(ended < first + 60.0 and sent >= first for ended, sent in served)
            for first in self.let_in()
        ]
        return max(began, default=0)
