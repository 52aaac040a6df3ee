"""Callers: requests at random moments, spread over the routers that there are."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

TARGET_S = 0.1
"""An interactive caller's first token."""


@dataclass(slots=True)
class Tally:
    """What callers saw."""

    first_token_s: list[float] = field(default_factory=list)
    """Of interactive requests that were served."""
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def attained(self) -> float:
        """Share of interactive requests whose first token came in time."""
        good = sum(each <= TARGET_S for each in self.first_token_s)
        return good / max(1, self.statuses["interactive"])

    @property
    def failed(self) -> dict[str, int]:
        """Requests that were not served whole, by what became of them."""
        well = {"interactive", "bulk", "200"}
        return {name: count for name, count in self.statuses.items() if name not in well}


class Crowd:
    """Sends; a port that is taken out of `ports` gets nothing more."""

    def __init__(self, ports: Sequence[int], seed: int) -> None:
        self.ports = list(ports)
        self.tally = Tally()
        self.spared: set[int] = set()
        """Ports whose routers were killed: what was on its way there is no failure of another."""
        self._rng = Random(seed)
        self._idle: dict[int, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    async def run(self, seconds: float, interactive_per_s: float, bulk_per_s: float) -> None:
        """Offer both kinds for a while and wait until all are answered."""
        async with asyncio.TaskGroup() as group:
            for sla_class, per_s in (("interactive", interactive_per_s), ("bulk", bulk_per_s)):
                if per_s:
                    group.create_task(self._offer(group, sla_class, per_s, seconds))

    async def _offer(
        self, group: asyncio.TaskGroup, sla_class: str, per_s: float, seconds: float
    ) -> None:
        due = time.monotonic()
        end = due + seconds
        while (due := due + self._rng.expovariate(per_s)) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(self._ask(self._rng.choice(self.ports), sla_class))

    async def _ask(self, port: int, sla_class: str) -> None:
        self.tally.statuses[sla_class] += 1
        began = time.monotonic()
        try:
            reader, writer = await self._connection(port)
            writer.write(_request(port, sla_class, began))
            head = await reader.readuntil(b"\r\n\r\n")
            first_s = time.monotonic() - began
            status = head.split(b" ", 2)[1].decode()
            if status == "200":
                await reader.readuntil(b"\r\n0\r\n\r\n")
                self._idle.setdefault(port, []).append((reader, writer))
                if sla_class == "interactive":
                    self.tally.first_token_s.append(first_s)
            else:
                writer.close()
                status = f"{status} for {sla_class}"
            self.tally.statuses[status] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            name = "200" if port in self.spared else type(error).__name__
            self.tally.statuses[name] += 1

    async def _connection(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        idle = self._idle.get(port)
        return idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)

    def close(self) -> None:
        """Close every connection that is open still."""
        for idle in self._idle.values():
            for _, writer in idle:
                writer.close()


def _request(port: int, sla_class: str, began: float) -> bytes:
    mark = f"bulk@{began:.6f}" if sla_class == "bulk" else "interactive"
    messages = [{"role": "user", "content": "hello"}]
    body = json.dumps({"model": "m", "stream": True, "user": mark, "messages": messages})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"x-sla-class: {sla_class}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()
