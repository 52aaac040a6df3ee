"""Shares of a model's traffic: moved through the interface, seen by engines, compared."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from router.settings import Pool
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool, until
from tests.fakes.scripted import answering, saying, scripted_engine, silence, streaming
from tests.router.admin.asking import administered

CHUNK = b'{"model":"m-tuned","choices":[{"delta":{"content":"a"}}]}'
USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
TALKS = streaming(CHUNK, CHUNK, USAGE)
WHOLE = answering(b'{"model":"m-tuned","usage":{"prompt_tokens":3,"completion_tokens":2}}')
SILENT = saying(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")


def priced(pools: Pool, *prices: str) -> Pool:
    endpoints = tuple(
        replace(each, labels={"usd_per_hour": price}) if price else each
        for each, price in zip(pools.endpoints, prices, strict=True)
    )
    return replace(pools, endpoints=endpoints)


@asynccontextmanager
async def two(first=TALKS, second=TALKS, prices=("3.6", "3.6"), **more):
    async with (
        scripted_engine(first) as old,
        scripted_engine(second) as new,
        administered(
            priced(pool("p", old, new, slots=64, models=("m", "m-tuned")), *prices), **more
        ) as admin,
    ):
        yield admin, old, new


async def shift(admin, document):
    answer = await admin.send("PATCH", "/policy", {"models": {"m": document}}, If_Match="*")
    return answer.status_code, answer.json()


def to_new(share: float) -> dict[str, object]:
    return {"variants": {"new": {"share": share, "endpoints": ["p-1"]}}}


async def test_a_tenth_of_the_traffic_goes_where_it_is_moved_and_is_compared():
    async with two() as (admin, old, new):
        assert (await shift(admin, to_new(0.1)))[0] == 200
        for _ in range(40):
            assert (await ask(admin.router.port, chat(stream=True))).status == 200
        (compared,) = (await admin.get("/variants")).json()
        rows = {each["variant"]: each for each in compared["variants"]}
        snapshot = (await admin.get("/status")).json()

    assert (len(old.calls), len(new.calls)) == (36, 4)
    assert {name: (row["share"], row["requests"]) for name, row in rows.items()} == {
        "new": (0.1, 4),
        "rest": (0.9, 36),
    }
    assert rows["new"]["failed"] == 0
    assert rows["new"]["output_tokens"] == 8
    assert 0 < rows["new"]["first_token_s"]["p50"] <= rows["new"]["first_token_s"]["p99"]
    assert rows["new"]["usd_per_million_output_tokens"] > 0
    assert snapshot["variants"][0]["model"] == "m"


async def test_cost_is_unknown_where_a_price_is():
    async with two(prices=("", "x")) as (admin, _, _):
        await shift(admin, to_new(1.0))
        await ask(admin.router.port, chat(stream=True))
        (compared,) = (await admin.get("/variants")).json()

    assert [each["usd_per_million_output_tokens"] for each in compared["variants"]] == [None, None]


async def test_a_change_of_shares_goes_on_counting_and_other_places_start_anew():
    async with two() as (admin, _, _):
        counts = []
        for document in (
            to_new(1.0),
            to_new(0.5),
            {"variants": {"new": {"endpoints": ["p-0"]}}},
        ):
            await shift(admin, document)
            await ask(admin.router.port, chat(stream=True))
            (compared,) = (await admin.get("/variants")).json()
            counts.append(sum(each["requests"] for each in compared["variants"]))
        await shift(admin, {"variants": None})

        assert counts == [1, 2, 1]
        assert (await admin.get("/variants")).json() == []


async def test_what_a_variant_failed_at_is_told_apart():
    async with two(second=SILENT) as (admin, old, _):
        await shift(admin, to_new(1.0))
        answer = await ask(admin.router.port, chat(stream=True), {"x-request-id": "r1"})
        (compared,) = (await admin.get("/variants")).json()
        told = (await admin.get("/requests/r1")).json()

    assert (answer.status, len(old.calls)) == (200, 1)
    assert {each["variant"]: each["elsewhere"] for each in compared["variants"]} == {
        "new": 1,
        "rest": 0,
    }
    assert told["variant"] == "new"
    assert "belongs to variant 'new', which could not serve it: others did" in told["story"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_variant_that_is_another_model_is_asked_for_by_name_and_answers_under_the_callers(
    stream,
):
    async with two(*((TALKS, TALKS) if stream else (WHOLE, WHOLE))) as (admin, old, new):
        await shift(admin, {"variants": {"tuned": {"share": 1.0, "model": "m-tuned"}}})
        answer = await ask(admin.router.port, chat(stream=stream))
        (call,) = old.calls + new.calls

    assert json.loads(call.body)["model"] == "m-tuned"
    assert b'"model":"m"' in answer.body
    assert b"m-tuned" not in answer.body


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        (to_new(0.1) | {"shadow": {"endpoints": ["p-7"]}}, "/models/m/shadow/endpoints", "p-7"),
        (
            {"variants": {"a": {"share": 0.1, "endpoints": ["p-9"]}}},
            "/models/m/variants/a/endpoints",
            "unknown endpoint 'p-9'; known: p-",
        ),
        (
            {"variants": {"a": {"share": 0.1, "model": "no"}}},
            "/models/m/variants/a/model",
            "unknown model 'no'",
        ),
        ({"variants": {"a": {"share": 0.1}}}, "/models/m/variants/a", "must name endpoints"),
        (
            {"variants": {n: {"share": 0.7, "pools": ["p"]} for n in "ab"}},
            "/models/m",
            "add up to 1.4, more than 1",
        ),
    ],
    ids=["shadow", "endpoint", "model", "nothing", "too much"],
)
async def test_what_cannot_be_is_refused_by_its_pointer(document, pointer, words):
    async with two() as (admin, _, _):
        status, answer = await shift(admin, document)

    assert status == 422
    (flaw,) = answer["error"]["errors"]
    assert flaw["pointer"] == pointer
    assert words in flaw["message"]


async def test_a_variant_whose_endpoint_was_taken_out_leaves_its_requests_to_the_others():
    async with two() as (admin, old, _):
        await shift(admin, to_new(1.0))
        assert (await admin.send("DELETE", "/pools/p/endpoints/p-1")).status_code == 200
        answer = await ask(admin.router.port, chat(stream=True))

    assert (answer.status, len(old.calls)) == (200, 1)


# Shadows


SHADOW = {"shadow": {"share": 1.0, "endpoints": ["p-1"]}}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_shadow_is_sent_copies_and_callers_hear_nothing_of_it(stream):
    async with two(*((TALKS, TALKS) if stream else (WHOLE, WHOLE))) as (admin, old, new):
        await shift(admin, SHADOW)
        answer = await ask(admin.router.port, chat(stream=stream), {"x-request-id": "r1"})
        copy = await new.arrivals.get()
        await until(lambda: not admin.router.router.dispatcher.copies["m"].in_flight)
        (compared,) = (await admin.get("/variants")).json()
        recent = (await admin.get("/requests")).json()["recent"]

    assert answer.header("x-sla-endpoint") == "p-0"
    assert (len(old.calls), len(new.calls)) == (1, 1)
    assert copy.header("x-request-id") == "r1-copy"
    assert copy.body == old.calls[0].body
    (row,) = compared["variants"]
    assert (row["variant"], row["requests"], row["output_tokens"]) == ("shadow", 1, 2)
    assert len(recent) == 1


async def test_a_shadow_that_fails_or_hangs_costs_the_caller_nothing():
    async with two(second=SILENT) as (admin, _, new):
        await shift(admin, SHADOW)
        for _ in range(2):
            assert (await ask(admin.router.port, chat(stream=True))).status == 200
            await new.arrivals.get()
            await until(lambda: not admin.router.router.dispatcher.copies["m"].in_flight)
        (compared,) = (await admin.get("/variants")).json()

    assert compared["variants"][0]["failed"] == 2


async def test_copies_are_bounded_and_let_go_of_at_the_end():
    async with two(second=silence) as (admin, _, new):
        await shift(admin, {"shadow": {**SHADOW["shadow"], "max_in_flight": 2}})
        for _ in range(5):
            assert (await ask(admin.router.port, chat(stream=True))).status == 200
        copies = admin.router.router.dispatcher.copies["m"]

        assert (copies.in_flight, copies.dropped) == (2, 3)
        await new.arrivals.get()


async def test_a_copy_that_takes_too_long_is_given_up():
    async with two(second=silence) as (admin, _, _):
        await shift(admin, SHADOW)
        await ask(admin.router.port, chat(stream=True))
        shadows = admin.router.router.door.shadows
        shadows.sweep(admin.router.router.door.clock() + 10_000)
        await asyncio.sleep(0)

        assert not admin.router.router.dispatcher.copies["m"].in_flight


async def test_nothing_is_copied_by_a_router_that_is_late():
    async with two() as (admin, _, new):
        await shift(admin, SHADOW)
        admin.router.router.door.overload.level = 1
        assert (await ask(admin.router.port, chat(stream=True))).status == 200

    assert not new.calls
