"""Pools and endpoints at run time: what is added serves, what is taken out ends in peace."""

import asyncio

import pytest

from router.settings import Admin, State
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, until
from tests.fakes.scripted import answering, scripted_engine, silence
from tests.router.admin.asking import administered

ANSWER = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'


@pytest.fixture
async def first():
    async with scripted_engine(answering(ANSWER)) as engine:
        yield engine


@pytest.fixture
async def second():
    async with scripted_engine(answering(ANSWER)) as engine:
        yield engine


@pytest.fixture
async def admin(first):
    async with administered(pool("bulk", first)) as admin:
        yield admin


def added(engine, **more):
    return {"id": "fresh", "engine": "openai", "url": engine.url, **more}


async def test_an_endpoint_is_added_and_the_old_one_drained_without_a_failure(admin, second):
    answer = await admin.send("POST", "/pools/bulk/endpoints", added(second))
    drained = await admin.send("POST", "/pools/bulk/endpoints/bulk-0/drain")
    served = [await ask(admin.router.port, chat()) for _ in range(3)]

    assert answer.status_code == drained.status_code == 200
    assert {each.header("x-sla-endpoint") for each in served} == {"fresh"}
    shown = (await admin.get("/pools/bulk/endpoints/bulk-0")).json()
    assert shown["now"]["state"] == "draining"
    assert "drained by an operator" in shown["now"]["why"]


async def test_a_drained_endpoint_is_used_again(admin):
    await admin.send("POST", "/pools/bulk/endpoints/bulk-0/drain")
    refused = await ask(admin.router.port, chat())
    await admin.send("POST", "/pools/bulk/endpoints/bulk-0/undrain")
    served = await ask(admin.router.port, chat())

    assert (refused.status, served.status) == (503, 200)


async def test_what_runs_at_an_endpoint_that_is_deleted_ends_in_peace(second):
    async with (
        scripted_engine(silence) as slow,
        administered(pool("bulk", slow)) as admin,
        caller(admin.router.port) as one,
    ):
        await one.send(request(chat()))
        await slow.arrivals.get()
        await admin.send("POST", "/pools/bulk/endpoints", added(second))
        gone = await admin.send("DELETE", "/pools/bulk/endpoints/bulk-0")
        served = await ask(admin.router.port, chat())

        assert gone.status_code == 200
        assert served.header("x-sla-endpoint") == "fresh"
        assert len(admin.router.router.door.active) == 1
        one.hang_up()
        await until(lambda: not admin.router.router.door.active)
        await until(lambda: not admin.router.router._leaving)


async def test_weight_and_labels_are_changed_and_the_url_is_not(admin):
    path = "/pools/bulk/endpoints/bulk-0"
    right = await admin.send("PATCH", path, {"weight": 0.5, "labels": {"rack": "7"}})
    wrong = await admin.send("PATCH", path, {"url": "http://127.0.0.1:1"})
    negative = await admin.send("PATCH", path, {"weight": -1})

    assert right.json()["difference"] == [
        {"pointer": "/pools", "before": right.json()["difference"][0]["before"],
         "after": right.json()["difference"][0]["after"]}
    ]  # fmt: skip
    assert admin.router.router.dispatcher.endpoints["bulk-0"].weight == 0.5
    assert "add an endpoint beside this one" in wrong.json()["error"]["message"]
    assert negative.json()["error"]["errors"][0]["pointer"] == "/pools/0/endpoints/0/weight"


async def test_a_pool_is_added_changed_and_taken_out(admin, second):
    fresh = {
        "name": "more",
        "profile": "predictable",
        "models": ["other"],
        "endpoints": [added(second)],
    }
    made = await admin.send("POST", "/pools", fresh)
    served = await ask(admin.router.port, {**chat(), "model": "other"})
    listed = await admin.client.get("/v1/models")
    await admin.send("PATCH", "/pools/more", {"models": ["other", "third"]})
    third = await ask(admin.router.port, {**chat(), "model": "third"})
    await admin.send("DELETE", "/pools/more")
    gone = await ask(admin.router.port, {**chat(), "model": "other"})

    assert made.status_code == 200
    assert (served.status, third.status, gone.status) == (200, 200, 404)
    assert [each["id"] for each in listed.json()["data"]] == ["m", "other"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("DELETE", "/pools/bulk", None, 409, "only pool"),
        ("DELETE", "/pools/bulk/endpoints/bulk-0", None, 409, "delete the pool instead"),
        ("DELETE", "/pools/bulk/endpoints/bulk-9", None, 404, "known: bulk-0"),
        ("POST", "/pools/blk/endpoints/x/drain", None, 404, "known: bulk"),
        ("POST", "/pools/bulk/endpoints", {"engine": "vllm"}, 422, "/id: is missing"),
        ("POST", "/pools", [], 400, "an object"),
        ("PATCH", "/pools/bulk", {"endpoints": []}, 422, "cannot be changed"),
        ("PATCH", "/pools/bulk", {"name": "x"}, 422, "cannot be changed"),
        ("GET", "/pools/nope", None, 404, "unknown pool 'nope'"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_the_mend(
    admin, method, path, body, status, words
):
    answer = await admin.send(method, path, body)

    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert admin.router.router.administration.fleet.version == 0


async def test_an_endpoint_whose_key_is_not_there_is_refused(admin, second):
    answer = await admin.send(
        "POST", "/pools/bulk/endpoints", added(second, api_key_env="NO_SUCH_VARIABLE")
    )

    assert answer.status_code == 422
    assert "NO_SUCH_VARIABLE" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254", "http://8.8.8.8:80", "http://[::ffff:169.254.169.254]:80",
            "https://[fd00:ec2::254]", "http://0.0.0.0:6379"],
)  # fmt: skip
async def test_an_endpoint_where_none_may_be_is_refused(admin, url):
    endpoint = {"id": "far", "engine": "openai", "url": url}
    answer = await admin.send("POST", "/pools/bulk/endpoints", endpoint)

    assert answer.status_code == 422
    assert "/pools/0/endpoints/1/url: " in answer.json()["error"]["message"]
    assert admin.router.router.administration.fleet.version == 0


async def test_a_name_that_leads_where_no_endpoint_may_be_is_never_connected_to(first, second):
    nearby = second.url.replace("127.0.0.1", "localhost")
    fresh = {"name": "more", "profile": "throughput", "models": ["other"],
             "endpoints": [{"id": "named", "engine": "openai", "url": nearby}]}  # fmt: skip
    bounds = Admin(allowed_networks=("10.0.0.0/8",))
    async with administered(pool("bulk", first), admin=bounds) as admin:
        made = await admin.send("POST", "/pools", fresh)
        refused = await ask(admin.router.port, {**chat(), "model": "other"})
        served = await ask(admin.router.port, chat())

    assert made.status_code == 200
    assert (refused.status, served.status) == (503, 200)
    assert second.calls == []


async def test_a_name_that_leads_where_endpoints_may_be_is_connected_to(first, second):
    nearby = second.url.replace("127.0.0.1", "localhost")
    fresh = {"name": "more", "profile": "throughput", "models": ["other"],
             "endpoints": [{"id": "named", "engine": "openai", "url": nearby}]}  # fmt: skip
    async with administered(pool("bulk", first)) as admin:
        await admin.send("POST", "/pools", fresh)
        served = await ask(admin.router.port, {**chat(), "model": "other"})
        await until(lambda: "named" in admin.router.router._discoveries)

    assert served.status == 200


async def test_the_fleet_outlives_the_router_and_is_rolled_back(first, second, tmp_path):
    async with administered(pool("bulk", first), state=State(tmp_path)) as admin:
        await admin.send("POST", "/pools/bulk/endpoints", added(second))
        await admin.send("POST", "/pools/bulk/endpoints/bulk-0/drain")
    async with administered(pool("bulk", first), state=State(tmp_path)) as admin:
        served = await ask(admin.router.port, chat())
        await admin.send("POST", "/fleet/rollback/0")
        back = await ask(admin.router.port, chat())

        assert served.header("x-sla-endpoint") == "fresh"
        assert back.header("x-sla-endpoint") == "bulk-0"


async def test_an_endpoint_is_probed_when_asked(admin):
    answer = await admin.send("POST", "/pools/bulk/endpoints/bulk-0/probe")
    await asyncio.sleep(0)

    assert answer.json()["now"]["id"] == "bulk-0"
    assert (await admin.get("/pools/bulk/endpoints")).json()[0]["id"] == "bulk-0"
    assert (await admin.get("/pools/bulk")).json()["endpoints"][0]["id"] == "bulk-0"
    assert (await admin.get("/pools")).json()[0]["name"] == "bulk"
