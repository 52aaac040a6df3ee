"""One-token requests of the router's own: what they find out, and what it costs nobody."""

import asyncio
import json

import pytest

from engines.engine import Kind
from policies.health import State
from policies.policy import HealthPolicy, Policy
from router.settings import Probes
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool, serving, until
from tests.fakes.mute import mute_engine
from tests.fakes.scripted import answering, saying, scripted_engine, silence

OK = answering(b'{"choices":[]}')
BUSY = answering(b'{"error":{"message":"full"}}', b"503 Service Unavailable")
FAILS = answering(b'{"error":{"message":"died"}}', b"500 Internal Server Error")
UNKNOWN = answering(b'{"error":{"message":"no such route"}}', b"404 Not Found")
SOON = Probes(health_s=3600.0, load_s=3600.0, canary_s=0.01, canary_timeout_s=0.3)
ON_TRIAL = Probes(health_s=3600.0, load_s=3600.0, canary_s=3600.0, canary_timeout_s=0.3)
FAST = Policy(health=HealthPolicy(failures_to_down=1, back_off_s=0.05, max_back_off_s=0.1))


async def flood(call):
    await call.begin_stream()
    while True:
        await call.say_chunk(b"x" * 30_000)


def state_of(router, id_="p-0"):
    return router.router.dispatcher.endpoints[id_].health.state


async def test_an_idle_engine_is_asked_for_one_token_by_its_own_name_for_the_model():
    async with (
        scripted_engine(OK) as engine,
        serving(pool("p", engine, model="theirs", kind=Kind.VLLM), probes=SOON) as router,
    ):
        call = await engine.arrivals.get()
        await until(lambda: router.router.dispatcher.endpoints["p-0"].progress.moved_at > 0)

        document = json.loads(call.body)
        assert document["max_tokens"] == 1
        assert document["model"] == "theirs"
        assert router.log == []


@pytest.mark.parametrize(
    ("script", "state"),
    [
        pytest.param(OK, State.UP, id="answers"),
        pytest.param(BUSY, State.UP, id="is busy"),
        pytest.param(UNKNOWN, State.UP, id="has no such route"),
        pytest.param(FAILS, State.DOWN, id="fails"),
        pytest.param(silence, State.DOWN, id="is silent"),
        pytest.param(saying(b"garbage\r\n\r\n"), State.DOWN, id="speaks no HTTP"),
        pytest.param(flood, State.DOWN, id="has no end"),
    ],
)
async def test_what_becomes_of_an_idle_engine(script, state):
    async with (
        scripted_engine(script) as engine,
        scripted_engine(OK) as other,
        serving(pool("p", engine, other), probes=SOON, policy=FAST) as router,
    ):
        await engine.arrivals.get()
        await until(lambda: state_of(router) is state and not _flying(router))


def _flying(router):
    return [one for one in router.router._canaries._flying if one.endpoint.id == "p-0"]


async def test_an_engine_that_is_not_reached_is_down():
    async with (
        mute_engine() as mute,
        scripted_engine(OK) as other,
        serving(pool("p", mute.url, other), probes=SOON, policy=FAST) as router,
    ):
        await until(lambda: state_of(router) is State.DOWN)


async def test_an_engine_that_was_down_serves_after_a_canary_and_a_request_is_not_its_trial():
    async with (
        scripted_engine(FAILS, FAILS, OK) as engine,
        scripted_engine(OK) as other,
        serving(pool("p", engine, other), probes=ON_TRIAL, policy=FAST) as router,
    ):
        statuses = [(await ask(router.port, chat())).status for _ in range(6)]
        await until(lambda: len(engine.calls) >= 3 and state_of(router) is State.UP)

        assert set(statuses) == {200}
        assert [json.loads(call.body).get("max_tokens") for call in engine.calls[1:3]] == [1, 1]


async def test_canaries_end_with_the_router():
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine), probes=SOON) as router,
    ):
        await engine.arrivals.get()
        flying = router.router._canaries._flying
        assert len(flying) == 1
    assert not flying
    await asyncio.sleep(0)
