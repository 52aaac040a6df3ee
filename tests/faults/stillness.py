"""Notes for how long this process did not run: what it measures in such a time is not the router's."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

LOOK_S = 0.05


@dataclass(slots=True)
class Stillness:
    """The longest time that the event loop was late."""

    longest_s: float = 0.0

    async def watch(self) -> None:
        """Look, for ever."""
        now = asyncio.get_running_loop().time
        while True:
            due = now() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self.longest_s = max(self.longest_s, now() - due)


@asynccontextmanager
async def stillness() -> AsyncGenerator[Stillness]:
    """Watch for as long as the block lasts."""
    still = Stillness()
    task = asyncio.get_running_loop().create_task(still.watch())
    try:
        yield still
    finally:
        task.cancel()
