"""A stand-in that keeps thousands of streams going, each event with the time at which it was sent.

`python -m tests.faults.ticker --port 9001`; what it sends to whom is in the prompt: `large` events for
those who will not read them.
"""

import argparse
import asyncio
import resource
import signal
import time
from typing import cast

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVERY_S = 4.0
"""Between two events of one stream."""
ROUNDS = 200
"""Parts that the streams are served in, one after another."""
LARGE = "x" * 12_000


class Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, streams: list["Stream"]) -> None:
        self._streams = streams
        self._transport: asyncio.Transport | None = None
        self._seen = b""
        self.pad = ""
        self.is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._transport = None
        if self in self._streams:
            self._streams.remove(self)

    def pause_writing(self) -> None:
        """Wait: nobody reads."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self.is_paused = False

    def data_received(self, data: bytes) -> None:
        """Begin a stream, or answer a probe."""
        self._seen += data
        if self._transport is None or b"\r\n\r\n" not in self._seen:
            return
        if self._seen.startswith(b"GET "):
            self._seen = b""
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        elif self._seen.endswith(b"}"):
            self.pad = LARGE if b"large" in self._seen else ""
            self._seen = b""
            self._transport.write(HEAD)
            self.tick()
            self._streams.append(self)

    def tick(self) -> None:
        """Send one event."""
        if self._transport is None or self.is_paused:
            return
        text = f"{time.monotonic():.6f} {self.pad}"
        event = b'data: {"choices":[{"index":0,"text":"%b"}]}\n\n' % text.encode()
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))


async def serve(port: int) -> None:
    """Tick until told to stop."""
    streams: list[Stream] = []
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(lambda: Stream(streams), "127.0.0.1", port, backlog=4096)

    async def tick() -> None:
        turn = 0
        while True:
            await asyncio.sleep(EVERY_S / ROUNDS)
            for stream in streams[turn % ROUNDS :: ROUNDS]:
                stream.tick()
            turn += 1

    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(tick())
        await stop.wait()
        ticking.cancel()
    server.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where to listen")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
