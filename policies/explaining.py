"""What a decision looks like from outside: each endpoint, and why it was taken or passed over."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

from policies.classify import Ask
from policies.facts import Reason, Refuse, RequestFacts
from policies.fleet import EndpointState
from policies.health import State
from policies.ordering import Lane
from policies.roster import revive

CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Goes:
    """The request would be sent at once."""

    endpoint_id: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Waits:
    """The request would wait for a slot."""

    ahead: int
    """Requests of its own and higher classes that wait already."""
    until_s: float
    """How long it may wait, s."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One endpoint of the model."""

    endpoint: EndpointState
    tier: Reason | None
    """As what it would be used; None: not at all for this request."""
    verdict: str
    """`CHOSEN`, or why it was passed over."""
    first_token_s: float
    """Predicted for this request, from being sent, s."""
    per_token_s: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision that a request would get, and what it rests on."""

    decision: Goes | Waits | Refuse
    ask: Ask | None = None
    """None where it was refused before it was classified."""
    candidates: tuple[Candidate, ...] = ()


def unbound(lane: Lane) -> Lane:
    """Return a lane like another whose choosers may choose without anything remembering it."""
    copy = Lane(
        lane.rank, tuple(replace(tier, policy=deepcopy(tier.policy)) for tier in lane.tiers)
    )
    copy.wide = lane.wide
    return copy


@contextmanager
def revived(lane: Lane) -> Generator[Lane | None]:
    """Give a lane's endpoints an early trial for the moment; None where none gets one.

    Nothing is copied but the choosers: what is compiled cannot be.
    """
    before = [(each, each.health.before_trial()) for each in lane.endpoints]
    try:
        yield unbound(lane) if revive(lane.endpoints) else None
    finally:
        for endpoint, as_it_was in before:
            endpoint.trial_unmade(as_it_was)


def candidates(
    endpoints: Iterable[EndpointState],
    facts: RequestFacts,
    ask: Ask,
    lane: Lane,
    chosen: str | None,
    now: float,
) -> tuple[Candidate, ...]:
    """Return every endpoint of the model with its part in the decision, the chosen one first."""
    tier_of = {each.id: tier.reason for tier in lane.tiers for each in tier.endpoints}
    found = []
    for endpoint in endpoints:
        tier = tier_of.get(endpoint.id)
        if endpoint.id == chosen:
            verdict = CHOSEN
        elif tier is None:
            verdict = _unfit(endpoint, facts, ask)
        else:
            open_words = "another was preferred" if chosen else "has room, but it had better wait"
            verdict = _closed(endpoint, ask, now) or open_words
        forecast = endpoint.forecast(ask.prompt_tokens, now)
        found.append(Candidate(endpoint, tier, verdict, *forecast))
    return tuple(sorted(found, key=lambda each: (each.verdict != CHOSEN, each.tier is None)))


def _unfit(endpoint: EndpointState, facts: RequestFacts, ask: Ask) -> str:
    """Say why an endpoint of the model is no candidate."""
    plan = endpoint.plan
    missing = facts.needs - plan.offers
    if missing:
        return f"does not offer: {', '.join(sorted(str(need.value) for need in missing))}"
    need_tokens = ask.prompt_tokens + (facts.max_tokens or 1)
    if plan.max_context_tokens is not None and need_tokens > plan.max_context_tokens:
        return f"context of {plan.max_context_tokens} tokens, {need_tokens} are needed"
    if ask.part is not None:
        return f"serves another variant than {ask.part.name!r}"
    if not ask.fits_predictable:
        return f"too long for a {plan.profile} pool"
    return f"the policy sends no {ask.sla_class} request to a {plan.profile} pool"


def _closed(endpoint: EndpointState, ask: Ask, now: float) -> str:
    """Say why an endpoint cannot be sent this request at the moment; empty where it can."""
    health = endpoint.health
    if health.state is State.DRAINING:
        return "draining"
    if health.state is State.DOWN:
        how = "failed probes" if health.probed_down else "failed requests"
        return f"down after {how}"
    if not health.takes_requests:
        return "on trial: one request at a time"
    if not endpoint.rooms[ask.rank]:
        return _full(endpoint, ask)
    return "said that it is busy" if now < health.busy_until else ""


def _full(endpoint: EndpointState, ask: Ask) -> str:
    if endpoint.in_flight >= endpoint.slots:
        return f"full: {endpoint.in_flight} of {endpoint.slots} slots taken"
    pending = endpoint.pending_prompt_tokens
    held = sum(endpoint.held[ask.rank :])
    limit = endpoint.limits[ask.rank]
    if held >= limit:
        return f"{ask.sla_class} and below hold {held} of the {limit} slots that they may have"
    return f"{pending} prompt tokens are pending, too many for {ask.sla_class}"
