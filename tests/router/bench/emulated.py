"""An emulated engine on a free port, in a thread and a loop of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engines.emulator.profiles import STEADY
from engines.emulator.server import Served, serve
from engines.emulator.spec import EngineSpec, Vllm

PACE = 20.0
"""How much faster than life it is."""


@contextmanager
def emulated_engine() -> Iterator[str]:
    """Serve for as long as the block lasts; yields the URL."""
    ready, urls = threading.Event(), list[str]()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        spec = EngineSpec(STEADY, Vllm())
        async with serve([Served("one", spec, model="model")], pace=PACE) as servers:
            urls.append(servers[0].url)
            ready.set()
            await over.wait()

    def hold() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert ready.wait(10.0)
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10.0)
