"""Judges one endpoint from what happened to its requests and probes.

An endpoint that fails several times in a row is down for a while, then gets one trial request;
its success brings the endpoint back, its failure doubles the time. Being busy, a request that was
wrong, and a caller that left say nothing about health.

Where the router watches (see `watchdog`), the trial is a canary of its own, so that no caller's
request is spent on it, and an endpoint that comes back is given more slots little by little.
"""

from enum import StrEnum
from math import inf
from typing import Final

from policies.facts import FailureKind
from policies.policy import HealthPolicy


class State(StrEnum):
    """What an endpoint may be given."""

    UP = "up"
    SUSPECT = "suspect"
    """Has failed lately; used as before."""
    DOWN = "down"
    """Nothing, until its time is over or a probe succeeds."""
    TRIAL = "trial"
    """One request at a time, until one succeeds."""
    DRAINING = "draining"
    """Nothing: an operator takes it out; what runs there ends in peace."""


class Cause(StrEnum):
    """Why an endpoint is down."""

    FAILED = "failed"
    """Requests failed in a row."""
    PROBES = "probes"
    """It says that it is not well, or does not answer when asked."""
    STILL = "still"
    """It has work, and nothing moves."""
    SLOW = "slow"
    """Its tokens come several times slower than its pool's."""


RELAPSE_S: Final = 10.0
"""One that is slow again within so long of the time before is left alone for twice as long, up to"""
MOST_SLOW_S: Final = 4.0
"""so long: it serves, if badly, and must be back soon once it is well."""

SICK = frozenset(
    {FailureKind.NOT_REACHED, FailureKind.BROKEN, FailureKind.FIRST_TOKEN_TIMEOUT}
    | {FailureKind.IDLE_TIMEOUT}
)
"""Failures that count against an endpoint."""


class Health:
    """The judgement of one endpoint. Every method is given the time; none reads a clock."""

    __slots__ = (
        "_back_off_s",
        "_condition",
        "_slow_s",
        "allowed",
        "busy_until",
        "by_canary",
        "cause",
        "down_at",
        "draining",
        "failed_probes",
        "failures",
        "policy",
        "probed_down",
        "retry_at",
        "trying",
    )

    def __init__(self, policy: HealthPolicy) -> None:
        self.policy = policy
        self._condition = State.UP
        self._back_off_s = policy.back_off_s
        self._slow_s = policy.back_off_s
        """Time down for being slow, the last time."""
        self.failures = 0
        """Requests failed in a row."""
        self.failed_probes = 0
        """Probes failed in a row."""
        self.probed_down = False
        """Down by probes, so only a good probe ends it."""
        self.retry_at = inf
        """When a trial is due; infinite unless down by failed requests."""
        self.trying = False
        """The one trial request is under way."""
        self.draining = False
        self.busy_until = -inf
        """Until then the endpoint is said to have no room."""
        self.by_canary = False
        """A trial is the router's own canary: no caller's request is spent on it."""
        self.cause: Cause | None = None
        """Why it is down, or was when its trial began; None where it is up."""
        self.down_at = -inf
        """When it went down."""
        self.allowed: int | None = None
        """Slots that it may be given for the time being; None: all that it has."""

    @property
    def state(self) -> State:
        """What the endpoint may be given."""
        return State.DRAINING if self.draining else self._condition

    @property
    def takes_requests(self) -> bool:
        """Whether a request may be sent there."""
        if self.draining or self._condition is State.DOWN:
            return False
        return self._condition is not State.TRIAL or not (self.trying or self.by_canary)

    @property
    def awaits_canary(self) -> bool:
        """Whether its trial is due and is to be a canary."""
        on_trial = self._condition is State.TRIAL and not self.draining
        return on_trial and self.by_canary and not self.trying

    @property
    def hopeful(self) -> bool:
        """Whether waiting for it makes sense: not down, not draining."""
        return not self.draining and self._condition is not State.DOWN

    @property
    def spotless(self) -> bool:
        """Whether a success would change nothing."""
        return self._condition is State.UP and not self.failures

    def failed(self, now: float, *, trial: bool, alone: bool) -> None:
        """Count a failed request.

        `trial`: it was the trial request. `alone`: no other endpoint could serve one of its
        models, so that it is used whatever happens, unless probes say that it is down.
        """
        if trial:
            self.trying = False
            self._back_off_s = min(2 * self._back_off_s, self.policy.max_back_off_s)
        self.failures += 1
        if self._condition is State.DOWN:
            return
        if self._condition is State.TRIAL and not trial:
            # Sent before the endpoint went down: tells nothing about the trial.
            return
        if (trial or self.failures >= self.policy.failures_to_down) and not alone:
            self.put_down(self.cause if trial and self.cause else Cause.FAILED, now)
        else:
            self._condition = State.SUSPECT

    def put_down(self, cause: Cause, now: float) -> None:
        """Give it nothing until a trial is due."""
        rest_s = self._back_off_s
        if cause is Cause.SLOW:
            rest_s = self.policy.back_off_s
            if now - self.down_at < RELAPSE_S:
                rest_s = max(rest_s, min(2 * self._slow_s, MOST_SLOW_S))
            self._slow_s = rest_s
        self._condition = State.DOWN
        self.cause = cause
        self.down_at = now
        self.retry_at = now + rest_s

    def trial_passed(self) -> None:
        """Note that the trial request got its first token."""
        self.trying = False
        self.failures = 0
        if self._condition is State.TRIAL:
            self.come_back()

    def come_back(self) -> None:
        """Be up again: at first with one slot, where the router watches."""
        self._condition = State.UP
        self.cause = None
        self.failures = 0
        self.retry_at = inf
        if self.by_canary:
            self.allowed = 1

    def trial_given_up(self) -> None:
        """Note that the trial request ended without telling anything."""
        self.trying = False

    def succeeded(self) -> None:
        """Note a completed answer."""
        if self._condition in (State.UP, State.SUSPECT):
            self._condition = State.UP
            self.failures = 0
            self._back_off_s = self.policy.back_off_s

    def was_busy(self, now: float, retry_after_s: float | None) -> None:
        """Note a refusal for want of room; others are preferred for as long as it asks."""
        wait_s = self.policy.busy_penalty_s if retry_after_s is None else retry_after_s
        self.busy_until = max(self.busy_until, now + min(wait_s, self.policy.max_busy_penalty_s))

    def probed(self, *, ok: bool) -> None:
        """Count a probe. A good one ends a time of being down, by whatever; the trial decides."""
        if ok:
            self.failed_probes = 0
            if self._condition is State.DOWN:
                self.try_again()
            return
        self.failed_probes += 1
        if self.failed_probes >= self.policy.failed_probes_to_down:
            if self._condition is not State.DOWN:
                self.put_down(Cause.PROBES, self.down_at)
            self.probed_down = True
            self.retry_at = inf

    def before_trial(self) -> tuple[State, bool, float]:
        """Return what `try_again` changes, for `trial_unmade`."""
        return self._condition, self.probed_down, self.retry_at

    def trial_unmade(self, before: tuple[State, bool, float]) -> None:
        """Be as before `try_again`."""
        self._condition, self.probed_down, self.retry_at = before

    def try_again(self) -> None:
        """End a time of being down: the next request is a trial."""
        self._condition = State.TRIAL
        self.probed_down = False
        self.retry_at = inf
