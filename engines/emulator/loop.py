"""The step loop: plans steps, knows when they are done, and passes over stretches of plain ones."""

from collections import deque
from math import inf
from random import Random

from engines.emulator.llamacpp import LlamaCppScheduler
from engines.emulator.scheduler import Scheduler
from engines.emulator.sequence import Step
from engines.emulator.sglang import SglangScheduler
from engines.emulator.spec import EngineSpec, LlamaCpp, Sglang, Tgi, Vllm
from engines.emulator.tgi import TgiScheduler
from engines.emulator.timing import Clockwork
from engines.emulator.vllm import VllmScheduler

_ROUNDING_S = 1e-9
"""More than a sum computed at once and one computed step by step can differ."""


def scheduler_for(spec: EngineSpec) -> Scheduler:
    """Build the scheduler of the engine's kind."""
    match spec.knobs:
        case Vllm() as knobs:
            return VllmScheduler(spec, knobs)
        case Tgi() as knobs:
            return TgiScheduler(spec, knobs)
        case Sglang() as knobs:
            return SglangScheduler(spec, knobs)
        case LlamaCpp() as knobs:
            return LlamaCppScheduler(spec, knobs)


class StepLoop:
    """Steps in flight, at most `depth`: with two, the next is planned while one runs."""

    def __init__(self, spec: EngineSpec, rng: Random) -> None:
        self.scheduler = scheduler_for(spec)
        self.clockwork = Clockwork(spec.profile, spec.knobs.graph_tokens, rng)
        self.flight: deque[Step] = deque()
        self._depth = spec.knobs.depth
        self._latest_s = -inf
        """When the latest step was done."""

    @property
    def has_room(self) -> bool:
        """Another step may be planned."""
        return len(self.flight) < self._depth

    def plan(self, now: float) -> None:
        """Plan what can be planned."""
        while self.has_room:
            step = self.scheduler.plan()
            if step is None:
                return
            step.reports = bool(step.first or step.leaving)
            step.is_plain = not (step.reports or step.prefill)
            previous = self.flight[-1] if self.flight else None
            idle = previous is None and now > self._latest_s
            self.clockwork.time(step, now, previous, idle=idle)
            for sequence in step.started:
                if sequence.started_s is None:
                    sequence.started_s = now
            self.flight.append(step)

    def complete(self) -> Step:
        """Take out the step that is done; what it frees is for the caller to settle."""
        step = self.flight.popleft()
        self._latest_s = step.done_s
        if step.decodes:
            self.scheduler.batch.completed = step.clock
        return step

    def coast(self, until: float) -> list[float]:
        """Complete and plan plain decode steps up to `until`; return when each was done."""
        steps = self.scheduler.coast() if self._is_plain() else 0
        if not steps:
            return []
        times = self._coast(until, steps)
        if times:
            self._latest_s = times[-1]
            self.scheduler.coasted(len(times))
            self.scheduler.batch.completed += len(times)
            for step in self.flight:
                step.clock += len(times)
        return times

    def bound(self, *, still: bool) -> float:
        """Return a time before which nobody's first token or end comes of a step.

        `still`: no job is about to arrive.
        """
        for step in self.flight:
            if step.reports:
                return step.done_s
        latest = self.flight[-1].done_s
        steps = self.scheduler.coast() if still and self._is_plain() else 0
        if not steps:
            return latest
        batch, clockwork = self.scheduler.batch, self.clockwork
        kv_tokens = (steps + 1) * batch.kv_tokens + batch.size * steps * (steps + 1) / 2
        work_s = (steps + 1) * clockwork.decode_base_s(batch.size)
        work_s += clockwork.per_kv_s * kv_tokens
        return max(latest, clockwork.gpu_free_s + work_s - _ROUNDING_S)

    def shift(self, seconds: float) -> None:
        """Let all that is in flight be done so much later."""
        self.clockwork.gpu_free_s += seconds
        for step in self.flight:
            step.gpu_s += seconds
            step.done_s += seconds

    def clear(self, now: float) -> None:
        """Give up all steps in flight."""
        self.flight.clear()
        # Steps that were planned and never done are not counted: deliveries go by the same clock.
        self.scheduler.batch.clock = self.scheduler.batch.completed
        self.clockwork.gpu_free_s = now

    def _is_plain(self) -> bool:
        if len(self.flight) < self._depth:
            return False
        size = self.scheduler.batch.size
        for step in self.flight:  # noqa: SIM110 (this is asked for every step; `all` costs thrice)
            if not step.is_plain or step.decodes != size:
                return False
        return True

    def _coast(self, until: float, steps: int) -> list[float]:
        """See `coast`: exactly what `plan` and `complete` do, for steps that are all alike."""
        clockwork, batch = self.clockwork, self.scheduler.batch
        size, kv_tokens = batch.size, batch.kv_tokens
        base_s, per_kv_s = clockwork.decode_base_s(size), clockwork.per_kv_s
        plan_s, gpu_s = clockwork.plan_s(size), clockwork.gpu_free_s
        calm = clockwork.until_hiccup
        flight = deque(step.done_s for step in self.flight)
        times: list[float] = []
        while steps and flight[0] <= until:
            steps -= 1
            now = flight.popleft()
            times.append(now)
            planned_s = now + plan_s
            begun_s = gpu_s if gpu_s > planned_s else planned_s  # noqa: FURB136 (`max` costs thrice)
            done_s = gpu_s = begun_s + (base_s + per_kv_s * kv_tokens)
            kv_tokens += size
            if calm:
                calm -= 1
            else:
                done_s += clockwork.hiccup_now_s()
                calm = clockwork.until_hiccup
            if flight:
                latest_s = flight[-1]
                if latest_s < planned_s:
                    flight[-1] = latest_s = planned_s
                if done_s < latest_s:  # noqa: PLR1730 (the same)
                    done_s = latest_s
            flight.append(done_s)
        for step, done_s in zip(self.flight, flight, strict=True):
            step.done_s = done_s
        clockwork.gpu_free_s, clockwork.until_hiccup = gpu_s, calm
        return times
