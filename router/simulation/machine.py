"""One emulated engine as the router's side of the world holds it: its jobs, faults and gauges."""

from math import inf
from random import Random

from engines.emulator.core import EmulatedEngine
from engines.emulator.jobs import Event, FailureCause, Job, RefusalCause, Refused
from engines.emulator.spec import Faults, Knobs, Policy, Sglang, Vllm
from engines.engine import EngineLoad
from policies.facts import FailureKind
from router.simulation.fleet import Member
from router.simulation.trip import Trip
from router.workload.settings import Fault, FaultName

RANK_STEP = 8
"""Engine priorities from one class to the next, as the adapters of vLLM and SGLang write them."""


class Machine:
    """One engine of the fleet."""

    def __init__(self, member: Member, rng: Random) -> None:
        self.id = member.plan.id
        self.pool = member.plan.pool
        self.engine = EmulatedEngine(member.spec, rng)
        self.trips: dict[str, Trip] = {}
        """By the id of the job that each has here."""
        self.next_event_at = inf
        """When the engine has something to tell."""
        self._priority = _priority_sign(member.spec.knobs)
        self._jobs = 0

    def submit(self, trip: Trip, rank: int, now: float) -> FailureKind | None:
        """Hand a request in; return why the engine did not take it, None where it did."""
        self._jobs += 1
        offer = trip.offer
        job = Job(
            id=f"{self._jobs}",
            prompt_tokens=offer.prompt_tokens,
            output_tokens=offer.output_tokens,
            max_tokens=offer.max_tokens,
            priority=self._priority * RANK_STEP * rank,
            prefix=offer.prefix,
        )
        answer = self.engine.submit(job, now)
        self._look_ahead(now)
        if isinstance(answer, Refused):
            return refusal_kind(answer)
        trip.machine, trip.job_id = self, job.id
        self.trips[job.id] = trip
        return None

    def abort(self, trip: Trip, now: float) -> None:
        """Close the connection of a request that is here."""
        del self.trips[trip.job_id]
        self.engine.abort(trip.job_id, now)
        self._look_ahead(now)

    def advance(self, now: float) -> list[Event]:
        """Let time pass; return what the engine has to tell."""
        events = self.engine.advance(now)
        self._look_ahead(now)
        return events

    def set_faults(self, faults: Faults, now: float) -> None:
        """Break the engine, or mend it."""
        self.engine.set_faults(faults, now)
        self._look_ahead(now)

    @property
    def is_well(self) -> bool:
        """What a health check says: a hung engine passes it."""
        return not self.engine.faults.dead

    def load(self) -> EngineLoad:
        """Return the gauges as a scrape would."""
        gauges = self.engine.gauges()
        return EngineLoad(
            running=gauges.running,
            waiting=gauges.waiting,
            kv_usage=gauges.kv_usage,
            kv_capacity_tokens=gauges.kv_capacity_tokens,
            progress=float(gauges.generated_tokens + gauges.prompt_tokens),
            preemptions=float(gauges.preemptions),
        )

    def _look_ahead(self, now: float) -> None:
        at = self.engine.next_event()
        self.next_event_at = inf if at is None else max(at, now)


def faults_of(fault: Fault) -> Faults:
    """Return what a workload's fault means to an emulated engine."""
    by_name = {
        FaultName.DEAD: Faults(dead=True),
        FaultName.HANG: Faults(hang=True),
        FaultName.SLOW: Faults(slow_factor=fault.factor),
        FaultName.BUSY: Faults(refuse_status=429),
        FaultName.BROKEN: Faults(refuse_status=500),
        FaultName.CUT: Faults(reset_after_tokens=max(1, int(fault.factor))),
        FaultName.FROZEN_METRICS: Faults(frozen_metrics=True),
    }
    return by_name[fault.fault]


def refusal_kind(refused: Refused) -> FailureKind:
    """Return what the router makes of an engine's refusal."""
    match refused.cause:
        case RefusalCause.OVERLOADED | RefusalCause.QUEUE_FULL:
            return FailureKind.BUSY
        case RefusalCause.TOO_LONG:
            return FailureKind.REJECTED
        case RefusalCause.DEAD:
            return FailureKind.NOT_REACHED
        case RefusalCause.DRAINING:
            return FailureKind.BROKEN
        case RefusalCause.TOLD_TO:
            return FailureKind.BUSY if refused.status in (429, 503) else FailureKind.BROKEN


def failure_kind(cause: FailureCause) -> FailureKind:
    """Return what the router makes of a job that broke before its first token."""
    match cause:
        case FailureCause.EVICTED:
            return FailureKind.BUSY
        case FailureCause.STEP_FAILED | FailureCause.RESET | FailureCause.DIED:
            return FailureKind.BROKEN


def _priority_sign(knobs: Knobs) -> int:
    """Return 1 where the engine serves low priorities first, -1 high ones, 0 where it has none."""
    match knobs:
        case Vllm(scheduling_policy=Policy.PRIORITY):
            return 1
        case Sglang(enable_priority_scheduling=True, schedule_low_priority_values_first=low_first):
            return 1 if low_first else -1
        case _:
            return 0
