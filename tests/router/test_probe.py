"""What the probes report of an engine, whatever the engine does."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

import pytest

from engines.engine import Discovery, Engine, EngineLoad, Kind
from engines.registry import ENGINES
from router.probe import (
    JITTER,
    MAX_ANSWER_BYTES,
    MAX_LOAD_PAUSE_S,
    MOST_PER_S,
    Prober,
    Report,
    Target,
)
from router.settings import Probes
from tests.fakes.http_engine import GARBAGE, HANG_UP, SILENCE, Answer, HttpEngine
from tests.fakes.stopped_clock import StoppedClock

VLLM = {
    "/health": Answer(),
    "/v1/models": Answer(b'{"data": [{"id": "llama", "max_model_len": 4096}]}'),
    "/version": Answer(b'{"version": "0.33.0"}'),
    "/metrics": Answer(b'vllm:num_requests_running{engine="0"} 3.0\n'),
}
UNWELL = Answer(b"engine dead", 503)
ORDINARY = Probes()
CERTIFICATES = ssl.create_default_context()


class Notes:
    """Everything that was reported, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, object]] = []

    def report(self) -> Report:
        return Report(
            discovered=lambda id_, discovery: self.all.append((id_, discovery)),
            probed=lambda id_, ok: self.all.append((id_, ok)),
            observed=lambda id_, load: self.all.append((id_, load)),
        )

    def taken(self) -> list[object]:
        """Return what was reported since the last time, without the endpoint."""
        seen, self.all = self.all, []
        return [what for _, what in seen]


@dataclass
class Scene:
    engine: HttpEngine
    prober: Prober
    clock: StoppedClock
    notes: Notes
    target: Target


@asynccontextmanager
async def probed(
    answers: Mapping[str, Answer],
    *,
    kind: Kind = Kind.VLLM,
    engines: Mapping[Kind, Engine] = ENGINES,
    times: Probes = ORDINARY,
    report: Callable[[Notes], Report] = Notes.report,
) -> AsyncIterator[Scene]:
    """Probe one engine; at the start all that can be asked at once was asked."""
    clock, notes = StoppedClock(), Notes()
    loops = 1 if engines[kind].traits.load_path is None else 2
    async with HttpEngine(answers).listening() as engine, asyncio.TaskGroup() as group:
        prober = Prober(group, engines, report(notes), times, Random(1), clock.sleep)
        target = Target("vllm-0", kind, engine.url, {"authorization": "Bearer sk-1"})
        prober.watch(target, CERTIFICATES)
        await clock.asleep(loops)
        yield Scene(engine, prober, clock, notes, target)
        prober.close()


async def test_at_the_start_an_engine_says_what_it_is_before_it_is_called_well():
    async with probed(VLLM) as scene:
        assert scene.notes.taken() == [
            Discovery(models=("llama",), max_context_tokens=4096, version="0.33.0"),
            True,
        ]


async def test_a_well_engine_is_asked_for_its_load_and_not_again_what_it_is():
    async with probed(VLLM) as scene:
        scene.notes.taken()
        await scene.clock.wake(2)
        seen = scene.notes.taken()

        assert True in seen
        assert EngineLoad(running=3) in seen
        assert len(seen) == 2
        assert scene.engine.asked["/v1/models"] == 1


async def test_gauges_that_somebody_else_reads_are_left_alone():
    def elsewhere(notes: Notes) -> Report:
        return replace(notes.report(), reads=lambda _: False)

    async with probed(VLLM, report=elsewhere) as scene:
        await scene.clock.wake(2)

        assert EngineLoad(running=3) not in scene.notes.taken()
        assert scene.engine.asked["/metrics"] == 0


async def test_credentials_are_sent_and_compression_is_not_asked_for():
    async with probed(VLLM) as scene:
        assert scene.engine.headers["authorization"] == "Bearer sk-1"
        assert scene.engine.headers["accept-encoding"] == "identity"


SICK = {
    "says so": (UNWELL, "/health answered 503"),
    "has lost the route": (Answer(b"", 404), "/health answered 404"),
    "redirects": (Answer(b"", 302), "/health answered 302"),
    "talks nonsense": (GARBAGE, "/health: RemoteProtocolError: "),
    "hangs up": (HANG_UP, "/health: RemoteProtocolError: "),
    "never ends": (Answer(b"x" * (MAX_ANSWER_BYTES + 1)), "/health answers more than 4194304"),
}


@pytest.mark.parametrize(("answer", "reason"), SICK.values(), ids=SICK)
async def test_an_engine_is_not_well_when_it(answer, reason, caplog):
    async with probed(VLLM | {"/health": answer}) as scene:
        assert scene.notes.taken() == [False]
        assert set(scene.engine.asked) == {"/health"}
        assert caplog.records[0].__dict__["reason"].startswith(reason)


async def test_an_engine_that_hangs_is_not_well(caplog):
    async with probed(VLLM | {"/health": SILENCE}, times=Probes(timeout_s=0.05)) as scene:
        assert scene.notes.taken() == [False]
        assert caplog.records[0].__dict__["reason"] == "/health gave no answer in 0.05 s"


async def test_an_engine_that_nobody_can_reach_is_not_well():
    async with probed(VLLM) as scene:
        nowhere = replace(scene.target, id="gone", url="http://127.0.0.1:1")
        scene.notes.taken()
        scene.prober.watch(nowhere, CERTIFICATES)
        await scene.clock.asleep(4)

        assert scene.notes.all == [("gone", False)]


async def test_an_engine_that_is_back_is_asked_again_what_it_is():
    async with probed(VLLM) as scene:
        scene.engine.answers["/health"] = Answer(b"", 503)
        await scene.clock.wake(2)
        scene.engine.answers |= {"/health": Answer(), "/version": Answer(b'{"version": "0.34.0"}')}
        scene.notes.taken()
        await scene.clock.wake(2)
        seen = scene.notes.taken()

        assert seen[0] == Discovery(models=("llama",), max_context_tokens=4096, version="0.34.0")
        assert seen[1] is True


async def test_while_an_engine_is_away_its_load_is_not_asked_for():
    async with probed(VLLM | {"/health": UNWELL}) as scene:
        await scene.clock.wake(2)

        assert scene.engine.asked["/metrics"] == 0


async def test_a_path_of_discovery_that_fails_is_left_out():
    async with probed(VLLM | {"/version": Answer(b"", 404)}) as scene:
        assert scene.notes.taken() == [Discovery(("llama",), max_context_tokens=4096), True]


async def test_discovery_that_told_nothing_is_tried_again():
    silent = {path: Answer(b"", 404) for path in ("/v1/models", "/version")}
    async with probed(VLLM | silent) as scene:
        first = scene.notes.taken()
        scene.engine.answers |= VLLM
        await scene.clock.wake(2)

        assert first == [True]
        assert any(isinstance(each, Discovery) for each in scene.notes.taken())


async def test_an_engine_without_gauges_is_only_asked_after_its_health():
    models = Answer(b'{"data": [{"id": "gpt"}]}')
    async with probed({"/v1/models": models}, kind=Kind.OPENAI) as scene:
        await scene.clock.wake(1)

        assert set(scene.engine.asked) == {"/v1/models"}
        assert scene.notes.taken() == [Discovery(models=("gpt",)), True, True]


async def test_gauges_that_cannot_be_read_are_asked_for_less_and_less_often(caplog):
    times = Probes(health_s=1000.0, load_s=1.0)
    caplog.set_level(logging.INFO, "router.probe")
    async with probed(VLLM | {"/metrics": Answer(b"", 404)}, times=times) as scene:
        for _ in range(8):
            await scene.clock.wake(2)
        pauses_s = [pause_s for pause_s in scene.clock.pauses_s if pause_s < 500][1:]
        scene.engine.answers["/metrics"] = VLLM["/metrics"]
        await scene.clock.wake(2)
        pause_after_s = next(p for p in reversed(scene.clock.pauses_s) if p < 500)

        for pause_s, expected_s in zip(pauses_s, [2, 4, 8, 16, 30, 30, 30, 30], strict=True):
            assert pause_s == pytest.approx(expected_s, rel=JITTER)
        assert pause_after_s == pytest.approx(1.0, rel=JITTER)
        assert EngineLoad(running=3) in scene.notes.taken()
        assert [r.getMessage() for r in caplog.records].count("load unknown") == 1
        assert MAX_LOAD_PAUSE_S == 30


async def test_intervals_vary_by_a_fifth_and_no_more():
    times = Probes(health_s=10.0, load_s=10.0)
    async with probed(VLLM, times=times) as scene:
        for _ in range(30):
            await scene.clock.wake(2)

        assert all(8 <= pause_s <= 12 for pause_s in scene.clock.pauses_s)
        assert min(scene.clock.pauses_s) < 9
        assert max(scene.clock.pauses_s) > 11


async def test_a_large_fleet_is_asked_less_often_so_that_asking_stays_cheap():
    async with probed(VLLM, times=Probes(health_s=0.01, load_s=0.01)) as scene:
        for number in range(1, 10):
            scene.prober.watch(replace(scene.target, id=f"vllm-{number}"), CERTIFICATES)
        await scene.clock.asleep(20)
        await scene.clock.wake(20)

        assert scene.clock.pauses_s[-20:] == pytest.approx([10 / MOST_PER_S] * 20, rel=JITTER)


async def test_a_state_that_changes_is_logged_once(caplog):
    caplog.set_level(logging.INFO, "router.probe")
    async with probed(VLLM) as scene:
        await scene.clock.wake(2)
        scene.engine.answers["/health"] = UNWELL
        await scene.clock.wake(2)
        await scene.clock.wake(2)

    assert [(r.levelname, r.getMessage(), r.__dict__.get("reason")) for r in caplog.records] == [
        ("INFO", "probe answered", None),
        ("WARNING", "probe failed", "/health answered 503"),
    ]


async def test_whoever_breaks_on_a_report_does_not_stop_the_probes(caplog):
    broken = True

    def report(notes: Notes) -> Report:
        def probed_(id_: str, ok: bool) -> None:
            if broken:
                raise RuntimeError("a bug elsewhere")
            notes.all.append((id_, ok))

        return replace(notes.report(), probed=probed_)

    async with probed(VLLM, report=report) as scene:
        broken = False
        scene.notes.taken()
        await scene.clock.wake(2)

        assert True in scene.notes.taken()
    assert "probe broke" in [r.getMessage() for r in caplog.records]


async def test_an_endpoint_that_was_forgotten_is_reported_no_more():
    async with probed(VLLM) as scene:
        scene.notes.taken()
        scene.prober.forget("vllm-0")
        scene.prober.forget("vllm-0")
        scene.prober.watch(replace(scene.target, id="vllm-1"), CERTIFICATES)
        await scene.clock.asleep(4)
        await scene.clock.wake(2)

        assert {id_ for id_, _ in scene.notes.all} == {"vllm-1"}


async def test_an_endpoint_that_is_watched_again_is_watched_once():
    async with probed(VLLM) as scene:
        scene.prober.watch(scene.target, CERTIFICATES)
        await scene.clock.asleep(4)
        scene.notes.taken()
        await scene.clock.wake(2)

        assert [each for each in scene.notes.taken() if each is True] == [True]


@pytest.mark.parametrize("kind", Kind)
async def test_every_kind_of_engine_can_be_probed(kind):
    traits = ENGINES[kind].traits
    paths = [traits.health_path, traits.load_path, *traits.discovery_paths]
    answers = {path: Answer(b"{}") for path in paths if path is not None}
    async with probed(answers, kind=kind) as scene:
        await scene.clock.wake(1 if traits.load_path is None else 2)

        assert scene.notes.taken().count(True) == 2
        assert set(scene.engine.asked) == set(answers)
