"""How soon a hang-up reaches the engine where nothing else goes on."""

import asyncio
import time

from tests.e2e.caller import caller, chat, request
from tests.e2e.running import pool, serving
from tests.fakes.scripted import Call, scripted_engine


async def _begin_for_ever(call: Call) -> None:
    await call.begin_stream()
    while True:
        await call.say_chunk(b"data: {}\n\n")
        await asyncio.sleep(0.01)


async def hang_ups(count: int) -> list[float]:
    """Hang up in the middle of so many streams, one by one; return how long each was felt after, s."""
    took_s = []
    async with (
        scripted_engine(_begin_for_ever) as engine,
        serving(pool("p", engine), within_s=None) as router,
    ):
        for _ in range(count):
            async with caller(router.port) as one:
                await one.send(request(chat(stream=True)))
                await one.begin()
                await one.read_until(b"data: {}")
                one.hang_up()
                await engine.hang_ups.get()
                took_s.append(time.monotonic() - one.left_at)
    return took_s
