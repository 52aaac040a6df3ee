"""Every fault there is: how it is done, and how its end is."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.faults.crowd import Moment
from tests.faults.gate import Breach, Passage
from tests.faults.stage import Stage

STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
PLAIN_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CUT_AFTER_BYTES: Final = 600
"""Of a stream: its head and some tokens."""
FLOOD: Final = b"x" * 16_384
FLOOD_PAUSE_S: Final = 0.01
BLOCK_S: Final = 0.2

Deed = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the matrix."""

    name: str
    strike: Deed
    victims: tuple[str, ...] = ("wide-0",)
    """The endpoints that it befalls."""
    lasts_s: float = 2.5
    lost: str | None = None
    """An engine that cannot be found from the start."""
    shared: bool = False
    """Befalls the Redis that two routers share."""
    spares: bool = True
    """Others are well, so that nobody who had no byte yet may be failed."""
    excused: frozenset[Moment] = frozenset()
    """Moments whose requests may fail although no byte was out: the engine still worked at them."""
    slow: bool = False
    """Everything there is still answered rightly."""


def breaching(breach: Breach) -> Deed:
    """Return a deed that breaks the victim's gate."""

    async def strike(stage: Stage) -> None:
        stage.gates["wide-0"].breach = breach

    return strike


def telling(name: str = "wide-0", **faults: object) -> Deed:
    """Return a deed that breaks the stand-in itself."""

    async def strike(stage: Stage) -> None:
        await stage.tell(name, **faults)

    return strike


def signalling(what: signal.Signals) -> Deed:
    """Return a deed that sends the victim's process a signal."""

    async def strike(stage: Stage) -> None:
        stage.send("wide-0", what)

    return strike


def refusing(*names: str) -> Deed:
    """Return a deed after which nobody listens there."""

    async def strike(stage: Stage) -> None:
        for name in names:
            stage.gates[name].refuse()

    return strike


async def kill(stage: Stage) -> None:
    """End the process."""
    stage.kill("wide-0")


async def swallow(stage: Stage) -> None:
    """Let packets vanish: no connection comes about, and nothing comes on those there are."""
    gate = stage.gates["wide-0"]
    gate.breach = Breach(silent, still)
    await gate.swallow()


async def flap(stage: Stage) -> None:
    """Be there and not there, in turns."""
    gate = stage.gates["wide-0"]

    async def turns() -> None:
        while True:
            gate.refuse()
            await asyncio.sleep(0.3)
            await gate.mend()
            await asyncio.sleep(0.4)

    stage.beside_it(turns())


async def burst(stage: Stage) -> None:
    """Have no room, in turns."""

    async def turns() -> None:
        while True:
            await stage.tell("wide-0", refuse_status=503)
            await asyncio.sleep(0.4)
            await stage.tell("wide-0")
            await asyncio.sleep(0.3)

    stage.beside_it(turns())


async def block_router(stage: Stage) -> None:
    """Hold the router's loop up for a fifth of a second, again and again."""

    async def turns() -> None:
        while True:
            stage.router_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(BLOCK_S)
            finally:
                stage.router_signal(signal.SIGCONT)
            await asyncio.sleep(BLOCK_S)

    stage.beside_it(turns())


async def kill_redis(stage: Stage) -> None:
    """End Redis at once."""
    assert stage.redis is not None
    stage.redis.kill()


async def freeze_redis(stage: Stage) -> None:
    """Have Redis stand still."""
    assert stage.redis is not None
    stage.redis.freeze()


async def nothing(_: Stage) -> None:
    """Do nothing: it was so from the start."""


# What a gate does to a request, or to a part of an answer.


async def silent(_: Passage) -> bool:
    """Take the request and say nothing."""
    await asyncio.Event().wait()
    return True


async def still(passage: Passage, _: bytes) -> bool:
    """Pass on nothing more."""
    passage.is_broken = True
    return True


async def reset_before(passage: Passage) -> bool:
    """Reset the connection instead of answering."""
    passage.writer.transport.abort()
    raise ConnectionResetError


async def reset_during(passage: Passage, _: bytes) -> bool:
    """Reset the connection in the middle."""
    passage.writer.transport.abort()
    raise ConnectionResetError


async def garbage_before(passage: Passage) -> bool:
    """Say what is no HTTP."""
    passage.writer.write(b"\x16\x03\x01\x00 no HTTP at all\r\n\r\n")
    await passage.writer.drain()
    raise ConnectionResetError


async def garbage_during(passage: Passage, _: bytes) -> bool:
    """Go on with what is no chunk."""
    passage.writer.write(b"\xff\xfe no chunk\r\n\xff\r\n")
    passage.is_broken = True
    return True


async def endless_head(passage: Passage) -> bool:
    """Send headers for ever."""
    passage.writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        passage.writer.write(b"x-more: " + FLOOD[:1000] + b"\r\n")
        await passage.writer.drain()
        await asyncio.sleep(FLOOD_PAUSE_S)


async def endless_line(passage: Passage) -> bool:
    """Send an event that never ends."""
    if not passage.stream:
        return False
    passage.writer.write(STREAM_HEAD + b"6\r\ndata: \r\n")
    await _flood(passage)
    return True


async def endless_line_during(passage: Passage, data: bytes) -> bool:
    """Go on with an event that never ends."""
    if passage.stream and passage.body_bytes > CUT_AFTER_BYTES:
        passage.writer.write(data)
        passage.is_broken = True
        await _flood(passage)
        return True
    return False


async def _flood(passage: Passage) -> None:
    while True:
        passage.writer.write(b"%x\r\n%b\r\n" % (len(FLOOD), FLOOD))
        await passage.writer.drain()
        await asyncio.sleep(FLOOD_PAUSE_S)


async def cut_during(passage: Passage, data: bytes) -> bool:
    """End the connection behind a whole chunk."""
    if passage.stream and passage.body_bytes > CUT_AFTER_BYTES:
        passage.writer.write(data)
        await passage.writer.drain()
        passage.writer.close()
        raise ConnectionResetError
    return False


async def cut_in_chunk(passage: Passage, data: bytes) -> bool:
    """End the connection in the middle of a chunk."""
    if passage.stream and passage.body_bytes > CUT_AFTER_BYTES:
        passage.writer.write(data[: len(data) // 2])
        await passage.writer.drain()
        passage.writer.close()
        raise ConnectionResetError
    return False


async def cut_plain(passage: Passage, data: bytes) -> bool:
    """End the connection in the middle of any answer."""
    passage.writer.write(data[: len(data) // 2])
    await passage.writer.drain()
    passage.writer.close()
    raise ConnectionResetError


async def wrong_length_before(passage: Passage) -> bool:
    """Promise more than is sent."""
    if passage.stream:
        return False
    passage.writer.write(PLAIN_HEAD + b'content-length: 5000\r\n\r\n{"choices": [')
    await passage.writer.drain()
    raise ConnectionResetError


async def wrong_length_during(passage: Passage, data: bytes) -> bool:
    """Send a chunk that is longer than it says."""
    if passage.stream and passage.body_bytes > CUT_AFTER_BYTES:
        passage.writer.write(b"5\r\n" + data + b"\r\n")
        passage.is_broken = True
        return True
    return False


async def error_event(passage: Passage) -> bool:
    """Say 200, and then that it failed."""
    if passage.stream:
        event = b'data: {"error": {"message": "worker died", "code": 500}}\n\ndata: [DONE]\n\n'
        passage.writer.write(STREAM_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))
    else:
        body = b'{"error": {"message": "worker died", "code": 500}}'
        passage.writer.write(
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
    await passage.writer.drain()
    return True


PLAIN: Final = frozenset({Moment.PLAIN})
WIDE: Final = ("wide-0", "wide-1")
ALL: Final = ("fast-0", "fast-1", *WIDE)

FAULTS: Final = (
    Fault("refused connection", refusing("wide-0")),
    Fault("reset", breaching(Breach(reset_before, reset_during))),
    Fault("black hole", swallow, lasts_s=4.0),
    Fault("accepts, then silent", breaching(Breach(silent, still)), lasts_s=4.0),
    Fault("hang with health 200", telling(hang=True), lasts_s=4.0),
    Fault("frozen process (SIGSTOP)", signalling(signal.SIGSTOP), lasts_s=4.0),
    Fault("killed process (SIGKILL)", kill),
    Fault(
        "health blocked behind a step",
        breaching(Breach(health_silent=True)),
        lasts_s=4.0,
        slow=True,
    ),
    Fault("slow x5", telling(slow_factor=5.0), lasts_s=4.0, slow=True),
    Fault("slow x50", telling(slow_factor=50.0), lasts_s=5.0, excused=PLAIN),
    Fault("fast 429", telling(refuse_status=429)),
    Fault("fast 500", telling(refuse_status=500)),
    Fault("503 in bursts", burst),
    Fault("200, then an error event", breaching(Breach(error_event))),
    Fault("cut mid-stream", breaching(Breach(during=cut_during))),
    Fault("cut mid-chunk", breaching(Breach(during=cut_in_chunk))),
    Fault("cut anywhere", breaching(Breach(during=cut_plain))),
    Fault("garbage bytes", breaching(Breach(garbage_before, garbage_during))),
    Fault("endless headers", breaching(Breach(endless_head))),
    Fault("endless line", breaching(Breach(endless_line))),
    Fault("endless line mid-stream", breaching(Breach(during=endless_line_during))),
    Fault("wrong length", breaching(Breach(wrong_length_before, wrong_length_during))),
    Fault("batch-wide 424", telling("fast-0", fail_steps=True), victims=("fast-0",)),
    Fault("engine restart", signalling(signal.SIGTERM)),
    Fault("engine drain", telling(draining=True)),
    Fault("flapping", flap, lasts_s=4.0),
    Fault("one pool down", refusing(*WIDE), victims=WIDE),
    Fault("all pools down", refusing(*ALL), victims=ALL, spares=False),
    Fault("DNS gone", nothing, lost="wide-0", slow=True),
    Fault("Redis gone", kill_redis, victims=ALL, slow=True, shared=True, lasts_s=4.0),
    Fault("Redis frozen", freeze_redis, victims=ALL, slow=True, shared=True, lasts_s=4.0),
    Fault("router loop blocked 200 ms", block_router, victims=ALL, slow=True),
)
