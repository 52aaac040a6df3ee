"""An engine that accepts connections and never shakes hands: TLS is a part of connecting."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class MuteEngine:
    """Hangs up on the first that comes, a probe, and keeps all others waiting."""

    def __init__(self) -> None:
        self.url = ""
        self.probed = asyncio.Event()
        """The probe has come and gone."""
        self.reached = asyncio.Event()
        """Somebody else has begun to shake hands."""
        self.let_go = asyncio.Event()
        """And has given up."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its end."""
        is_probe = not self.probed.is_set()
        await reader.read(1)
        if not is_probe:
            self.reached.set()
            await reader.read()
        writer.close()
        await writer.wait_closed()
        (self.probed if is_probe else self.let_go).set()


@asynccontextmanager
async def mute_engine() -> AsyncGenerator[MuteEngine]:
    """Be mute on a free port."""
    engine = MuteEngine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield engine
    finally:
        server.close()
