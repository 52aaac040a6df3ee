"""Drives an emulated engine through a plan of submissions and aborts, in virtual time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random

from hypothesis import strategies as st

from engines.emulator.core import Detail, EmulatedEngine
from engines.emulator.jobs import (
    Event,
    Failed,
    Finished,
    FirstToken,
    Gauges,
    Job,
    Refused,
    Tokens,
)
from engines.emulator.profiles import H100_8B, STEADY, Profile
from engines.emulator.sequence import Step
from engines.emulator.spec import EngineSpec, Knobs, LlamaCpp, Memory, Policy, Sglang, Tgi, Vllm

KNOBS: Mapping[str, Knobs] = {
    "vllm": Vllm(),
    "vllm, few slots": Vllm(max_num_seqs=4, max_num_batched_tokens=128),
    "vllm, priority": Vllm(scheduling_policy=Policy.PRIORITY, max_num_batched_tokens=512),
    "vllm, synchronous": Vllm(async_scheduling=False),
    "vllm, chunks bounded": Vllm(long_prefill_token_threshold=64, scheduler_reserve_full_isl=False),
    "tgi": Tgi(slice_tokens=40, max_batch_prefill_tokens=256),
    "tgi, no chunking": Tgi(prefill_chunking=False, slice_tokens=40, max_batch_size=8),
    "sglang": Sglang(chunked_prefill_size=256),
    "sglang, mixed": Sglang(enable_mixed_chunk=True),
    "sglang, priority": Sglang(
        enable_priority_scheduling=True, max_queued_requests=4, priority_preemption_threshold=1
    ),
    "llamacpp": LlamaCpp(n_batch=128),
}


@dataclass(frozen=True, slots=True)
class Act:
    """Something done to an engine."""

    at_s: float
    submit: Job | None = None
    abort: str | None = None


@dataclass(slots=True)
class Story:
    """What came of it."""

    engine: EmulatedEngine
    events: list[Event] = field(default_factory=list)
    refused: dict[str, Refused] = field(default_factory=dict)
    aborted: set[str] = field(default_factory=set)
    gauges: list[Gauges] = field(default_factory=list)
    """After everything that happened."""

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def finished(self) -> dict[str, Finished]:
        return {event.job_id: event for event in self.of(Finished)}

    @property
    def failed(self) -> dict[str, Failed]:
        return {event.job_id: event for event in self.of(Failed)}

    @property
    def first(self) -> dict[str, float]:
        return {event.job_id: event.at_s for event in self.of(FirstToken)}

    def tokens(self, job_id: str) -> list[Tokens]:
        return [event for event in self.of(Tokens) if event.job_id == job_id]


def play(
    engine: EmulatedEngine, acts: Iterable[Act], until: float = inf, extra: Sequence[float] = ()
) -> Story:
    """Do all acts and let time pass to the end; `extra` are moments to ask in between."""
    story = Story(engine)
    due = sorted(acts, key=lambda act: act.at_s)
    asks = sorted(extra)
    while True:
        now = min(
            _or_inf(engine.next_event()),
            due[0].at_s if due else inf,
            asks[0] if asks else inf,
        )
        if now > until or now == inf:
            return story
        if asks and asks[0] == now:
            asks.pop(0)
        if due and due[0].at_s == now:
            _do(due.pop(0), story)
        story.events += engine.advance(now)
        story.gauges.append(engine.gauges())


def submits(*jobs: Job, at_s: float = 0.0, apart_s: float = 0.0) -> list[Act]:
    """Submit jobs one after another."""
    return [Act(at_s + index * apart_s, submit=job) for index, job in enumerate(jobs)]


def engine(
    knobs: Knobs,
    profile: Profile = STEADY,
    kv_tokens: int | None = None,
    detail: Detail = Detail.SUMMARY,
    seed: int = 1,
    memory: Memory | None = None,
) -> EmulatedEngine:
    """Make an engine."""
    memory = memory or Memory(kv_tokens=kv_tokens)
    return EmulatedEngine(EngineSpec(profile, knobs, memory), Random(seed), detail)


@st.composite
def plans(draw, most=25):
    """Return a plan of jobs and aborts whose prompts share prefixes, within about two seconds."""
    rng = Random(draw(st.integers(0, 2**32)))
    acts: list[Act] = []
    at_s = 0.0
    for index in range(draw(st.integers(1, most))):
        at_s += rng.expovariate(30)
        prompt = rng.randint(1, 500)
        family = rng.randint(0, 3)
        job = Job(
            id=str(index),
            prompt_tokens=prompt,
            output_tokens=rng.randint(1, 150),
            max_tokens=rng.choice([None, 30, 200]),
            priority=rng.randint(0, 5),
            prefix=tuple(family * 1000 + block for block in range(prompt // 16)),
        )
        acts.append(Act(at_s, submit=job))
        if rng.random() < 0.15:
            acts.append(Act(at_s + rng.expovariate(4), abort=str(index)))
    return acts


def tight_engine(knobs: Knobs, seed: int, detail: Detail = Detail.SUMMARY) -> EmulatedEngine:
    """Make a noisy engine whose memory is short for every third seed."""
    return engine(knobs, H100_8B, [1200, 4000, 100_000][seed % 3], detail, seed)


def _do(act: Act, story: Story) -> None:
    if act.submit is not None:
        answer = story.engine.submit(act.submit, act.at_s)
        if isinstance(answer, Refused):
            story.refused[act.submit.id] = answer
    if act.abort is not None and story.engine.abort(act.abort, act.at_s):
        story.aborted.add(act.abort)


def _or_inf(at_s: float | None) -> float:
    return inf if at_s is None else at_s


def refusal(subject: EmulatedEngine, job: Job, at_s: float = 0.0) -> Refused:
    """Submit a job that must be refused; return how."""
    answer = subject.submit(job, at_s)
    assert isinstance(answer, Refused), answer
    return answer


def steps_of(subject: EmulatedEngine) -> list[Step]:
    """Return a list that every step planned from then on is put into."""
    planned: list[Step] = []
    plan = subject._scheduler.plan

    def noting() -> Step | None:
        step = plan()
        if step is not None:
            planned.append(step)
        return step

    subject._scheduler.plan = noting  # type: ignore[method-assign]  # looks in from outside
    return planned
