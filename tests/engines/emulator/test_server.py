"""The server: faults switched at run time, callers who leave, health in all its meanings."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest

from engines.emulator.profiles import STEADY
from engines.emulator.server import Served, serve
from engines.emulator.spec import HEALTHY, EngineSpec, Faults, Tgi, Vllm
from engines.engine import FaultKind, Kind
from tests.engines.emulator.serving import (
    CHAT,
    COMPLETIONS,
    KNOBS,
    desk,
    events,
    payloads,
    streamed_text,
    until,
)

ALL = pytest.mark.parametrize("kind", KNOBS, ids=str)


@ALL
async def test_a_hung_engine_answers_when_it_is_mended(kind):
    async with desk(kind) as at:
        (task,) = await at.hold(1)
        await at.client.get("/emulator")

        assert not task.done()
        await at.switch()
        assert streamed_text(await task)


@pytest.mark.parametrize("kind", [Kind.VLLM, Kind.LLAMACPP], ids=str)
async def test_health_proves_nothing_where_the_kinds_proves_nothing(kind):
    async with desk(kind) as at:
        (task,) = await at.hold(1)

        assert (await at.client.get("/health")).status_code == 200
        await at.switch()
        await task


async def test_tgis_health_waits_for_the_step_that_runs():
    async with desk(Kind.TGI) as at:
        (task,) = await at.hold(1)
        await until(lambda: at.server.engine.step_ends_s() is not None)
        async with asyncio.TaskGroup() as group:
            health = group.create_task(at.client.get("/health"))
            for _ in range(5):  # one after another, long enough for a health that waits for nothing
                await at.client.get("/metrics")
            assert not health.done()
            await at.switch()

        assert health.result().status_code == 200
        await task


async def test_tgis_health_waits_for_nothing_where_that_is_off():
    async with desk(Kind.TGI, health_waits_for_step=False) as at:
        (task,) = await at.hold(1)

        assert (await at.client.get("/health")).status_code == 200
        await at.switch()
        await task


async def test_sglangs_health_asks_for_a_token():
    async with desk(Kind.SGLANG, health_poll_s=0.01, health_timeout_s=0.05) as at:
        assert (await at.client.get("/health")).status_code == 200
        await at.switch(hang=True)
        assert (await at.client.get("/health")).status_code == 503
        assert (await at.client.get("/ready")).status_code == 200
        assert at.server.engine.jobs == 0
        await at.switch(refuse_status=503)
        assert (await at.client.get("/health")).status_code == 503


async def test_sglangs_health_is_constant_where_that_is_off():
    async with desk(Kind.SGLANG, health_generates=False) as at:
        await at.switch(hang=True)

        assert (await at.client.get("/health")).status_code == 200


@ALL
async def test_health_can_be_made_to_fail_or_to_say_nothing(kind):
    async with desk(kind) as at:
        await at.switch(unhealthy=True)
        assert (await at.client.get("/health")).status_code == 503

        await at.switch(health_silent=True)
        with pytest.raises(httpx.ReadTimeout):
            await at.client.get("/health", timeout=0.05)


@ALL
@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_frees_the_engine(kind, stream):
    async with desk(kind, runs_on_without_stream=False) as at:
        await at.switch(hang=True)
        with pytest.raises(httpx.ReadTimeout):
            await at.client.post(
                CHAT,
                json={"messages": [{"role": "user", "content": "x"}], "stream": stream},
                timeout=0.05,
            )

        await until(lambda: at.server.engine.jobs == 0)
        assert at.server.engine.gauges().aborted == 1


async def test_llamacpp_goes_on_for_a_caller_who_left_unless_it_streams():
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 40}
    async with desk(Kind.LLAMACPP) as at:
        await at.switch(hang=True)
        with pytest.raises(httpx.ReadTimeout):
            await at.client.post(CHAT, json=body, timeout=0.05)
        await at.client.get("/emulator")

        assert at.server.engine.jobs == 1
        await at.switch()
        await until(lambda: at.server.engine.jobs == 0)
        assert at.server.engine.gauges().finished == 1


@ALL
async def test_a_failing_step_is_a_broken_engine_in_its_own_words(kind):
    async with desk(kind) as at:
        await at.switch(fail_steps=True)
        whole = await at.ask(max_tokens=5)
        stream = await at.ask(max_tokens=5, stream=True)

        assert whole.status_code == (424 if kind is Kind.TGI else 500)
        assert at.engine.read_fault(whole.status_code, whole.content).kind is FaultKind.BROKEN
        fault = (
            at.engine.read_event_fault(payloads(stream)[0])
            if stream.status_code == 200
            else at.engine.read_fault(stream.status_code, stream.content)
        )
        assert fault.kind is FaultKind.BROKEN


@ALL
async def test_an_answer_breaks_off_in_the_middle(kind):
    async with desk(kind) as at:
        await at.switch(reset_after_tokens=3)

        with pytest.raises(httpx.TransportError):
            await at.ask(max_tokens=50, stream=True)


@ALL
async def test_a_first_token_comes_late(kind):
    async with desk(kind, pace=1.0, profile=STEADY) as at:
        await at.switch(first_token_delay_s=0.05)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        await at.ask(max_tokens=1)

        assert loop.time() - begun_s > 0.05


async def test_a_dead_engine_hangs_up_and_can_be_revived_through_its_neighbour():
    plans = [Served("a", EngineSpec(STEADY, Vllm())), Served("b", EngineSpec(STEADY, Tgi()))]
    async with AsyncExitStack() as stack:
        a, b = await stack.enter_async_context(serve(plans, pace=50))
        client = await stack.enter_async_context(httpx.AsyncClient())
        a.engine.set_faults(a.engine.faults, a.now())
        dies = {"engine": "a", "dead": True}
        await client.post(f"{b.url}/emulator/faults", json=dies)
        await until(lambda: a.engine.faults.dead)

        with pytest.raises(httpx.ConnectError):
            await client.get(f"{a.url}/health")
        await client.post(f"{b.url}/emulator/faults", json={"engine": "a"})
        await until(lambda: not a.engine.faults.dead and a._listener is not None)
        assert (await client.get(f"{a.url}/health")).status_code == 200


async def test_a_death_tells_the_streams_that_it_cuts():
    async with desk(Kind.VLLM) as at:
        (task,) = await at.hold(1)
        await at.client.post("/emulator/faults", json={"dead": True})

        cut = await task
        *_, error, done = payloads(cut)
        assert at.engine.read_event_fault(error).kind is FaultKind.BROKEN
        assert done == b"[DONE]"


async def test_a_fault_can_mend_itself():
    async with desk(Kind.VLLM) as at:
        await at.switch(refuse_status=503, for_s=0.01)
        await until(lambda: at.server.engine.faults.refuse_status == 503)
        await until(lambda: at.server.engine.faults.refuse_status is None)

        assert (await at.ask(max_tokens=1)).status_code == 200


@ALL
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_any_status_can_be_had_for_a_header(kind, status):
    async with desk(kind) as at:
        answer = await at.ask(headers={"x-return-error": str(status)})

        assert answer.status_code == status
        kinds = {429: FaultKind.BUSY, 500: FaultKind.BROKEN, 503: FaultKind.BUSY}
        assert at.engine.read_fault(status, answer.content).kind is kinds[status]


@ALL
async def test_everything_can_be_refused_fast(kind):
    async with desk(kind) as at:
        await at.switch(refuse_status=503)
        answer = await at.ask()

        assert answer.status_code == 503


async def test_a_draining_vllm_says_500():
    async with desk(Kind.VLLM) as at:
        await at.switch(draining=True)
        answer = await at.ask()

        assert answer.status_code == 500
        assert "cannot schedule new futures after shutdown" in answer.text
        assert (await at.client.get("/health")).status_code == 200


async def test_garbage_and_silence():
    async with desk(Kind.VLLM) as at:
        await at.switch(garbage=True)
        with pytest.raises(httpx.RemoteProtocolError):
            await at.ask()
        await at.switch(silent=True)
        with pytest.raises(httpx.ReadTimeout):
            await at.client.post(CHAT, json={}, timeout=0.05)


async def test_frozen_metrics_stay_as_they_were():
    async with desk(Kind.VLLM) as at:
        await at.switch(frozen_metrics=True)
        await at.ask(max_tokens=3)

        load = at.engine.read_load((await at.client.get("/metrics")).text)
        assert load.progress == 0
        await at.switch()
        assert at.engine.read_load((await at.client.get("/metrics")).text).progress > 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"hung": true}', "unknown fault 'hung'"),
        (b'{"engine": "z"}', "engines: e"),
        (b"[", "faults: hang, slow_factor"),
        (b"[]", "faults: hang, slow_factor"),
    ],
)
async def test_a_wrong_fault_is_told_what_would_be_right(body, said):
    async with desk(Kind.VLLM) as at:
        answer = await at.client.post("/emulator/faults", content=body)

        assert answer.status_code == 400
        assert said in answer.json()["error"]


async def test_the_emulator_tells_its_state():
    async with desk(Kind.VLLM) as at:
        await at.switch(slow_factor=3.0)
        await until(lambda: at.server.engine.faults.slow_factor == 3.0)
        state = (await at.client.get("/emulator")).json()["e"]

        assert (state["kind"], state["faults"]["slow_factor"]) == ("vllm", 3.0)
        assert state["gauges"]["running"] == 0
        assert (await at.client.get("/emulator/nosuch")).status_code == 404


@pytest.mark.parametrize(
    ("kind", "quirks", "comment"),
    [
        (Kind.TGI, {}, b":\n\n"),
        (Kind.VLLM, {"comment_interval_s": 15.0}, b": keep-alive\n\n"),
    ],
)
async def test_a_silent_stream_is_kept_alive_by_comments(kind, quirks, comment):
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 2}
    async with desk(kind, pace=1000.0, **quirks) as at:
        at.server.set_faults(Faults(hang=True))
        async with at.client.stream("POST", CHAT, json=body) as stream:
            said = stream.aiter_raw()
            comments = [await anext(said), await anext(said)]
            at.server.set_faults(HEALTHY)
            rest = b"".join([piece async for piece in said])

        assert comments == [comment, comment]
        assert b"data: {" in rest


async def test_a_stream_is_kept_alive_by_nothing_where_that_is_off():
    async with desk(Kind.TGI, comment_interval_s=None) as at:
        (task,) = await at.hold(1)
        await at.client.get("/emulator")
        await at.switch()

        assert b"\n:" not in (await task).content


@pytest.mark.parametrize("kind", [Kind.LLAMACPP, Kind.SGLANG], ids=str)
async def test_a_head_waits_for_the_first_token_where_the_kinds_does(kind):
    async with desk(kind) as late, desk(Kind.VLLM) as early:
        for at, begins in ((late, False), (early, True)):
            await at.switch(hang=True)
            body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
            request = at.client.build_request("POST", CHAT, json=body, timeout=0.1)
            began = True
            try:
                answer = await at.client.send(request, stream=True)
                await answer.aclose()
            except httpx.ReadTimeout:
                began = False
            assert began is begins


async def test_requests_on_one_connection_are_answered_in_order():
    body = b'{"prompt":"x","max_tokens":2}'
    head = b"POST /v1/completions HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\n"
    request = head + b"content-length: %d\r\n\r\n" % len(body) + body
    async with desk(Kind.VLLM) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.server.port)
        writer.write(request + b"GET /health HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n")

        answers = await reader.read()
        assert answers.count(b"HTTP/1.1 200 OK") == 2
        assert answers.index(b"text_completion") < answers.rindex(b"HTTP/1.1")
        assert b"connection: close" in answers
        writer.close()


async def test_what_is_no_http_is_hung_up_on():
    async with desk(Kind.VLLM) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.server.port)
        writer.write(b"\x00\x01\x02 nothing of HTTP\r\n\r\n")

        assert await reader.read() == b""
        writer.close()


async def test_names_of_engines_must_differ():
    served = Served("e", EngineSpec(STEADY, Vllm()))

    with pytest.raises(ValueError, match="names of engines must differ: e, e"):
        async with serve([served, served]):
            pass


async def test_two_engines_with_one_seed_take_the_same_times():
    async with AsyncExitStack() as stack:
        said = []
        for _ in range(2):
            at = await stack.enter_async_context(desk(Kind.VLLM))
            said.append(streamed_text(await at.ask(COMPLETIONS, max_tokens=30, stream=True)))

        assert said[0] == said[1]


async def test_the_last_event_of_a_stream_that_fails_is_an_error():
    async with desk(Kind.VLLM) as at:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(at.ask(max_tokens=4000, stream=True, ignore_eos=True))
            await until(lambda: at.server.engine.gauges().generated_tokens > 20)
            at.server.set_faults(Faults(fail_steps=True))

        assert "error" in events(task.result())[-1]
