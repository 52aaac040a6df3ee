"""Engines that do everything wrong that an engine can do, at random, and remember what they did."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from tests.fakes.scripted import LAST_CHUNK, STREAM_HEAD, Call

PLAIN_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
LARGE_BYTES = 1_300_000
"""More than the router holds of a plain answer."""
PLAIN_BYTES = (0, 0, 0, 0, 5_000, 5_000, 200_000, 900_000)
"""The last one is whole before it can have left towards a slow reader."""
STALL_S = 30.0
"""Longer than every timeout of the router."""


@dataclass(slots=True)
class Ledger:
    """What engines did to each request, and when each caller left; by request id."""

    deeds: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    left_at: dict[str, float] = field(default_factory=dict)
    hang_up_s: list[float] = field(default_factory=list)
    """From a caller's leaving until its engine's connection was closed."""


@dataclass(slots=True)
class Job:
    """One request as an engine has it before it."""

    call: Call
    id: str
    is_stream: bool
    rng: Random

    def event(self, number: int) -> bytes:
        """Return one event of the answer."""
        return b"data: " + self._part("delta", str(number)) + b"\n\n"

    def plain(self, size: int = 0) -> bytes:
        """Return a plain answer, at least as large as asked."""
        return self._part("message", "x" * size)

    def _part(self, kind: str, content: str) -> bytes:
        choice = {"index": 0, kind: {"content": content}, "finish_reason": None}
        answer = {"id": self.id, "object": "chat", "created": 1, "model": "m", "choices": [choice]}
        return json.dumps(answer).encode()


Deed = Callable[[Job], Awaitable[None]]


async def answer(job: Job) -> None:
    """Answer as one should, in one of the framings there are."""
    if not job.is_stream:
        await job.call.say_json(job.plain(job.rng.choice(PLAIN_BYTES)))
        return
    events = [job.event(number) for number in range(job.rng.randint(1, 12))]
    body = b"".join(events) + b"data: [DONE]\n\n"
    match job.rng.randrange(6):
        case 0:
            head = STREAM_HEAD.replace(
                b"transfer-encoding: chunked", b"content-length: %d" % len(body)
            )
            await job.call.say(head + body)
        case 1:
            head = STREAM_HEAD.replace(b"transfer-encoding: chunked\r\n", b"")
            await job.call.say(head + body)
            job.call.close()
        case 2:
            await _dripped(job, STREAM_HEAD + b"%x\r\n%b\r\n" % (len(body), body) + LAST_CHUNK)
        case _:
            await job.call.begin_stream()
            for event in events:
                await job.call.say_chunk(event)
                await asyncio.sleep(job.rng.choice((0, 0, 0.001, 0.005)))
            await job.call.end_stream()


async def _dripped(job: Job, text: bytes) -> None:
    """Write a text cut at random places."""
    at = 0
    while at < len(text):
        step = job.rng.randint(1, 200)
        await job.call.say(text[at : at + step])
        at += step
        await asyncio.sleep(0)


async def answer_slowly(job: Job) -> None:
    """Take a while before the answer."""
    await asyncio.sleep(job.rng.uniform(0.01, 0.08))
    await answer(job)


async def answer_large(job: Job) -> None:
    """Answer with more than is held in the router."""
    if job.is_stream:
        await job.call.begin_stream()
        for number in range(40):
            pad = b": " + b"x" * 30_000 + b"\n\n"
            await job.call.say_chunk(job.event(number) + pad)
        await job.call.end_stream()
    else:
        await job.call.say_json(job.plain(LARGE_BYTES))


async def answer_and_close(job: Job) -> None:
    """Close the connection behind the answer, without having said so."""
    await answer(job)
    job.call.close()


async def close_unanswered(job: Job) -> None:
    """Close the connection: on a kept one, the usual race."""
    job.call.close()


async def reset_unanswered(job: Job) -> None:
    """Reset the connection."""
    job.call.reset()


async def say_garbage(job: Job) -> None:
    """Say what is no HTTP."""
    await job.call.say(job.rng.randbytes(job.rng.randint(1, 300)) + b"\r\n\r\n")


async def cut_head(job: Job) -> None:
    """Close in the middle of the head."""
    await job.call.say(STREAM_HEAD[: job.rng.randint(1, len(STREAM_HEAD) - 1)])
    job.call.close()


async def say_500(job: Job) -> None:
    """Fail."""
    await job.call.say_json(b'{"error":{"message":"oops"}}', b"500 Internal Server Error")


async def say_503(job: Job) -> None:
    """Have no room, and say so as vLLM does."""
    await job.call.say_json(b'{"error":{"message":"busy"}}', b"503 Service Unavailable")


async def say_429(job: Job) -> None:
    """Have no room, and say so as TGI does."""
    body = b'{"error":"Model is overloaded","error_type":"overloaded"}'
    await job.call.say_json(body, b"429 Too Many Requests", b"retry-after: 1\r\n")


async def say_400(job: Job) -> None:
    """Find the request wrong."""
    await job.call.say_json(b'{"error":{"message":"bad top_p"}}', b"400 Bad Request")


async def refuse_in_stream(job: Job) -> None:
    """Say 200 and then that there is no room, or that all is broken."""
    code = job.rng.choice((503, 500))
    await job.call.begin_stream()
    await job.call.say_chunk(b'data: {"error":{"message":"no","code":%d}}\n\n' % code)
    await job.call.end_stream()


async def stay_silent(_: Job) -> None:
    """Say nothing for longer than anybody waits."""
    await asyncio.sleep(STALL_S)


async def _begin(job: Job) -> None:
    """Say the first events of a stream, or the first half of a plain answer that is not held."""
    if job.is_stream:
        await job.call.begin_stream()
        for number in range(job.rng.randint(1, 4)):
            await job.call.say_chunk(job.event(number))
        await asyncio.sleep(job.rng.choice((0, 0.003)))
    else:
        await job.call.say(PLAIN_HEAD + b"content-length: %d\r\n\r\n" % (2 * LARGE_BYTES))
        await job.call.say(b"x" * LARGE_BYTES)


async def cut(job: Job) -> None:
    """Begin, and close: between events, in an event, in a chunk, or in its size."""
    await _begin(job)
    await job.call.say(
        job.rng.choice((b"", b"7\r\ndata: {\r\n", b"ff\r\ndata: {", b"f\r", b"0\r\n"))
    )
    job.call.close()


async def cut_hard(job: Job) -> None:
    """Begin, and reset."""
    await _begin(job)
    job.call.reset()


async def break_framing(job: Job) -> None:
    """Begin, and go on with what is no chunk."""
    await _begin(job)
    await job.call.say(b"not a chunk\r\n")
    job.call.close()


async def stall(job: Job) -> None:
    """Begin, and stand still."""
    await _begin(job)
    await asyncio.sleep(STALL_S)


async def fail_in_stream(job: Job) -> None:
    """Begin, and tell of a failure in an event of its own."""
    if not job.is_stream:
        await say_500(job)
        return
    await _begin(job)
    await job.call.say_chunk(b'data: {"error":{"message":"died","code":500}}\n\n')
    await job.call.end_stream()


GOOD: tuple[tuple[Deed, int], ...] = (
    (answer, 100), (answer_slowly, 20), (answer_large, 4), (answer_and_close, 6),
)  # fmt: skip
BEFORE: tuple[tuple[Deed, int], ...] = (
    (close_unanswered, 3), (reset_unanswered, 3), (say_garbage, 2), (cut_head, 2), (say_500, 2),
    (say_503, 4), (say_429, 4), (refuse_in_stream, 3), (stay_silent, 1),
)  # fmt: skip
"""Failures that the caller need not see."""
WRONG: tuple[tuple[Deed, int], ...] = ((say_400, 2),)
AFTER: tuple[tuple[Deed, int], ...] = (
    (cut, 5), (cut_hard, 3), (break_framing, 2), (stall, 1), (fail_in_stream, 2),
)  # fmt: skip
"""Failures that it must see as such."""
DEEDS = (*GOOD, *BEFORE, *WRONG, *AFTER)
BREAKING = frozenset(deed.__name__ for deed, _ in AFTER)


class Unreliable:
    """A script that does one of its deeds at a time."""

    def __init__(self, ledger: Ledger, rng: Random) -> None:
        self._ledger = ledger
        self._rng = rng

    async def __call__(self, call: Call) -> None:
        """Do something to one request."""
        id_ = call.header("x-request-id")
        assert id_ is not None
        deeds, weights = zip(*DEEDS, strict=True)
        (deed,) = self._rng.choices(deeds, weights)
        self._ledger.deeds[id_].append(deed.__name__)
        is_stream = json.loads(call.body).get("stream") is True
        try:
            await deed(Job(call, id_, is_stream, self._rng))
        except (asyncio.CancelledError, ConnectionError):
            # Hung up on. Where the caller left, this is how soon it was felt.
            left_at = self._ledger.left_at.get(id_)
            if left_at is not None:
                self._ledger.hang_up_s.append(time.monotonic() - left_at)
            raise
