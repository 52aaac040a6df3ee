"""What the router itself has at each endpoint, and what it has seen of it.

All of it is counted here, by the one who sends, at the moment of sending: an engine's own gauges
are too late to choose by. A slot is taken with a `Flight` and given back with the same `Flight`,
which knows whether it still holds it, so nothing can be given back twice.
"""

from math import exp, inf
from typing import Final, Protocol

from policies.classify import NO_LIMIT
from policies.facts import EndpointPlan, Load
from policies.flight import Flight
from policies.health import Cause, Health, State
from policies.latency import LEAST_GATHERED, LEAST_TOKENS, LatencyModel
from policies.others import NO_OTHERS, Others
from policies.peak import PeakEwma
from policies.policy import Hold, Policy
from policies.progress import Progress

PROMPT_RATE_TAU_S: Final = 2.0
"""Time over which the rate of prompts forgets."""


class EndpointView(Protocol):
    """An endpoint as an endpoint policy may see it. Counts include other routers' requests."""

    @property
    def id(self) -> str:
        """Its name in the configuration."""

    @property
    def weight(self) -> float:
        """Relative capacity, > 0."""

    @property
    def in_flight(self) -> int:
        """Requests sent and not ended."""

    @property
    def pending_prompt_tokens(self) -> int:
        """Prompt tokens of those that have no first token yet."""

    @property
    def kv_tokens(self) -> int:
        """Prompt tokens, and output tokens so far, of all in flight."""

    @property
    def load(self) -> Load | None:
        """The engine's own gauges at the last scrape; None before the first."""

    def first_token_s(self, now: float) -> float | None:
        """Return the recent peak of the time to first token, s; None before the first one."""


class PromptRate:
    """Prompt tokens sent to an endpoint a second, lately."""

    __slots__ = ("_at", "_per_s")

    def __init__(self) -> None:
        self._per_s = 0.0
        self._at = 0.0

    def sent(self, tokens: int, now: float) -> None:
        """Count the tokens of one prompt."""
        self._per_s = self.per_s(now) + tokens / PROMPT_RATE_TAU_S
        self._at = now

    def per_s(self, now: float) -> float:
        """Return the rate as of `now`, tokens/s."""
        return self._per_s * exp((self._at - now) / PROMPT_RATE_TAU_S)


class EndpointState:
    """One endpoint: its plan, what is in flight there, its health. Changed only by methods."""

    __slots__ = (
        "_on_trial",
        "_open",
        "abandoned",
        "begun_at",
        "bulk_cap",
        "busy",
        "completed",
        "failed",
        "granted",
        "health",
        "held",
        "id",
        "in_flight",
        "kv_tokens",
        "limits",
        "load",
        "model",
        "others",
        "own_in_flight",
        "peak",
        "pending_limits",
        "pending_prompt_tokens",
        "plan",
        "progress",
        "prompt_rate",
        "prompts_read",
        "ramp_at",
        "rejected",
        "rooms",
        "sent",
        "slots",
        "slow_since",
        "weight",
    )

    def __init__(self, plan: EndpointPlan, policy: Policy) -> None:
        self.id = plan.id
        self.health = Health(policy.health)
        self.progress = Progress()
        self.slow_since = inf
        """Since when its tokens have come several times slower than its pool's."""
        self.ramp_at = inf
        """When an endpoint that came back is given more slots."""
        self.peak = PeakEwma()
        self.model = LatencyModel(policy.latency)
        self.prompt_rate = PromptRate()
        self.begun_at = -inf
        """When the last stream had its first token."""
        self.prompts_read = 0
        """Prompt tokens of all requests that have had their first token."""
        self.load: Load | None = None
        self.others = NO_OTHERS
        self.in_flight = 0
        self.own_in_flight = 0
        self.held = [0, 0, 0]
        """Requests in flight by rank of class, other routers' included."""
        self.pending_prompt_tokens = 0
        self.kv_tokens = 0
        self.sent = 0
        self.completed = 0
        self.failed = 0
        self.rejected = 0
        self.abandoned = 0
        self.busy = 0
        self.granted = NO_LIMIT
        """Requests that it may have as far as other routers leave room."""
        self.rooms = [True, True, True]
        """Whether one more request of each rank may be sent; always up to date."""
        self.planned(plan, policy)

    def planned(self, plan: EndpointPlan, policy: Policy) -> None:
        """Follow a plan and a policy; what is in flight stays."""
        self.plan = plan
        self.weight = plan.weight
        self.health.policy = policy.health
        holds = policy.of_profile(plan.profile).holds
        ranks = (holds.interactive, holds.standard, holds.bulk)
        self.limits = [slots_of(hold, plan.max_in_flight) for hold in ranks]
        """Slots that a class and those below it may hold together, by rank."""
        self.bulk_cap = self.limits[2]
        """Bulk requests that all routers together may have there."""
        self.pending_limits = [hold.max_pending_prompt_tokens or NO_LIMIT for hold in ranks]
        self._bound()
        self._judged()

    def first_token_s(self, now: float) -> float | None:
        """Return the recent peak of the time to first token, s; None before the first one."""
        return self.peak.at(now)

    def forecast(self, prompt_tokens: int, now: float) -> tuple[float, float]:
        """Return the times to first token and a token, s, that one more request would see."""
        in_flight = self.in_flight + 1
        kv_tokens = self.kv_tokens + prompt_tokens
        rate = self.prompt_rate.per_s(now) + prompt_tokens / PROMPT_RATE_TAU_S
        model = self.model
        gather_s = self._gather_s(now)
        return (
            model.first_token_s(
                self.pending_prompt_tokens + prompt_tokens, in_flight, kv_tokens, gather_s
            ),
            model.per_token_s(in_flight, kv_tokens, rate),
        )

    def _gather_s(self, now: float) -> float:
        """Return how long the engine may let one more request wait before it joins the others."""
        pending = self.progress.pending
        running = self.in_flight - pending
        if running < LEAST_GATHERED:
            return 0.0
        return self.model.gather_s(running, pending, self.kv_tokens, now - self.begun_at)

    def take(self, flight: Flight) -> None:
        """Let `flight` hold a slot."""
        ask, now = flight.ask, flight.sent_at
        unread_tokens = ask.prompt_tokens - flight.hit_tokens
        flight.predicted_first_token_s, flight.predicted_per_token_s = self.forecast(
            unread_tokens, now
        )
        flight.gather_s = self._gather_s(now)
        self.prompt_rate.sent(unread_tokens, now)
        flight.held = True
        self.sent += 1
        self.own_in_flight += 1
        self.in_flight += 1
        self.held[ask.rank] += 1
        self.kv_tokens += ask.prompt_tokens
        self.progress.began(now, streams=ask.facts.streams, prompt_tokens=unread_tokens)
        if ask.facts.streams:
            # Of an answer that comes as a whole the first token is never seen: its prompt would
            # count as pending all along and keep bulk away from an endpoint that has room.
            flight.pending_tokens = unread_tokens
            self.pending_prompt_tokens += unread_tokens
        flight.ahead_tokens = self.pending_prompt_tokens
        flight.beside = self.in_flight
        flight.kv_tokens = self.kv_tokens
        if self._on_trial:
            flight.trial = self.health.trying = True
            self._judged()
        else:
            self.reckon()

    def began(self, flight: Flight, now: float) -> None:
        """Note the first token of `flight`."""
        flight.first_token_at = now
        flight.moved_at = now
        self.prompts_read += flight.ask.prompt_tokens - flight.hit_tokens
        flight.read_before = self.prompts_read
        if flight.ask.facts.streams:
            self.begun_at = now
            seen_s = now - flight.sent_at
            self.peak.saw(seen_s, now)
            self.progress.first_token(now)
            self.progress.reading.saw(flight.ahead_tokens, flight.pending_tokens, seen_s)
            self.model.saw_first_token(
                (
                    1.0,
                    flight.ahead_tokens,
                    flight.beside,
                    flight.kv_tokens,
                    flight.gather_s,
                ),
                flight.predicted_first_token_s,
                seen_s,
                now,
            )
        self.pending_prompt_tokens -= flight.pending_tokens
        flight.pending_tokens = 0
        if flight.trial:
            flight.trial = False
            self.health.trial_passed()
            self._judged()
        elif False in self.rooms:
            self.reckon()

    def grew(self, flight: Flight, tokens: int) -> None:
        """Note more output tokens of `flight`."""
        flight.output_tokens += tokens
        self.kv_tokens += tokens

    def give(self, flight: Flight) -> bool:
        """Take the slot back; False, and nothing happens, where `flight` holds none."""
        if not flight.held:
            return False
        ask = flight.ask
        flight.held = False
        if not flight.unread:
            begun = flight.first_token_at is not None
            self.progress.ended(streams=ask.facts.streams, begun=begun)
        self.own_in_flight -= 1
        self.in_flight -= 1
        self.held[ask.rank] -= 1
        self.kv_tokens -= ask.prompt_tokens + flight.output_tokens
        self.pending_prompt_tokens -= flight.pending_tokens
        flight.pending_tokens = 0
        if flight.trial:
            self.health.trial_given_up()
            self._judged()
        elif False in self.rooms:
            self.reckon()
        return True

    def learn_pace(self, flight: Flight, output_tokens: int | None, now: float) -> None:
        """Learn the time a token from a completed answer; called before its slot is given back."""
        began_at = flight.first_token_at
        if not flight.held or began_at is None or not flight.ask.facts.streams:
            return
        if output_tokens is None or output_tokens < LEAST_TOKENS:
            return
        gaps = output_tokens - 1
        self.model.saw_per_token(
            (
                1.0,
                0.5 * (flight.beside + self.in_flight),
                0.5 * (flight.kv_tokens + self.kv_tokens),
                (self.prompts_read - flight.read_before) / gaps,
            ),
            flight.predicted_per_token_s,
            (now - began_at) / gaps,
            now,
        )

    def worked(self, *, trial: bool) -> None:
        """Note a completed answer; `trial`: of the trial request, which had no first token."""
        if trial:
            self.health.trial_passed()
        self.health.succeeded()
        self._judged()

    def sickened(self, now: float, *, trial: bool, alone: bool) -> None:
        """Note a failure that counts against the endpoint; see `Health.failed`."""
        self.failed += 1
        self.health.failed(now, trial=trial, alone=alone)
        self._judged()

    def was_busy(self, now: float, retry_after_s: float | None) -> None:
        """Note a refusal for want of room."""
        self.busy += 1
        self.health.was_busy(now, retry_after_s)

    def probed(self, *, ok: bool) -> None:
        """Note a health probe."""
        self.health.probed(ok=ok)
        self._judged()

    def put_down(self, cause: Cause, now: float) -> None:
        """Send it nothing for a while, for a reason that the watchdog saw."""
        self.health.put_down(cause, now)
        self.slow_since = inf
        self.progress.forget_speed()
        self._judged()

    def moved_again(self, now: float) -> None:
        """Use an endpoint again that had stood still and moves."""
        self.health.come_back()
        self.ramp_at = now + self.health.policy.ramp_s
        self._judged()

    def canary_sent(self) -> None:
        """Note that its trial is under way."""
        self.health.trying = True

    def canary_passed(self, now: float) -> None:
        """Note that it answered a canary rightly."""
        self.progress.moved(now)
        self.health.trial_passed()
        self.health.succeeded()
        self.ramp_at = now + self.health.policy.ramp_s
        self._judged()

    def canary_undecided(self) -> None:
        """Note that it does not take canaries: a caller's request must do."""
        self.health.trying = self.health.by_canary = False
        self._judged()

    def allow(self, slots: int, now: float) -> None:
        """Give it no more than so many slots for the time being."""
        self.health.allowed = max(1, slots)
        self.ramp_at = now + self.health.policy.ramp_s
        self._judged()

    def ramp(self, now: float) -> bool:
        """Give it more slots if that is due; return whether it was."""
        allowed = self.health.allowed
        if allowed is None or now < self.ramp_at:
            return False
        allowed *= 2
        self.health.allowed = allowed if allowed < self.plan.max_in_flight else None
        self.ramp_at = now + self.health.policy.ramp_s
        self._judged()
        return True

    def try_again(self) -> None:
        """End a time of being down: the next request is a trial."""
        self.health.try_again()
        self._judged()

    def trial_unmade(self, before: tuple[State, bool, float]) -> None:
        """Be as before `try_again`; `before` is what `Health.before_trial` said."""
        self.health.trial_unmade(before)
        self._judged()

    def drain(self, *, on: bool) -> None:
        """Take nothing more, or again."""
        self.health.draining = on
        self._judged()

    def heard(self, others: Others) -> None:
        """Replace what other routers have there."""
        before, self.others = self.others, others
        was, there, held = before.in_flight, others.in_flight, self.held
        if was != there:
            for rank in range(3):
                held[rank] += there[rank] - was[rank]
            self.in_flight += sum(there) - sum(was)
        self.pending_prompt_tokens += others.pending_prompt_tokens - before.pending_prompt_tokens
        self.kv_tokens += others.kv_tokens - before.kv_tokens
        self._bound()
        self.reckon()

    @property
    def own_held(self) -> tuple[int, int, int]:
        """Requests of our own in flight, by rank of class."""
        interactive, standard, bulk = self.held
        there = self.others.in_flight
        return interactive - there[0], standard - there[1], bulk - there[2]

    def _bound(self) -> None:
        """Set what of the caps is ours to use, until the next is heard."""
        others = self.others
        self.granted = NO_LIMIT if others.room is None else self.in_flight + others.room
        self._count_slots()
        permits = others.bulk_permits
        self.limits[2] = (
            self.bulk_cap if permits is None else others.in_flight[2] + min(permits, self.bulk_cap)
        )

    def _count_slots(self) -> None:
        """Work out how many requests it may have: by its plan, its health, and what others left."""
        allowed = self.health.allowed
        slots = min(self.plan.max_in_flight, self.granted)
        self.slots = slots if allowed is None else min(slots, allowed)

    def _judged(self) -> None:
        """Take over what health has come to. Called after every change of it."""
        self._open = self.health.takes_requests
        self._count_slots()
        self._on_trial = self.health.state is State.TRIAL
        self.reckon()

    def reckon(self) -> None:
        """Work out for which ranks there is room. Called after every change."""
        rooms = self.rooms
        in_flight = self.in_flight
        if in_flight >= self.slots or not self._open:
            rooms[0] = rooms[1] = rooms[2] = False
            return
        pending = self.pending_prompt_tokens
        _, standard, bulk = self.held
        limit, limit_standard, limit_bulk = self.limits
        pending_limit, pending_standard, pending_bulk = self.pending_limits
        # Where a class has room, so have those above it: else a lower one could pass them.
        rooms[0] = room = in_flight < limit and pending < pending_limit
        rooms[1] = room = room and standard + bulk < limit_standard and pending < pending_standard
        rooms[2] = room and bulk < limit_bulk and pending < pending_bulk


def slots_of(hold: Hold, slots: int) -> int:
    """Return how many of an endpoint's `slots` a hold is worth; at least 1 for any share."""
    if hold.share <= 0:
        return 0
    worth = max(1, int(hold.share * slots))
    return worth if hold.max_slots is None else min(worth, hold.max_slots)
