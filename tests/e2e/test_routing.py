"""Routing as a caller sees it: where requests go, who waits, and what is refused."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from engines.engine import Kind
from policies.facts import Profile, SlaClass
from policies.policy import Classes, ClassPolicy, HealthPolicy, Policy
from tests.e2e.caller import CHAT, ask, caller, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.scripted import answering, scripted_engine, silence

OK = answering(b'{"ok":1}')
NOWHERE = "http://127.0.0.1:9"
"""The discard port: nobody listens there."""
NEVER = {"x-sla-queue": "never"}
PATIENT = Policy(
    classes=Classes(
        interactive=ClassPolicy(max_wait_s=60.0),
        standard=ClassPolicy(max_wait_s=60.0),
        bulk=ClassPolicy(max_wait_s=60.0),
    )
)
HASTY = Policy(classes=Classes(standard=ClassPolicy(max_wait_s=0.05, max_waiting=1)))


def as_class(sla_class, **more):
    return {"x-sla-class": sla_class, **more}


async def until_active(router, count):
    """Wait until the router has so many requests."""
    await until(lambda: len(router.router.door.active) == count)


class Held:
    """Answers each request once it is told to."""

    def __init__(self):
        self.release = asyncio.Event()
        self.running = 0
        self.most = 0

    async def __call__(self, call):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.release.wait()
        finally:
            self.running -= 1
        await call.say_json(b'{"ok":1}')


async def home_and_away(stack, fast, big, **settings):
    """Serve a pool of each profile; returns both engines and the router."""
    fast_engine = await stack.enter_async_context(scripted_engine(fast))
    big_engine = await stack.enter_async_context(scripted_engine(big))
    router = await stack.enter_async_context(
        serving(
            pool("fast", fast_engine, profile=Profile.PREDICTABLE, slots=1),
            pool("big", big_engine, slots=1),
            **settings,
        )
    )
    return fast_engine, big_engine, router


@pytest.mark.parametrize(
    ("sla_class", "home"),
    [(SlaClass.INTERACTIVE, "fast"), (SlaClass.STANDARD, "big"), (SlaClass.BULK, "big")],
)
async def test_each_class_is_served_at_home(sla_class, home):
    async with AsyncExitStack() as stack:
        _, _, router = await home_and_away(stack, OK, OK)
        answers = [await ask(router.port, chat(), as_class(sla_class)) for _ in range(3)]

        assert {answer.header("x-sla-pool") for answer in answers} == {home}
        assert {answer.header("x-sla-endpoint") for answer in answers} == {f"{home}-0"}
        assert {answer.header("x-sla-reason") for answer in answers} == {"home"}
        assert {answer.header("x-sla-class") for answer in answers} == {sla_class}


@pytest.mark.parametrize(
    ("sla_class", "home", "away"),
    [(SlaClass.INTERACTIVE, "fast", "big"), (SlaClass.STANDARD, "big", "fast")],
)
async def test_who_finds_home_full_is_served_away(sla_class, home, away):
    async with AsyncExitStack() as stack:
        scripts = {home: silence, away: OK}
        fast, big, router = await home_and_away(stack, scripts["fast"], scripts["big"])
        one = await stack.enter_async_context(caller(router.port))
        await one.send(request(chat(), as_class(sla_class)))
        await (fast if home == "fast" else big).arrivals.get()
        answer = await ask(router.port, chat(), as_class(sla_class))

        assert answer.header("x-sla-pool") == away
        assert answer.header("x-sla-reason") == "spill"


async def test_who_finds_home_down_is_served_away():
    """The first requests find out, are sent again, and the rest do not even try."""
    policy = replace(Policy(), health=HealthPolicy(failures_to_down=2, back_off_s=30.0))
    async with (
        scripted_engine(OK) as big,
        serving(
            pool("fast", NOWHERE, profile=Profile.PREDICTABLE), pool("big", big), policy=policy
        ) as router,
    ):
        answers = [await ask(router.port, chat(), as_class("interactive")) for _ in range(4)]
        ready = await ask_page(router.port, "/readyz")

        assert [answer.status for answer in answers] == [200] * 4
        assert [answer.header("x-sla-reason") for answer in answers] == [
            *("retry", "retry"),
            *("spill", "spill"),
        ]
        assert ready.document["pools"] == {
            "fast": {"endpoints": 1, "serving": 0},
            "big": {"endpoints": 1, "serving": 1},
        }


async def ask_page(port, path):
    async with caller(port) as one:
        await one.send(f"GET {path} HTTP/1.1\r\nhost: router\r\n\r\n".encode())
        return await one.answer()


async def test_an_endpoint_never_has_more_than_its_slots():
    held = Held()
    async with (
        scripted_engine(held) as engine,
        serving(pool("p", engine, slots=3), policy=PATIENT) as router,
        asyncio.TaskGroup() as tasks,
    ):
        callers = [tasks.create_task(ask(router.port, chat())) for _ in range(10)]
        await until(lambda: router.router.dispatcher.waiting == 7)
        await until(lambda: held.running == 3)
        held.release.set()
        for each in callers:
            await each

        assert held.most == 3
        assert [each.result().status for each in callers] == [200] * 10


async def test_those_who_wait_are_served_in_order_of_coming():
    held = Held()
    async with (
        scripted_engine(held) as engine,
        serving(pool("p", engine, slots=1), policy=PATIENT) as router,
        AsyncExitStack() as stack,
    ):
        callers = []
        for number in range(6):
            one = await stack.enter_async_context(caller(router.port))
            await one.send(request(chat(user=str(number))))
            await until_active(router, number + 1)
            callers.append(one)
        held.release.set()
        answers = [await one.answer() for one in callers]

        assert [call.body for call in engine.calls] == [
            request(chat(user=str(number))).partition(b"\r\n\r\n")[2] for number in range(6)
        ]
        assert answers[0].header("x-sla-queue-ms") == "0.0"
        assert float(answers[5].header("x-sla-queue-ms") or 0) > 0


async def test_the_urgent_pass_those_who_wait():
    held = Held()
    async with (
        scripted_engine(held) as engine,
        serving(pool("p", engine, slots=1), policy=PATIENT) as router,
        AsyncExitStack() as stack,
    ):
        for number, sla_class in enumerate(("standard", "bulk", "standard", "interactive")):
            one = await stack.enter_async_context(caller(router.port))
            await one.send(request(chat(user=str(number)), as_class(sla_class)))
            await until_active(router, number + 1)
        held.release.set()
        await until(lambda: len(engine.calls) == 4)

        users = [call.body.partition(b'"user": "')[2][:1] for call in engine.calls]
        assert users == [b"0", b"3", b"2", b"1"]
        await until(lambda: not router.router.door.active)


@pytest.fixture
async def full():
    """A router whose only slot is taken."""
    async with (
        scripted_engine(silence) as engine,
        serving(pool("p", engine, slots=1), policy=HASTY) as router,
        caller(router.port) as one,
    ):
        await one.send(request(chat()))
        await engine.arrivals.get()
        yield router


async def test_who_will_not_wait_is_refused_at_once(full):
    answer = await ask(full.port, chat(), NEVER)

    assert answer.status == 429
    assert answer.error["code"] == "would_queue"
    assert answer.header("x-sla-dropped-reason") == "rejected-would-queue"
    assert 1 <= int(answer.header("retry-after") or 0) <= 30
    assert answer.header("x-sla-class") == "standard"


async def test_who_waited_as_long_as_its_class_does_is_refused(full):
    answer = await ask(full.port, chat())

    assert answer.status == 429
    assert answer.error["code"] == "queue_time_expired"
    assert answer.header("retry-after") is not None


async def test_a_deadline_that_passes_in_the_queue_is_told_of(full):
    answer = await ask(full.port, chat(), as_class("bulk") | {"x-sla-deadline-ms": "40"})

    assert answer.status == 504
    assert answer.error["code"] == "deadline_unreachable"
    assert answer.error["type"] == "timeout_error"


async def test_a_target_that_is_missed_in_the_queue_ends_the_wait_of_who_wants_none_too_late(full):
    headers = {"x-sla-ttft-ms": "40", "x-sla-class": "bulk", "x-sla-on-miss": "reject"}
    answer = await ask(full.port, chat(), headers)

    assert answer.status == 504
    assert answer.error["code"] == "deadline_unreachable"


async def test_who_wants_a_late_answer_gets_it():
    held = Held()
    async with (
        scripted_engine(held) as engine,
        serving(pool("p", engine, slots=1), policy=PATIENT) as router,
        caller(router.port) as first,
        caller(router.port) as second,
    ):
        await first.send(request(chat()))
        await engine.arrivals.get()
        sent_at = asyncio.get_running_loop().time()
        headers = {"x-sla-ttft-ms": "20", "x-sla-on-miss": "serve"}
        await second.send(request(chat(), headers))
        await until(lambda: asyncio.get_running_loop().time() > sent_at + 0.03)
        held.release.set()
        answer = await second.answer()

        assert answer.status == 200
        assert float(answer.header("x-sla-queue-ms") or 0) > 20


async def test_the_queue_is_bounded(full):
    async with caller(full.port) as waiting:
        await waiting.send(request(chat(), {"x-sla-ttft-ms": "60000"}))
        await until(lambda: full.router.dispatcher.waiting == 1)
        answer = await ask(full.port, chat())

    assert answer.status == 429
    assert answer.error["code"] == "queue_full"


async def test_a_model_that_nobody_serves_is_not_found_and_the_known_ones_are_named():
    async with (
        scripted_engine(OK) as engine,
        serving(pool("p", engine, models=["llama", "qwen"])) as router,
    ):
        answer = await ask(router.port, chat(model="llama-17") | {"model": "llama-17"})

        assert answer.status == 404
        assert answer.error["code"] == "model_not_found"
        assert answer.error["param"] == "model"
        assert "llama-17" in str(answer.error["message"])
        assert "llama, qwen" in str(answer.error["message"])
        assert engine.calls == []


async def test_a_route_that_no_engine_has_is_not_implemented():
    async with scripted_engine(OK) as tgi, serving(pool("p", tgi, kind=Kind.TGI)) as router:
        answer = await ask(router.port, {"model": "m", "input": "hello"}, path="/v1/embeddings")

        assert answer.status == 501
        assert answer.error["code"] == "unsupported_route"
        assert "/v1/embeddings" in str(answer.error["message"])
        assert answer.header("x-should-retry") == "false"


async def test_a_feature_that_no_engine_has_is_named_as_the_callers_to_leave_out():
    async with scripted_engine(OK) as tgi, serving(pool("p", tgi, kind=Kind.TGI)) as router:
        answer = await ask(router.port, chat(n=2))

        assert answer.status == 400
        assert answer.error["code"] == "unsupported_parameter"
        assert answer.error["param"] == "n"
        assert answer.header("x-sla-dropped-reason") == "rejected-unsupported"


async def test_features_that_no_engine_has_together_are_named_together():
    async with (
        scripted_engine(OK) as tgi,
        scripted_engine(OK) as llamacpp,
        serving(pool("t", tgi, kind=Kind.TGI), pool("l", llamacpp, kind=Kind.LLAMACPP)) as router,
    ):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
        messages = [{"role": "user", "content": [image]}]
        answer = await ask(router.port, chat(n=2) | {"messages": messages})

        assert answer.status == 400
        assert answer.error["code"] == "unsupported_parameter"
        assert answer.error["param"] is None
        assert "together" in str(answer.error["message"])
        assert "n>1" in str(answer.error["message"])


async def test_a_feature_goes_to_the_engine_that_has_it():
    async with (
        scripted_engine(OK) as tgi,
        scripted_engine(OK) as vllm,
        serving(
            pool("t", tgi, kind=Kind.TGI, profile=Profile.PREDICTABLE),
            pool("v", vllm, kind=Kind.VLLM),
        ) as router,
    ):
        answer = await ask(router.port, chat(n=2), as_class("interactive"))

        assert answer.header("x-sla-pool") == "v"
        assert tgi.calls == []


async def test_nobody_up_is_no_capacity():
    policy = replace(Policy(), health=HealthPolicy(failed_probes_to_down=1))
    async with scripted_engine(OK) as engine:
        engine.probe_status = b"500 Internal Server Error"
        async with serving(pool("p", engine), policy=policy) as router:
            endpoint = router.router.dispatcher.endpoints["p-0"]
            await until(lambda: not endpoint.health.hopeful)
            answer = await ask(router.port, chat())
            ready = await ask_page(router.port, "/readyz")

    assert answer.status == 503
    assert answer.error["code"] == "no_endpoints"
    assert answer.header("retry-after") is not None
    assert ready.status == 503


async def test_a_request_that_cannot_be_read_is_told_why():
    async with scripted_engine(OK) as engine, serving(pool("p", engine)) as router:
        answers = [
            await ask(router.port, b"{"),
            await ask(router.port, chat(), {"x-sla-ttft-ms": "soon"}),
            await ask(router.port, {"messages": []}),
        ]

        assert [answer.status for answer in answers] == [400, 400, 400]
        assert [answer.error["code"] for answer in answers] == [
            *("invalid_json", "invalid_header", "missing_required_parameter"),
        ]
        assert [line["outcome"] for line in router.log] == ["malformed"] * 3
        assert {line["route"] for line in router.log} == {CHAT}
