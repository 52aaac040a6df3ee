"""What goes on, over HTTP: requests, their stories, promises, events, explanations."""

import asyncio
import json

import pytest

from policies.facts import SlaClass, Targets
from policies.policy import Classes, ClassPolicy, Policy
from router.settings import Admin
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, until
from tests.fakes.scripted import answering, scripted_engine, silence, streaming
from tests.router.admin.asking import administered

CHUNK = b'{"choices":[{"delta":{"content":"a"}}]}'
USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'


@pytest.fixture
async def admin():
    async with (
        scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as engine,
        administered(pool("bulk", engine)) as admin,
    ):
        yield admin


async def test_a_request_that_ended_is_listed_and_its_story_told(admin):
    named = {"x-request-id": "mine", "x-tenant-id": "acme", "x-sla-ttft-ms": "900"}
    await ask(admin.router.port, chat(stream=True), named)
    listed = (await admin.get("/requests")).json()
    told = (await admin.get("/requests/mine")).json()

    assert [each["request_id"] for each in listed["recent"]] == ["mine"]
    assert listed["in_flight"] == []
    assert (told["endpoint"], told["tenant"], told["met"]) == ("bulk-0", "acme", True)
    assert any("target 0.900 s: met" in sentence for sentence in told["story"])
    assert any("sent to 'bulk-0'" in sentence for sentence in told["story"])
    assert (await admin.get("/requests/other")).status_code == 404


async def test_lists_are_narrowed(admin):
    await ask(admin.router.port, chat(), {"x-sla-class": "bulk"})
    await ask(admin.router.port, chat(), {"x-sla-class": "interactive"})

    async def classes(**asked):
        rows = (await admin.get("/requests", params=asked)).json()["recent"]
        return [each["class"] for each in rows]

    assert await classes() == ["interactive", "bulk"]
    assert await classes(**{"class": "bulk"}) == ["bulk"]
    assert await classes(limit=1) == ["interactive"]
    assert await classes(endpoint="nowhere") == []
    assert await classes(missed="true") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "class=fast", "missed=perhaps"])
async def test_a_malformed_question_is_refused(admin, query):
    assert (await admin.get(f"/requests?{query}")).status_code == 400


async def test_a_request_under_way_is_seen_and_ended():
    async with (
        scripted_engine(silence) as engine,
        administered(pool("bulk", engine)) as admin,
        caller(admin.router.port) as one,
    ):
        await one.send(request(chat(), {"x-request-id": "long"}))
        await engine.arrivals.get()
        seen = (await admin.get("/requests")).json()["in_flight"]
        story = (await admin.get("/requests/long")).json()["story"]
        ended = await admin.send("DELETE", "/requests/long")
        answer = await one.answer()

        assert [each["state"] for each in seen] == ["reading the prompt"]
        assert story == ["under way: reading the prompt"]
        assert ended.json() == {"request_id": "long", "cancelled": True}
        assert (answer.status, answer.error["code"]) == (503, "cancelled")
        assert (await admin.send("DELETE", "/requests/long")).status_code == 404


async def test_a_waiting_request_is_seen_and_ended():
    async with (
        scripted_engine(silence) as engine,
        administered(pool("bulk", engine, slots=1)) as admin,
        caller(admin.router.port) as one,
        caller(admin.router.port) as other,
    ):
        await one.send(request(chat()))
        await engine.arrivals.get()
        await other.send(request(chat(), {"x-request-id": "queued"}))
        await until(lambda: admin.router.router.dispatcher.waiting == 1)
        states = [each["state"] for each in (await admin.get("/requests")).json()["in_flight"]]
        await admin.send("DELETE", "/requests/queued")
        answer = await other.answer()

        assert states == ["reading the prompt", "waiting"]
        assert answer.error["code"] == "cancelled"
        assert (await admin.get("/status")).json()["queue"]["standard"] == 0


async def test_burn_rates_tell_how_fast_the_budget_goes():
    policy = Policy(classes=Classes(standard=ClassPolicy(Targets(first_token_s=1e-9))))
    async with (
        scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as engine,
        administered(pool("bulk", engine), policy=policy, admin=Admin(objective=0.9)) as admin,
    ):
        await ask(admin.router.port, chat(stream=True), {"x-tenant-id": "acme"})
        slo = (await admin.get("/slo")).json()

    window = slo["classes"]["standard"]["5m"]
    assert (window["attainment"], window["offered"]) == (0.0, 1)
    assert window["burn_rate"] == pytest.approx(10.0)
    assert slo["tenants"][0]["tenant"] == "acme"
    assert slo["classes"]["bulk"]["6h"]["attainment"] is None


async def test_events_bring_a_snapshot_at_once_and_then_decisions(admin):
    async with admin.client.stream("GET", "/admin/v1/events") as stream:
        lines = stream.aiter_lines()
        first = json.loads((await until_data(lines)).removeprefix("data: "))
        await ask(admin.router.port, chat(), {"x-request-id": "watched"})
        later = json.loads((await until_data(lines)).removeprefix("data: "))
        while not later["decisions"]:
            later = json.loads((await until_data(lines)).removeprefix("data: "))

    assert first["endpoints"][0]["id"] == "bulk-0"
    assert [each["request_id"] for each in later["decisions"]] == ["watched"]
    assert later["classes"]["standard"]["trend"]


async def test_a_decision_made_just_before_somebody_watches_is_told_once(admin):
    await ask(admin.router.port, chat(), {"x-request-id": "before"})
    told = []
    async with admin.client.stream("GET", "/admin/v1/events") as stream:
        lines = stream.aiter_lines()
        await ask(admin.router.port, chat(), {"x-request-id": "after"})
        while "after" not in told:
            found = json.loads((await until_data(lines)).removeprefix("data: "))
            told += [each["request_id"] for each in reversed(found["decisions"])]

    assert told == ["before", "after"]


async def until_data(lines):
    async for line in lines:
        if line.startswith("data: "):
            return line
    raise AssertionError("the stream ended")


async def test_a_watcher_is_let_go_when_the_router_drains(admin):
    async with admin.client.stream("GET", "/admin/v1/events") as stream:
        admin.router.router.overview.draining = True
        async for _ in stream.aiter_lines():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"X-SLA-Class": "interactive"}, SlaClass.INTERACTIVE), ({}, SlaClass.STANDARD)],
)
async def test_an_explanation_names_the_endpoint_and_the_class(admin, headers, expected):
    answer = await admin.send("POST", "/explain", {"headers": headers, "body": chat()})
    told = answer.json()

    assert told["decision"]["endpoint"] == "bulk-0"
    assert told["asked"]["class"] == expected
    assert [each["verdict"] for each in told["candidates"]] == ["chosen"]
    assert admin.router.router.dispatcher.endpoints["bulk-0"].sent == 0


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({}, "'body'"),
        ({"body": {}, "rout": 1}, "known: route"),
        ({"body": {}, "route": "/v2"}, "/v1/chat/completions"),
        ({"body": chat(), "headers": {"x-sla-class": "urgent"}}, "interactive"),
        ({"body": chat(), "headers": []}, "an object of strings"),
    ],
)
async def test_a_question_that_cannot_be_read_is_refused(admin, question, words):
    answer = await admin.send("POST", "/explain", question)

    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_a_model_that_nobody_serves_is_explained_as_a_refusal(admin):
    told = (await admin.send("POST", "/explain", {"body": {**chat(), "model": "x"}})).json()

    assert told["decision"]["action"] == "refuse"
    assert told["decision"]["reason"] == "rejected-unknown-model"


async def test_the_story_of_an_answer_that_was_not_streamed_divides_all_of_its_time():
    whole = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    async with (
        scripted_engine(answering(whole)) as engine,
        administered(pool("bulk", engine)) as admin,
    ):
        await ask(admin.router.port, chat(), {"x-request-id": "mine"})
        story = (await admin.get("/requests/mine")).json()["story"]

    (told,) = [each for each in story if each.startswith("whole answer")]
    assert told.startswith("whole answer, not streamed, after ")
    assert " for 2 tokens: " in told
    assert "ms the router, 0.000 s waiting, " in told
