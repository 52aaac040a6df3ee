"""Ends a task that speaks to Redis; apart from its client, which is loaded only where it is used."""

import asyncio
from typing import Final

CANCEL_AGAIN_S: Final = 0.05


async def end(task: "asyncio.Task[None]") -> None:
    """Cancel a task that speaks to Redis: a client that is connecting may swallow the first time."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_S)
