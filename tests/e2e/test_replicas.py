"""Whole routers on real sockets that share a real Redis."""

from contextlib import AsyncExitStack

import httpx
import pytest

from policies.facts import SlaClass
from policies.policy import Hold, Holds, Policy, ProfilePolicy, Profiles
from router.replicas.word import Mode
from router.settings import Redis
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import Serving, pool, serving, until
from tests.e2e.test_routing import Held
from tests.fakes.redis_server import redis_server
from tests.fakes.scripted import answering, scripted_engine

OK = answering(b'{"ok":1}')
BULK = {"x-sla-class": SlaClass.BULK}


@pytest.fixture
def redis(tmp_path):
    with redis_server(tmp_path) as started:
        yield started


def in_mode(router: Serving, mode: Mode, count: int) -> bool:
    member = router.router.member
    return member is not None and member.mode is mode and member.count == count


async def several(stack, redis, engine, count, **settings):
    routers = [
        await stack.enter_async_context(
            serving(pool("p", engine, slots=6), redis=Redis(redis.url), seed=seed, **settings)
        )
        for seed in range(count)
    ]
    await until(lambda: all(in_mode(each, Mode.SHARED, count) for each in routers))
    return routers


async def test_replicas_find_each_other_and_count_together(redis):
    async with AsyncExitStack() as stack:
        held = Held()
        engine = await stack.enter_async_context(scripted_engine(held))
        first, second = await several(stack, redis, engine, 2)
        async with caller(first.port) as asking:
            await asking.send(request(chat()))
            state = second.router.dispatcher.endpoints["p-0"]

            await until(lambda: state.in_flight == 1)
            assert state.own_in_flight == 0
            async with httpx.AsyncClient() as client:
                ready = (await client.get(f"{second.url}/readyz")).json()
                shown = (await client.get(f"{second.url}/status")).json()
                counted = (await client.get(f"{second.url}/metrics")).text
            held.release.set()
            assert (await asking.answer()).status == 200
            await until(lambda: state.in_flight == 0)

    assert ready["replicas"]["mode"] == "shared"
    assert [each["in_flight"] for each in shown["replicas"].values()].count({"p-0": 1}) == 1
    assert "headway_replicas{} 2.0" in counted


async def test_bulk_of_two_replicas_keeps_to_one_cap(redis):
    policy = Policy(
        profiles=Profiles(throughput=ProfilePolicy(holds=Holds(bulk=Hold(max_slots=3))))
    )
    async with AsyncExitStack() as stack:
        held = Held()
        engine = await stack.enter_async_context(scripted_engine(held))
        routers = await several(stack, redis, engine, 2, policy=policy)
        callers = [
            await stack.enter_async_context(caller(router.port))
            for router in routers
            for _ in range(4)
        ]
        for each in callers:
            await each.send(request(chat(), BULK))

        await until(lambda: held.running == 3)
        held.release.set()
        assert [(await each.answer()).status for each in callers] == [200] * 8
        assert held.most == 3


async def test_no_request_fails_while_redis_is_frozen_killed_and_empty_again(redis):
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(scripted_engine(OK))
        routers = await several(stack, redis, engine, 2)

        redis.freeze()
        await until(lambda: all(in_mode(each, Mode.ALONE, 2) for each in routers))
        statuses = [(await ask(each.port, chat())).status for each in routers]
        redis.kill()
        statuses += [(await ask(each.port, chat())).status for each in routers]
        redis.start()
        await until(lambda: all(in_mode(each, Mode.SHARED, 2) for each in routers))
        statuses += [(await ask(each.port, chat())).status for each in routers]

    assert statuses == [200] * 6


async def test_a_router_starts_and_stops_without_its_redis(redis):
    redis.kill()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(scripted_engine(OK))
        router = await stack.enter_async_context(serving(pool("p", engine), redis=Redis(redis.url)))
        answer = await ask(router.port, chat())
        await until(lambda: in_mode(router, Mode.ALONE, 1))

    assert answer.status == 200
