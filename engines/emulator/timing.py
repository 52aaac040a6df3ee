"""When a step is done: the profile's step time, the launch of steps, noise."""

from collections.abc import Callable
from itertools import pairwise
from math import exp, log
from random import Random

from engines.emulator.profiles import Hiccups, Launch, Profile
from engines.emulator.sequence import Step

_NEVER = 1 << 62


class Clockwork:
    """Times steps. Draws in the order in which steps are planned, and from nowhere else."""

    __slots__ = (
        "_draw",
        "_graph_tokens",
        "_hiccups",
        "_normal",
        "_profile",
        "gpu_free_s",
        "slow_factor",
        "until_hiccup",
    )

    def __init__(self, profile: Profile, graph_tokens: int, rng: Random) -> None:
        self._profile = profile
        self._graph_tokens = min(graph_tokens, profile.graph_tokens)
        self._draw: Callable[[], float] = rng.random
        self._normal: Callable[[float, float], float] = rng.gauss
        self._hiccups: Hiccups = profile.hiccups
        self.gpu_free_s = 0.0
        """When the GPU is through with all that was planned."""
        self.slow_factor = 1.0
        self.until_hiccup = self._gap()
        """Steps before the next hiccup."""

    def time(self, step: Step, now: float, previous: Step | None, *, idle: bool) -> None:
        """Set when a step planned at `now` is done; `idle` says that there was nothing to do.

        Launching it keeps the host from seeing `previous`, the step in flight, finish.
        """
        planned_s = now + self.plan_s(step.decodes)
        launched_s = planned_s
        if step.prefill:
            launched_s += self._launch_s(step.prefill + step.decodes, idle=idle)
        begun_s = max(self.gpu_free_s, planned_s)
        step.gpu_s = max(begun_s + self._gpu_s(step), launched_s)
        self.gpu_free_s = step.gpu_s
        step.done_s = step.gpu_s + self._hiccup_s()
        if previous is not None:
            previous.done_s = max(previous.done_s, launched_s)
            step.done_s = max(step.done_s, previous.done_s)

    def decode_base_s(self, decodes: int) -> float:
        """Return the GPU time of a decode step, but for what its KV tokens add."""
        profile = self._profile
        eager_s = profile.eager_decode_s if decodes > self._graph_tokens else 0.0
        return (profile.base_s + profile.per_sequence_s * decodes + eager_s) * self.slow_factor

    @property
    def per_kv_s(self) -> float:
        """GPU time per KV token of a decode."""
        return self._profile.per_kv_s * self.slow_factor

    def plan_s(self, decodes: int) -> float:
        """Return the host time before the GPU can begin a step."""
        profile = self._profile
        return (profile.plan_s + profile.plan_per_sequence_s * decodes) * self.slow_factor

    def hiccup_now_s(self) -> float:
        """Return how late the host is, where `until_hiccup` has come down to 0."""
        self.until_hiccup = self._gap()
        return self._lateness_s(self._hiccups)

    def _gpu_s(self, step: Step) -> float:
        seconds = self.decode_base_s(step.decodes) + self.per_kv_s * step.kv_tokens
        if step.prefill:
            profile = self._profile
            shown = max(0, step.prefill - profile.hidden_prefill)
            extra_s = profile.per_prefill_s * shown + profile.per_attention_s * step.attention
            seconds += extra_s * self.slow_factor
            if profile.jitter:
                seconds *= exp(self._normal(0.0, profile.jitter))
        return seconds

    def _launch_s(self, tokens: int, *, idle: bool) -> float:
        launch = self._launch(tokens)
        seconds = launch.idle_s if idle else launch.busy_s
        if launch.sigma:
            seconds *= exp(self._normal(0.0, launch.sigma))
        if launch.hiccups.share and self._draw() < launch.hiccups.share:
            seconds += self._lateness_s(launch.hiccups)
        return seconds * self.slow_factor

    def _launch(self, tokens: int) -> Launch:
        if tokens > self._profile.graph_tokens:
            return self._profile.large
        if tokens > self._graph_tokens:
            return self._profile.uncaptured
        return self._profile.captured

    def _hiccup_s(self) -> float:
        if self.until_hiccup:
            self.until_hiccup -= 1
            return 0.0
        return self.hiccup_now_s()

    def _gap(self) -> int:
        """Draw the number of steps before the next hiccup: geometric."""
        share = self._hiccups.share
        if not share:
            return _NEVER
        return int(log(1.0 - self._draw()) / log(1.0 - share)) if share < 1.0 else 0

    def _lateness_s(self, hiccups: Hiccups) -> float:
        """Draw from the tail by linear interpolation between its points."""
        level = 1.0 - self._draw()
        points = hiccups.tail
        for (above, short_s), (below, long_s) in pairwise(points):
            if level >= below:
                return short_s + (long_s - short_s) * (above - level) / (above - below)
        return points[-1][1]
