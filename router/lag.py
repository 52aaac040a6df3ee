"""How late the event loop runs what is due: the first sign that it does too much."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

INTERVAL_S: Final = 0.25


async def watch_loop(
    observe: Callable[[float], None],
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Tell, four times a second and until cancelled, how many seconds late a timer was."""
    while True:
        due_s = clock() + INTERVAL_S
        await sleep(INTERVAL_S)
        observe(max(0.0, clock() - due_s))
