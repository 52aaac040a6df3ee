"""The process that replays: asked in parts, started again where it ended, gone with the router."""

import asyncio

import pytest

from engines.emulator.profiles import PROFILES
from engines.emulator.spec import EngineSpec, Memory, Vllm
from engines.engine import Route
from policies.facts import RequestFacts, SlaClass
from policies.policy import Policy
from router.admin import dry_run
from router.admin.dry_run import CHUNK, Broken, DryRuns
from router.admin.replaying import Job
from router.simulation.fleet import Member
from router.workload.offers import Offer
from tests.policies.builders import plan


def request(number, at_s):
    offer = Offer(
        number=number,
        at_s=at_s,
        traffic="recorded",
        sla_class=SlaClass.STANDARD,
        prompt_tokens=20,
        output_tokens=5,
        max_tokens=5,
    )
    return offer, RequestFacts(f"r-{number}", "m", frozenset({Route.CHAT}), 80)


def job():
    member = Member(plan(), EngineSpec(PROFILES["h100-8b"], Vllm(), Memory()), 0.0)
    return Job((member,), (("present", Policy()),))


@pytest.fixture
async def dry_runs():
    made = DryRuns()
    yield made
    await made.close()


async def test_requests_of_any_number_are_replayed_in_the_order_of_their_arrival(dry_runs):
    count = 2 * CHUNK + 3
    requests = [request(number, 100.0 - number) for number in range(count)]
    found = await dry_runs.run(requests, job())

    assert found["requests"] == count
    assert found["duration_s"] == count - 1 + 1.0
    assert found["outcomes"]["present"]["offered_per_s"] == 1.0


async def test_one_process_answers_one_question_after_the_other(dry_runs):
    requests = [request(0, 0.0)]
    async with asyncio.TaskGroup() as group:
        first = group.create_task(dry_runs.run(requests, job()))
        second = group.create_task(dry_runs.run(requests, job()))

    assert first.result() == second.result()


async def test_a_process_that_ended_is_told_of_and_replaced(dry_runs, capfd):
    with pytest.raises(Broken):
        await dry_runs.run([("no offer", "no facts")], job())

    assert (await dry_runs.run([request(0, 0.0)], job()))["requests"] == 1
    assert "AttributeError" in capfd.readouterr().err


async def test_a_question_that_takes_too_long_is_told_apart_from_a_process_that_ended(
    dry_runs, monkeypatch
):
    monkeypatch.setattr(dry_run, "TIMEOUT_S", 0.0)
    with pytest.raises(TimeoutError):
        await dry_runs.run([request(0, 0.0)], job())
    monkeypatch.undo()

    assert (await dry_runs.run([request(0, 0.0)], job()))["requests"] == 1
