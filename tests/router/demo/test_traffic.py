import asyncio
import json
from dataclasses import replace
from random import Random

import openai
import pytest

from policies.facts import SlaClass, Targets
from router.demo.crowd import CROWD, Callers
from router.demo.tally import Answer, NoAnswer, Tally
from router.demo.traffic import GENEROUS_S, Caller, traffic
from tests.fakes.scripted import scripted_engine

pytestmark = pytest.mark.anyio
CHAT = Callers(
    SlaClass.INTERACTIVE,
    Targets(first_token_s=1.0, per_token_s=0.15),
    max_tokens=4,
    questions=("What is {}?",),
)


def event(delta):
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    document = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps(document | {"choices": [choice]}).encode()


async def says_hello(call):
    await call.say(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-sla-pool: fast\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    for delta in ({"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"}):
        await call.say_chunk(event(delta))
    await call.say_chunk(b"data: [DONE]\n\n")
    await call.say(b"0\r\n\r\n")


async def says_nothing(call):
    await call.begin_stream()
    await call.say_chunk(b"data: [DONE]\n\n")
    await call.say(b"0\r\n\r\n")


async def is_full(call):
    await call.say_json(b'{"error": {"message": "full"}}', b"429 Too Many Requests")


async def hangs_up(call):
    call.reset()


async def ask_once(script, callers=CHAT):
    tally = Tally({callers.sla_class: callers.targets})
    async with (
        scripted_engine(script) as engine,
        openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client,
    ):
        outcome = await Caller(client, "m", callers, tally, Random(1)).ask()
        return outcome, tally, engine.calls


async def test_an_answer_is_timed_by_its_text_and_not_by_its_role():
    outcome, tally, _ = await ask_once(says_hello)

    assert isinstance(outcome, Answer)
    assert outcome.pool == "fast"
    assert 0 < outcome.first_token_s <= outcome.total_s
    assert outcome.per_token_s == pytest.approx(outcome.total_s - outcome.first_token_s, abs=0.05)
    assert tally.rows[SlaClass.INTERACTIVE].answers == [outcome]


async def test_what_a_caller_wants_travels_in_its_headers():
    _, _, calls = await ask_once(says_hello)

    head = calls[0].head.lower()
    assert b"x-sla-class: interactive\r\n" in head
    assert b"x-sla-ttft-ms: 1000\r\n" in head
    assert b"x-sla-tpot-ms: 150\r\n" in head
    assert b"x-sla-deadline-ms" not in head
    assert json.loads(calls[0].body)["stream"] is True


@pytest.mark.parametrize(
    ("script", "why"),
    [(is_full, "429"), (hangs_up, "APIConnectionError"), (says_nothing, "empty answer")],
)
async def test_a_request_without_an_answer_is_counted_by_its_reason(script, why):
    outcome, tally, _ = await ask_once(script)

    assert outcome == NoAnswer(why)
    assert tally.rows[SlaClass.INTERACTIVE].missing == {why: 1}


async def test_every_kind_of_caller_asks_and_leaves_when_the_traffic_ends():
    crowd = [
        replace(callers, arrivals_per_s=50.0 if callers.arrivals_per_s else 0.0)
        for callers in CROWD
    ]
    tally = Tally({callers.sla_class: callers.targets for callers in crowd})
    all_here = asyncio.Event()

    async def never_answers(_):
        if all(row.in_flight for row in tally.rows.values()):
            all_here.set()
        await asyncio.Event().wait()

    async with scripted_engine(never_answers) as engine, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(traffic(f"{engine.url}/v1", "m", crowd, tally, Random(3)))
        await asyncio.wait_for(all_here.wait(), 15)
        running.cancel()

    assert all(row.in_flight == 0 for row in tally.rows.values())
    assert all(row.left > 0 for row in tally.rows.values())


async def test_a_caller_in_a_loop_asks_again_when_it_was_answered():
    tally = Tally({CHAT.sla_class: CHAT.targets})
    asked_again = asyncio.Event()

    async def answers_twice(call):
        if tally.answered:
            asked_again.set()
        await says_hello(call)

    async with (
        scripted_engine(answers_twice) as engine,
        openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none") as client,
        asyncio.TaskGroup() as tasks,
    ):
        caller = Caller(client, "m", CHAT, tally, Random(1))
        loop = tasks.create_task(caller.ask_again_and_again())
        await asyncio.wait_for(asked_again.wait(), 15)
        loop.cancel()

    assert tally.answered >= 1


def test_every_class_is_among_the_callers():
    assert {callers.sla_class for callers in CROWD} == set(SlaClass)
    assert max(c.targets.deadline_s or 0 for c in CROWD) < GENEROUS_S
