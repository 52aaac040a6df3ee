"""A sleep that ends when the test says so."""

import asyncio


class StoppedClock:
    """Keeps whoever sleeps asleep until `wake`; one that was cancelled counts as asleep till then."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []
        """Every pause that was asked for."""
        self._sleepers: list[asyncio.Event] = []
        self._changed = asyncio.Condition()

    async def sleep(self, seconds: float) -> None:
        """Sleep until woken."""
        self.pauses_s.append(seconds)
        event = asyncio.Event()
        async with self._changed:
            self._sleepers.append(event)
            self._changed.notify_all()
        await event.wait()

    async def asleep(self, count: int) -> None:
        """Wait until so many sleep at once: until all that could be done was done."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._sleepers) == count)

    async def wake(self, count: int) -> None:
        """Wake all sleepers, and wait until so many sleep again."""
        sleepers, self._sleepers = self._sleepers, []
        for event in sleepers:
            event.set()
        await self.asleep(count)
