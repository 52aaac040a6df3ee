"""An emulated engine in virtual time: submit, abort, advance; nothing here waits or looks around.

    engine.submit(job, now) -> Accepted | Refused        engine.next_event() -> time | None
    engine.abort(job_id, now) -> bool                    engine.advance(now) -> events up to `now`

`now` never goes back. What happens depends on what was submitted and aborted when, not on how
often `advance` is called, and on nothing else but the random source that was handed in.
"""

from dataclasses import dataclass
from enum import Enum
from heapq import heapify, heappop, heappush
from math import inf, nextafter
from random import Random

from engines.emulator.front import ApiServer, Deliveries
from engines.emulator.jobs import (
    Accepted,
    Event,
    Failed,
    FailureCause,
    Finished,
    FirstToken,
    Gauges,
    Job,
    RefusalCause,
    Refused,
    Tokens,
)
from engines.emulator.loop import StepLoop
from engines.emulator.sequence import Sequence, Step, valid
from engines.emulator.spec import HEALTHY, EngineSpec, Faults

_GOLDEN = 0.6180339887498949
"""Its multiples, modulo 1, spread evenly however many there are."""


class Detail(Enum):
    """What is reported of a job."""

    SUMMARY = "summary"
    """First token and end: many steps are passed over at once."""
    TOKENS = "tokens"
    """Every token as well; the other events are the same."""


@dataclass(slots=True)
class _Tally:
    """What an engine has done so far."""

    steps: int = 0
    prefill_steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    finished: int = 0
    failed: int = 0
    aborted: int = 0
    refused: int = 0


class EmulatedEngine:
    """One engine. All state is changed here, in methods that take the time as an argument."""

    def __init__(self, spec: EngineSpec, rng: Random, detail: Detail = Detail.SUMMARY) -> None:
        self.spec = spec
        self.faults = HEALTHY
        self._detail = detail
        self._loop = StepLoop(spec, rng)
        self._scheduler = self._loop.scheduler
        self._api = ApiServer(spec.profile.front)
        self._deliveries = Deliveries()
        self._jobs: dict[str, Sequence] = {}
        """Jobs whose end has not been delivered."""
        self._aborted: list[Sequence] = []
        """Aborted while in a step; freed when that is complete."""
        self._outbox: list[tuple[float, int, Event]] = []
        self._delivered: list[Event] = []
        self._posted = 0
        self._submitted = 0
        self._now = -inf
        self._hung_at: float | None = None
        self._resumed_at = -inf
        self._frozen: Gauges | None = None
        self._tally = _Tally()
        self._watch()

    @property
    def jobs(self) -> int:
        """Jobs that have been taken and whose end has not been delivered."""
        return len(self._jobs)

    def holds(self, job_id: str) -> bool:
        """Say whether a job's end is yet to be delivered."""
        return job_id in self._jobs

    def submit(self, job: Job, now: float) -> Accepted | Refused:
        """Hand a job in. An accepted one ends with one Finished or Failed, unless aborted."""
        self._catch_up(now)
        if job.id in self._jobs:
            raise ValueError(f"job {job.id!r} is here already")
        refused = self._refuse(job)
        if refused is not None:
            self._tally.refused += 1
            return refused
        sequence = self._sequence(job, now)
        self._jobs[job.id] = sequence
        self._api.accept(now, sequence)
        return Accepted()

    def abort(self, job_id: str, now: float) -> bool:
        """Give a job up; no event of it follows. False where it is not here.

        One that waits is gone at once, one in a step frees its memory when that is complete.
        """
        self._catch_up(now)
        sequence = self._jobs.pop(job_id, None)
        if sequence is None:
            return False
        self._tally.aborted += 1
        self._purge({job_id})
        self._delivered = [event for event in self._delivered if event.job_id != job_id]
        if self._loop.flight and sequence in self._scheduler.places:
            sequence.is_given_up = True
            self._aborted.append(sequence)
            self._watch()
        else:
            self._forget(sequence)
        return True

    def set_faults(self, faults: Faults, now: float) -> None:
        """Break the engine, or mend it."""
        self._catch_up(now)
        if faults.frozen_metrics and not self.faults.frozen_metrics:
            self._frozen = self.gauges()
        if faults.hang != self.faults.hang:
            self._hang(now, hang=faults.hang)
        dies = faults.dead and not self.faults.dead
        self.faults = faults
        self._watch()
        self._loop.clockwork.slow_factor = faults.slow_factor
        if dies:
            self.fail_all(now, FailureCause.DIED)

    def fail_all(self, now: float, cause: FailureCause) -> None:
        """Fail every job that is here, at once."""
        self._catch_up(now)
        self._fail(list(self._jobs.values()), now, cause)
        self._loop.clear(now)
        self._deliver(now)

    def next_event(self) -> float | None:
        """Return a time before which there is nothing to report; None where nothing is coming.

        At that time there may be nothing yet: advance, and ask again.
        """
        times = [self._outbox[0][0]] if self._outbox else []
        if self._delivered:
            times.append(self._now)
        if self._hung_at is None:
            if self._loop.flight:
                times.append(self._bound())
            if self._api.incoming and self._loop.has_room:
                times.append(max(self._api.next_ready_s(), self._resumed_at))
        return min(times, default=None)

    def step_ends_s(self) -> float | None:
        """Return when the step that runs is complete: infinite in a hang, None where none runs."""
        if not self._loop.flight:
            return None
        return self._loop.flight[0].done_s if self._hung_at is None else inf

    def advance(self, now: float) -> list[Event]:
        """Let time pass; return what has been delivered since the last call, in order."""
        self._catch_up(now)
        events, self._delivered = self._delivered, []
        return events

    def gauges(self) -> Gauges:
        """Return what the engine says of itself, as of the latest call."""
        if self.faults.frozen_metrics and self._frozen is not None:
            return self._frozen
        scheduler, tally = self._scheduler, self._tally
        blocks = scheduler.blocks
        return Gauges(
            running=len(scheduler.places),
            waiting=scheduler.waiting + len(self._api.incoming),
            kv_capacity_tokens=blocks.total * blocks.block_tokens,
            kv_used_tokens=blocks.used * blocks.block_tokens,
            max_running=scheduler.max_running,
            steps=tally.steps,
            prefill_steps=tally.prefill_steps,
            prompt_tokens=tally.prompt_tokens,
            cached_tokens=tally.cached_tokens,
            generated_tokens=tally.generated_tokens,
            preemptions=scheduler.preemptions,
            finished=tally.finished,
            failed=tally.failed,
            aborted=tally.aborted,
            refused=tally.refused,
        )

    def _refuse(self, job: Job) -> Refused | None:
        faults = self.faults
        if faults.dead:
            return Refused(RefusalCause.DEAD)
        if faults.draining:
            return Refused(RefusalCause.DRAINING, 500)
        if faults.refuse_status is not None:
            return Refused(RefusalCause.TOLD_TO, faults.refuse_status)
        return self._scheduler.refuse(job, held=len(self._jobs))

    def _sequence(self, job: Job, now: float) -> Sequence:
        self._submitted += 1
        limit = self.faults.reset_after_tokens
        cut = limit is not None and limit < job.length
        end = limit if limit is not None and cut else job.length
        return Sequence(
            job=job,
            order=self._submitted,
            arrived_s=now,
            spread=self._submitted * _GOLDEN % 1.0,
            prompt=job.prompt_tokens,
            end=end,
            target=end,
            cut=cut,
        )

    def _catch_up(self, now: float) -> None:
        """Complete and plan steps up to `now`."""
        if now < self._now:
            raise ValueError(f"time goes back from {self._now} to {now}")
        self._now = now
        if self._hung_at is None:
            while (at := self._boundary()) <= now:
                self._decide(at, now)
        if self._outbox:
            self._deliver(now)

    def _boundary(self) -> float:
        """Return when there is next something to decide."""
        flight = self._loop.flight
        at = flight[0].done_s if flight else inf
        if self._api.incoming and self._loop.has_room:
            return min(at, max(self._api.next_ready_s(), self._resumed_at))
        return at

    def _decide(self, at: float, now: float) -> None:
        """Complete the step that is done at `at`, if any, and plan; or pass over many, to `now`."""
        loop = self._loop
        if loop.flight and loop.flight[0].done_s <= at:
            if loop.flight[0].is_plain and not self._is_watched and self._coast(now):
                return
            self._complete(loop.complete())
        if self._api.incoming:
            self._let_in(at)
        loop.plan(at)

    def _bound(self) -> float:
        loop = self._loop
        if self._is_watched or (self._api.incoming and self._scheduler.evicts):
            return loop.flight[0].done_s
        return loop.bound(still=not self._api.incoming)

    def _watch(self) -> None:
        """Find out whether every step matters."""
        self._is_watched = (
            self._detail is Detail.TOKENS or bool(self._aborted) or self.faults.fail_steps
        )

    def _coast(self, now: float) -> bool:
        """Pass over plain steps up to `now`, or up to the next arrival."""
        until = now
        if self._api.incoming:
            until = min(now, nextafter(self._api.next_ready_s(), -inf))
        times = self._loop.coast(until)
        if not times:
            return False
        tokens = self._scheduler.batch.size
        begun = self._api.send_all(times, tokens)
        self._deliveries.extend(begun, tokens * self._api.event_s)
        self._tally.steps += len(times)
        self._tally.generated_tokens += len(times) * tokens
        return True

    def _let_in(self, now: float) -> None:
        """Give the scheduler the jobs that the API server is through with."""
        for sequence in self._api.let_in(now):
            evicted = self._scheduler.enqueue(sequence)
            self._fail(evicted, now, FailureCause.EVICTED)

    def _complete(self, step: Step) -> None:
        """Deliver what a step yields and free what it lets go."""
        if self.faults.fail_steps:
            self._fail(list(self._scheduler.places), step.done_s, FailureCause.STEP_FAILED)
        first, leaving = valid(step.first), valid(step.leaving)
        tokens = step.decodes + len(first)
        at_s = self._api.send(step.done_s, tokens)
        width_s = tokens * self._api.event_s
        self._count(step, first, tokens)
        if step.decodes:
            self._deliveries.add(at_s, width_s)
        for sequence in first:
            if not sequence.is_given_up:
                self._first(sequence, at_s + sequence.spread * width_s)
        if self._detail is Detail.TOKENS and step.decodes:
            self._report(step.clock)
        again = self._scheduler.settle(step)
        for sequence in leaving:
            if sequence not in again and not sequence.is_given_up:
                self._api.close()
                self._finish(sequence)
        self._clean_up()

    def _clean_up(self) -> None:
        """Free what was given up while the step ran."""
        if self._aborted:
            for sequence in self._aborted:
                self._forget(sequence)
            self._aborted.clear()
            self._watch()
        if self._deliveries.is_full:
            self._trim()

    def _count(self, step: Step, first: list[Sequence], tokens: int) -> None:
        tally = self._tally
        tally.steps += 1
        tally.generated_tokens += tokens
        if step.prefill:
            tally.prefill_steps += 1
            tally.prompt_tokens += step.prefill
        tally.cached_tokens += sum(seq.cached_tokens for seq in first if seq.first_s is None)

    def _first(self, sequence: Sequence, at_s: float) -> None:
        """Deliver the token that ends a prefill: the very first one, or one of a later stay."""
        sequence.has_first = True
        if sequence.first_s is None:
            at_s = self._api.open(sequence.job.prompt_tokens) + self.faults.first_token_delay_s
            sequence.first_s = sequence.last_s = at_s
            self._post(FirstToken(sequence.job.id, at_s))
        else:
            if sequence.interrupted is not None:
                self._fold(sequence, *sequence.interrupted)
                sequence.interrupted = None
            sequence.slowest_gap_s = max(sequence.slowest_gap_s, at_s - sequence.last_s)
            sequence.last_s = max(sequence.last_s, at_s)
        if self._detail is Detail.TOKENS:
            self._post(Tokens(sequence.job.id, sequence.last_s, sequence.produced))

    def _report(self, clock: int) -> None:
        """Deliver the tokens of one decode step one by one."""
        for sequence in self._scheduler.batch.members:
            is_in = sequence.joined < clock <= sequence.leave_at and not sequence.is_given_up
            if is_in and sequence.first_s is not None:
                at_s = max(self._deliveries.at(clock, sequence.spread), sequence.first_s)
                index = sequence.produced + clock - sequence.joined
                self._post(Tokens(sequence.job.id, at_s, index))

    def _fold(self, sequence: Sequence, joined: int, until: int) -> None:
        """Take the decode steps after `joined` up to `until` into a sequence's own record."""
        if until > joined:
            deliveries = self._deliveries
            gap_s = deliveries.at(joined + 1, sequence.spread) - sequence.last_s
            later_s = deliveries.slowest_gap_s(joined + 1, until)
            sequence.slowest_gap_s = max(sequence.slowest_gap_s, gap_s, later_s)
            sequence.last_s = max(sequence.last_s, deliveries.at(until, sequence.spread))

    def _finish(self, sequence: Sequence) -> None:
        if sequence.decoding:
            self._fold(sequence, sequence.joined, sequence.leave_at)
        produced = sequence.tokens(self._scheduler.batch.completed)
        at_s, job_id = sequence.last_s, sequence.job.id
        if sequence.cut:
            self._tally.failed += 1
            self._post(Failed(job_id, at_s, FailureCause.RESET, produced))
            return
        self._tally.finished += 1
        self._post(
            Finished(
                job_id=job_id,
                at_s=at_s,
                first_token_s=sequence.first_s if sequence.first_s is not None else at_s,
                output_tokens=produced,
                slowest_gap_s=sequence.slowest_gap_s,
                queued_s=(sequence.started_s or at_s) - sequence.arrived_s,
                cached_tokens=sequence.cached_tokens,
                preemptions=sequence.preemptions,
            )
        )

    def _fail(self, sequences: list[Sequence], now: float, cause: FailureCause) -> None:
        """End jobs without an answer; what they were yet to be given is not delivered."""
        failing = [sequence for sequence in sequences if sequence.job.id in self._jobs]
        self._purge({sequence.job.id for sequence in failing})
        for sequence in failing:
            produced = sequence.tokens(self._scheduler.batch.completed)
            self._post(Failed(sequence.job.id, now, cause, produced))
            self._tally.failed += 1
            self._forget(sequence)

    def _forget(self, sequence: Sequence) -> None:
        """Take a job out of everything but the list of jobs."""
        self._api.forget(sequence)
        self._scheduler.drop(sequence)
        sequence.stay += 1

    def _trim(self) -> None:
        """Forget deliveries that no job needs any more."""
        needed = self._scheduler.batch.completed
        for sequence in self._jobs.values():
            if sequence.interrupted is not None:
                needed = min(needed, sequence.interrupted[0])
            if sequence.decoding:
                needed = min(needed, sequence.joined)
        self._deliveries.forget(needed)

    def _hang(self, now: float, *, hang: bool) -> None:
        if hang:
            self._hung_at = now
        elif self._hung_at is not None:
            self._loop.shift(now - self._hung_at)
            self._hung_at = None
            self._resumed_at = now

    def _post(self, event: Event) -> None:
        self._posted += 1
        heappush(self._outbox, (event.at_s, self._posted, event))

    def _purge(self, job_ids: set[str]) -> None:
        """Take back what has not been delivered yet."""
        self._outbox = [entry for entry in self._outbox if entry[2].job_id not in job_ids]
        heapify(self._outbox)

    def _deliver(self, now: float) -> None:
        while self._outbox and self._outbox[0][0] <= now:
            event = heappop(self._outbox)[2]
            self._delivered.append(event)
            if isinstance(event, Finished | Failed):
                self._jobs.pop(event.job_id, None)
