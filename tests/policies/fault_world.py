"""A pool in virtual time whose endpoints' true state is known, to hold the dispatcher's judgement to.

One endpoint breaks at some moment and is mended at another. All the while healthy ones do what
healthy engines do as well: stand still for a long prompt, refuse for want of room, fail a request
that is at fault itself, lose callers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from random import Random

from policies.commands import Send
from policies.dispatcher import Dispatcher
from policies.facts import Ending, EndpointPlan, FailureKind, Profile, RequestFacts, SlaClass, Wish
from policies.flight import Flight
from policies.health import State
from policies.policy import Policy

TICK_S = 0.25
SECONDS = 22.0
SLOTS = 8
FIRST_TOKEN_LIMIT_S = 10.0
IDLE_S = 5.0
READER_PER_S = 30_000.0
"""Bytes of prompts that an engine reads a second,"""
SLOW_READER_PER_S = 2_500.0
"""and one on a CPU."""
LONG_S = 0.5
"""A prompt that takes so long to read keeps all others from their tokens there."""
PROBE_S = 2.0
CANARY_S = 10.0
CANARY_LIMIT_S = 2.0


class Kind(StrEnum):
    """What may befall an endpoint."""

    FROZEN = "frozen"
    """Nothing moves; health answers."""
    SILENT = "silent"
    """Nothing moves, and health does not answer either."""
    DEAD = "dead"
    """Connections are refused."""
    FAILING = "failing"
    """Every request is answered with a failure."""
    SLOW = "slow"
    """Every token takes five times as long."""
    BUSY = "busy"
    """Every request is refused for want of room: that is no sickness."""


DELAY_S = {
    Kind.FROZEN: 3.5,
    Kind.SILENT: 3.5,
    Kind.DEAD: 2.0,
    Kind.FAILING: 3.0,
    Kind.SLOW: 8.0,
}
"""After so long each must have been noticed, where there was traffic."""
BACK_S = 8.0
"""So long after its mending an endpoint may still be held for sick."""


@dataclass(slots=True)
class Task:
    """One request at an endpoint."""

    flight: Flight
    tokens: int
    first_at: float
    """Work left to the first token, s."""
    done: float = 0.0
    """Tokens made."""
    counted: int = 0
    moved_at: float = 0.0
    poison: bool = False


@dataclass(slots=True)
class Engine:
    """One endpoint as it truly is."""

    id: str
    per_token_s: float
    kind: Kind | None = None
    breaks_at: float = inf
    mends_at: float = inf
    pause_until: float = 0.0
    """Healthy, and computing one long prompt."""
    tasks: list[Task] = field(default_factory=list)
    steps: float = 0.0
    counts: bool = True
    """It has a counter that can be read."""

    def fault(self, now: float) -> Kind | None:
        """Return what is wrong with it."""
        return self.kind if self.breaks_at <= now < self.mends_at else None


def _reads_long(engine: Engine) -> Task | None:
    """Return the request whose prompt is being read to the exclusion of all others."""
    return next((task for task in engine.tasks if task.first_at > LONG_S), None)


@dataclass(slots=True)
class Verdict:
    """What came of one schedule."""

    kind: Kind
    healthy: int = 0
    """Endpoints that never broke, and were judged."""
    false: list[str] = field(default_factory=list)
    """Those of them that were taken out, and why."""
    judged: bool = False
    """The fault lasted long enough, under traffic, to be seen."""
    missed: bool = False
    back: bool = True
    """It was used again in time, where it was mended early enough."""


class World:
    """One schedule."""

    def __init__(self, seed: int, *, reads_slowly: bool = False) -> None:
        """`reads_slowly`: engines as on CPUs, which give nobody a token while they read a prompt."""
        self.rng = rng = Random(seed)
        self.reads_slowly = reads_slowly
        count = rng.choice((3, 3, 4, 5))
        base_s = rng.uniform(0.01, 0.04)
        self.engines = {
            f"e{number}": Engine(f"e{number}", base_s * rng.uniform(0.8, 1.4))
            for number in range(count)
        }
        counts = rng.random() < 0.7
        for engine in self.engines.values():
            engine.counts = counts
        self.sick = rng.choice(list(self.engines.values()))
        self.sick.kind = rng.choice(list(Kind))
        self.sick.breaks_at = rng.uniform(4.0, 7.0)
        self.sick.mends_at = self.sick.breaks_at + rng.uniform(1.0, 12.0)
        self.rate = rng.uniform(1.5, 4.0) * count
        plans = [
            EndpointPlan(
                id=id_,
                pool="p",
                profile=Profile.THROUGHPUT,
                models=frozenset({"m"}),
                offers=frozenset(),
                max_in_flight=SLOTS,
            )
            for id_ in self.engines
        ]
        self.dispatcher = Dispatcher(plans, Policy(), Random(seed), watched=True)
        self.now = 0.0
        self.canaries: dict[str, float] = {}
        self.sent_while_sick = 0
        self.noticed_at = inf
        self.verdict = Verdict(self.sick.kind)
        self._false: Counter[str] = Counter()
        self._next_probe = {id_: rng.uniform(0, PROBE_S) for id_ in self.engines}
        self._next_read = {id_: rng.uniform(0, 1) for id_ in self.engines}

    def run(self) -> Verdict:
        """Play it."""
        while self.now < SECONDS:
            self.now += TICK_S
            self._arrive()
            for engine in self.engines.values():
                self._work(engine)
                self._ask_after(engine)
            self.dispatcher.watch(self.now)
            self._canaries()
            self._take(self.dispatcher.due(self.now))
            self._judge()
        return self._summed()

    def _arrive(self) -> None:
        due = self.rate * TICK_S
        number = int(due) + (self.rng.random() < due % 1.0)
        for _ in range(number):
            facts = RequestFacts(
                id="r",
                model="m",
                needs=frozenset(),
                prompt_bytes=self._prompt_bytes(),
                streams=self.rng.random() < 0.75,
                wish=Wish(self.rng.choice(list(SlaClass))),
            )
            self._take([self.dispatcher.arrive(facts, self.now)])

    def _prompt_bytes(self) -> int:
        if not self.reads_slowly:
            return self.rng.randint(40, 8000)
        return (
            self.rng.randint(40, 400)
            if self.rng.random() < 0.95
            else self.rng.randint(2000, 12_000)
        )

    def _take(self, answers: Iterable[object]) -> None:
        for answer in answers:
            if isinstance(answer, Send):
                self._send(answer.flight)

    def _send(self, flight: Flight) -> None:
        engine = self.engines[flight.endpoint.id]
        fault = engine.fault(self.now)
        if fault is not None:
            self.sent_while_sick += 1
        if fault is Kind.DEAD:
            self._failed(flight, FailureKind.NOT_REACHED)
        elif fault is Kind.BUSY or (fault is None and self.rng.random() < 0.01):
            self._failed(flight, FailureKind.BUSY)
        else:
            tokens = self.rng.randint(8, 120)
            per_s = SLOW_READER_PER_S if self.reads_slowly else READER_PER_S
            first_s = self.rng.uniform(0.05, 0.3) + flight.ask.facts.prompt_bytes / per_s
            task = Task(flight, tokens, first_s, moved_at=self.now)
            task.poison = self.rng.random() < 0.004
            engine.tasks.append(task)

    def _failed(self, flight: Flight, kind: FailureKind) -> None:
        self._take([self.dispatcher.failed(flight, kind, self.now)])

    def _work(self, engine: Engine) -> None:
        fault = engine.fault(self.now)
        if fault in (Kind.FROZEN, Kind.SILENT):
            self._time_out(engine)
        elif fault is Kind.DEAD:
            tasks, engine.tasks = engine.tasks, []
            for task in tasks:
                self._break(task)
        elif self.now >= engine.pause_until:
            self._step(engine, fault)

    def _step(self, engine: Engine, fault: Kind | None) -> None:
        rng = self.rng
        if rng.random() < 0.01:
            # It works at least once before the next one.
            engine.pause_until = self.now + rng.uniform(0.1, 0.7)
        if self.reads_slowly and (reading := _reads_long(engine)):
            reading.first_at -= TICK_S / (5.0 if fault is Kind.SLOW else 1.0)
            return
        engine.steps += bool(engine.tasks)
        share_s = TICK_S / (5.0 if fault is Kind.SLOW else 1.0)
        load = 1.0 + 0.5 * len(engine.tasks) / SLOTS
        tasks, engine.tasks = engine.tasks, []
        for task in tasks:
            if fault is Kind.FAILING or (task.poison and task.first_at <= 0):
                self._break(task)
            elif self._advance(task, share_s, engine.per_token_s * load * rng.uniform(0.8, 1.25)):
                engine.tasks.append(task)

    def _advance(self, task: Task, share_s: float, per_token_s: float) -> bool:
        """Work at one request; return whether it goes on."""
        flight, streams = task.flight, task.flight.ask.facts.streams
        if self.rng.random() < 0.004:
            self.dispatcher.ended(flight, Ending.ABANDONED, self.now)
            return False
        if self.reads_slowly and task.flight.sent_at == self.now:
            return True  # no first token takes no time
        if task.first_at > 0:
            task.first_at -= share_s
            if task.first_at > 0:
                return True
            if streams:
                self.dispatcher.first_token(flight, self.now)
        task.moved_at = self.now
        task.done = min(task.tokens, task.done + share_s / per_token_s)
        fresh = int(task.done) - task.counted
        if streams and fresh:
            task.counted += fresh
            self.dispatcher.progressed(flight, fresh, self.now)
        if task.done < task.tokens:
            return True
        self.dispatcher.ended(flight, Ending.COMPLETED, self.now, output_tokens=task.tokens)
        return False

    def _time_out(self, engine: Engine) -> None:
        tasks, engine.tasks = engine.tasks, []
        for task in tasks:
            limit_s = FIRST_TOKEN_LIMIT_S if task.first_at > 0 else IDLE_S
            if self.now - task.moved_at <= limit_s:
                engine.tasks.append(task)
            elif task.flight.first_token_at is None:
                self._failed(task.flight, FailureKind.FIRST_TOKEN_TIMEOUT)
            else:
                self.dispatcher.ended(task.flight, Ending.FAILED, self.now)

    def _break(self, task: Task) -> None:
        if task.flight.first_token_at is None:
            self._failed(task.flight, FailureKind.BROKEN)
        else:
            self.dispatcher.ended(task.flight, Ending.FAILED, self.now)

    def _ask_after(self, engine: Engine) -> None:
        fault = engine.fault(self.now)
        if self.now >= self._next_probe[engine.id]:
            self._next_probe[engine.id] += PROBE_S
            self.dispatcher.probed(engine.id, fault not in (Kind.DEAD, Kind.SILENT), self.now)
        if self.now >= self._next_read[engine.id]:
            self._next_read[engine.id] += 1.0
            answers = engine.counts and not (self.reads_slowly and _reads_long(engine))
            if fault not in (Kind.DEAD, Kind.SILENT) and answers:
                load = Reading(engine.steps)
                self.dispatcher.observed(engine.id, load, self.now)

    def _canaries(self) -> None:
        for id_ in self.dispatcher.canaries(self.now, CANARY_S):
            self.canaries[id_] = self.now
        for id_, sent_at in list(self.canaries.items()):
            fault = self.engines[id_].fault(self.now)
            well: bool | None = True
            if fault in (Kind.FROZEN, Kind.SILENT):
                if self.now - sent_at < CANARY_LIMIT_S:
                    continue
                well = False
            elif fault in (Kind.DEAD, Kind.FAILING):
                well = False
            del self.canaries[id_]
            self.dispatcher.canary_ended(id_, well, self.now)

    def _judge(self) -> None:
        sick, now = self.sick, self.now
        for id_, engine in self.engines.items():
            health = self.dispatcher.endpoints[id_].health
            out = health.state in (State.DOWN, State.TRIAL)
            if engine is not sick or now < sick.breaks_at or sick.kind is Kind.BUSY:
                if out:
                    self._false[f"{id_} {health.cause} {sick.kind}"] += 1
            elif out and sick.fault(now) is not None:
                self.noticed_at = min(self.noticed_at, now)
            elif out and now > sick.mends_at + BACK_S:
                self.verdict.back = False

    def _summed(self) -> Verdict:
        verdict, sick = self.verdict, self.sick
        verdict.healthy = len(self.engines) - (sick.kind is not Kind.BUSY)
        verdict.false = sorted(self._false)
        if sick.kind is not None and sick.kind in DELAY_S:
            delay_s = DELAY_S[sick.kind]
            lasted_s = sick.mends_at - sick.breaks_at
            verdict.judged = lasted_s > delay_s + TICK_S and self.sent_while_sick > 0
            verdict.missed = verdict.judged and self.noticed_at > sick.breaks_at + delay_s
        return verdict


@dataclass(frozen=True, slots=True)
class Reading:
    """An engine's gauges."""

    progress: float | None
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None


@dataclass(slots=True)
class Tally:
    """Many schedules."""

    schedules: int = 0
    healthy: int = 0
    false: int = 0
    judged: int = 0
    missed: int = 0
    late: int = 0
    """Endpoints that were not used again in time."""
    why: Counter[str] = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Take in one."""
        self.schedules += 1
        self.healthy += verdict.healthy
        self.false += bool(verdict.false)
        self.judged += verdict.judged
        self.missed += verdict.missed
        self.late += not verdict.back
        self.why.update(f"false: {each.split(' ', 1)[1]}" for each in verdict.false)
        if verdict.missed:
            self.why[f"missed: {verdict.kind}"] += 1
        if not verdict.back:
            self.why[f"late: {verdict.kind}"] += 1

    def join(self, other: "Tally") -> None:
        """Take in all that another one counted."""
        self.schedules += other.schedules
        self.healthy += other.healthy
        self.false += other.false
        self.judged += other.judged
        self.missed += other.missed
        self.late += other.late
        self.why += other.why


def play(seeds: Iterable[int], *, reads_slowly: bool = False) -> Tally:
    """Play schedules by their seeds."""
    tally = Tally()
    for seed in seeds:
        tally.add(World(seed, reads_slowly=reads_slowly).run())
    return tally
