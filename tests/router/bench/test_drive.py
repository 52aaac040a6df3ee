"""Requests on sockets: each when it is due, each with one outcome."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from policies.facts import Reason, SlaClass
from router.bench.connection import Connection
from router.bench.drive import MOST_TROUBLES, Drive, Generator, drive
from router.bench.prompts import Prompts
from router.bench.question import Target, Writer
from router.measure.outcome import Fate, Outcome
from router.workload.offers import Offer
from tests.fakes.scripted import (
    Call,
    Script,
    answering,
    saying,
    scripted_engine,
    silence,
    streaming,
)
from tests.router.simulation.worlds import LOOSE, offer

TOKEN = b'{"choices":[{"delta":{"content":"x"}}]}'
STOP = b'{"choices":[{"delta":{},"finish_reason":"stop"}]}'
LENGTH = b'{"choices":[{"delta":{},"finish_reason":"length"}]}'
EVENT = b"data: " + TOKEN + b"\n\n"
TOKENS = 3


def good(tokens: int = TOKENS) -> Script:
    return streaming(*[TOKEN] * tokens, STOP)


def offers(count: int = 1, **changes: object) -> list[Offer]:
    given = {"output_tokens": TOKENS, "prompt_tokens": 10, "targets": LOOSE} | changes
    return [offer(number, 0.0, **given) for number in range(count)]


async def driven(
    url: str, offered: Sequence[Offer], *, timeout_s: float = 10.0, exact: bool = True
) -> tuple[list[Outcome], Generator]:
    target = Target("target", url, "m")
    seen: list[Outcome] = []
    writer = Writer(target, Prompts("1"), exact=exact)
    plan = Drive(target, writer, timeout_s, exact, time.monotonic, seen.append)
    generator = await drive(plan, offered)
    return sorted(seen, key=lambda each: each.offer.number), generator


async def one(*scripts: Script, **keys: object) -> tuple[Outcome, Generator]:
    async with scripted_engine(*scripts) as engine:
        (outcome,), generator = await driven(engine.url, offers(), **keys)  # type: ignore[arg-type] # of `driven`
    return outcome, generator


@pytest.mark.anyio
async def test_a_whole_answer_is_served_and_measured():
    outcome, generator = await one(good())

    assert outcome.fate is Fate.SERVED
    assert outcome.output_tokens == TOKENS
    assert outcome.first_token_s is not None
    assert 0 < outcome.first_token_s <= outcome.total_s
    assert outcome.per_token_s is not None
    assert outcome.slowest_gap_s is not None
    assert outcome.good
    assert generator.lag.count == 1
    assert generator.connections == 1
    assert not generator.troubles


@pytest.mark.anyio
async def test_what_a_router_says_of_its_decision_is_kept():
    async def script(call: Call) -> None:
        head = b"x-sla-endpoint: gpu-1\r\nx-sla-reason: spill\r\n"
        head += b"content-type: text/event-stream\r\nconnection: close\r\n\r\n"
        await call.say(b"HTTP/1.1 200 OK\r\n" + head + EVENT * TOKENS + b"data: [DONE]\n\n")
        call.close()

    outcome, _ = await one(script)

    assert (outcome.fate, outcome.endpoint, outcome.reason) == (
        Fate.SERVED,
        "gpu-1",
        Reason.SPILL,
    )


@pytest.mark.anyio
async def test_an_answer_with_too_few_tokens_is_truncated_unless_its_end_is_natural():
    exact, _ = await one(streaming(TOKEN, LENGTH))
    stopped, _ = await one(good(2))
    natural, _ = await one(streaming(TOKEN, LENGTH), exact=False)

    assert exact.fate is Fate.TRUNCATED
    assert stopped.fate is Fate.SERVED
    assert natural.fate is Fate.SERVED


@pytest.mark.anyio
async def test_a_stream_that_stops_without_an_end_is_truncated():
    async def script(call: Call) -> None:
        await call.begin_stream()
        await call.say_chunk(EVENT * TOKENS)
        await call.say(b"0\r\n\r\n")

    outcome, _ = await one(script)

    assert outcome.fate is Fate.TRUNCATED


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (b"429 Too Many Requests", Fate.REFUSED),
        (b"503 Service Unavailable", Fate.REFUSED),
        (b"400 Bad Request", Fate.REJECTED),
        (b"404 Not Found", Fate.REJECTED),
        (b"500 Internal Server Error", Fate.FAILED),
    ],
)
@pytest.mark.anyio
async def test_statuses_that_are_no_answers_have_their_fates(status, fate):
    outcome, generator = await one(answering(b'{"error":"words"}', status))

    assert outcome.fate is fate
    assert outcome.refusal == (status[:3].decode() if fate is Fate.REFUSED else None)
    assert generator.troubles == {'{"error":"words"}': 1}


@pytest.mark.anyio
async def test_why_and_until_when_a_router_refuses_is_kept():
    headers = b"x-sla-dropped-reason: rejected-saturated\r\nretry-after: 7\r\n"

    outcome, _ = await one(answering(b"{}", b"429 Too Many Requests", headers))

    assert outcome.refusal == "rejected-saturated"
    assert outcome.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (streaming(TOKEN, b'{"error":{"message":"engine died"}}'), "engine died"),
        (saying(b"\x00nothing of HTTP", then=Call.close), "the answer is not HTTP"),
        (saying(b"", then=Call.close), "the connection was closed"),
        (saying(b"", then=Call.reset), "the connection "),
    ],
    ids=["error in the stream", "garbage", "closed", "reset"],
)
@pytest.mark.anyio
async def test_what_breaks_is_failed_with_the_reason_in_words(script, words):
    outcome, generator = await one(script)

    assert outcome.fate is Fate.FAILED
    (trouble,) = generator.troubles
    assert words in trouble


@pytest.mark.anyio
async def test_an_interim_answer_is_passed_over():
    async def script(call: Call) -> None:
        await call.say(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await good()(call)

    outcome, _ = await one(script)

    assert outcome.fate is Fate.SERVED


@pytest.mark.anyio
async def test_an_answer_that_takes_too_long_is_failed_and_the_engine_is_told():
    async with scripted_engine(silence) as engine:
        (outcome,), _ = await driven(engine.url, offers(), timeout_s=0.05)
        hung_up = await asyncio.wait_for(engine.hang_ups.get(), 5.0)

    assert outcome.fate is Fate.FAILED
    assert 0.04 < outcome.total_s < 5.0
    assert hung_up is engine.calls[0]


@pytest.mark.anyio
async def test_a_caller_that_loses_patience_leaves():
    async with scripted_engine(silence) as engine:
        (outcome,), _ = await driven(engine.url, offers(patience_s=0.05))

    assert outcome.fate is Fate.ABANDONED


@pytest.mark.anyio
async def test_where_nobody_listens_every_request_is_failed():
    async with scripted_engine(silence) as engine:
        url = engine.url

    (outcome,), generator = await driven(url, offers())

    assert outcome.fate is Fate.FAILED
    assert generator.lag.count == 0
    assert not generator.valid
    assert "no connection" in next(iter(generator.troubles))


@pytest.mark.anyio
async def test_requests_are_sent_when_due_whatever_became_of_those_before():
    held = asyncio.Event()

    async def script(call: Call) -> None:
        await held.wait()
        await good()(call)

    async with scripted_engine(script) as engine, asyncio.TaskGroup() as group:
        running = group.create_task(driven(engine.url, offers(20)))
        for _ in range(20):
            await asyncio.wait_for(engine.arrivals.get(), 5.0)
        held.set()
        outcomes, generator = await running

    assert {each.fate for each in outcomes} == {Fate.SERVED}
    assert generator.connections == 20


@pytest.mark.anyio
async def test_a_connection_is_used_again_after_a_whole_answer():
    spaced = [offer(number, 0.15 * number, output_tokens=TOKENS) for number in range(3)]

    async with scripted_engine(good()) as engine:
        outcomes, generator = await driven(engine.url, spaced)

    assert {each.fate for each in outcomes} == {Fate.SERVED}
    assert generator.connections < 3


@pytest.mark.anyio
async def test_a_connection_that_was_closed_meanwhile_is_not_used():
    async def script(call: Call) -> None:
        await good()(call)
        call.close()

    spaced = [offer(number, 0.15 * number, output_tokens=TOKENS) for number in range(2)]
    async with scripted_engine(script) as engine:
        outcomes, generator = await driven(engine.url, spaced)

    assert {each.fate for each in outcomes} == {Fate.SERVED}
    assert generator.connections == 2


@pytest.mark.anyio
async def test_troubles_without_end_are_not_all_kept():
    async def script(call: Call) -> None:
        await answering(b"trouble %d" % len(engine.calls), b"500 Broken")(call)

    spaced = [offer(number, 0.01 * number, output_tokens=TOKENS) for number in range(12)]
    async with scripted_engine(script) as engine:
        _, generator = await driven(engine.url, spaced)

    assert len(generator.troubles) <= MOST_TROUBLES + 1
    assert generator.troubles.total() == 12
    assert generator.troubles["other"] >= 1


def test_a_connection_that_is_not_open_takes_no_request():
    with pytest.raises(RuntimeError, match="closed or in use"):
        Connection(lambda _connection: None).ask(b"", None)  # type: ignore[arg-type] # never used


@pytest.mark.anyio
async def test_headers_say_the_class_to_the_engine():
    async with scripted_engine(good()) as engine:
        await driven(engine.url, offers(sla_class=SlaClass.BULK))

    assert engine.calls[0].header("x-sla-class") == "bulk"
