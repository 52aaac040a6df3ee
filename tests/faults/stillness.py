"""Notes when this process did not run: what it measures in such a time is not the router's."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

LOOK_S = 0.05
LEAST_S = 0.2
"""Shorter spells are not remembered."""


@dataclass(slots=True)
class Stillness:
    """When the event loop was late, and by how much."""

    longest_s: float = 0.0
    _spells: list[tuple[float, float]] = field(default_factory=list)

    def spells(self, least_s: float) -> list[tuple[float, float]]:
        """Return the beginnings and ends, on the loop's clock, of those that lasted so long."""
        return [(began, ended) for began, ended in self._spells if ended - began >= least_s]

    async def watch(self) -> None:
        """Look, for ever."""
        now = asyncio.get_running_loop().time
        while True:
            due = now() + LOOK_S
            await asyncio.sleep(LOOK_S)
            late_s = now() - due
            self.longest_s = max(self.longest_s, late_s)
            if late_s >= LEAST_S:
                self._spells.append((due, due + late_s))


@asynccontextmanager
async def stillness() -> AsyncGenerator[Stillness]:
    """Watch for as long as the block lasts."""
    still = Stillness()
    task = asyncio.get_running_loop().create_task(still.watch())
    try:
        yield still
    finally:
        task.cancel()
