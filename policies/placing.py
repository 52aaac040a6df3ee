"""Finds the endpoint for one request among those of its lane."""

from random import Random

from policies.classify import Ask
from policies.facts import Reason
from policies.fleet import EndpointState
from policies.ordering import Lane
from policies.pools import Tier


def place(
    lane: Lane, ask: Ask, rng: Random, now: float, busy_until: float
) -> tuple[EndpointState, Reason] | None:
    """Return the endpoint to send to and why there; None where nobody has room.

    Until `busy_until` some endpoint may have said that it is busy: such a one is chosen only if
    nobody else has room, at home or elsewhere.
    """
    rank = ask.rank
    if now < busy_until:
        return _place_kindly(lane, ask, rng, now)
    for tier in lane.tiers:
        free = [endpoint for endpoint in tier.endpoints if endpoint.rooms[rank]]
        if free:
            return _choose(tier, free, ask, rng, now)
    return None


def _place_kindly(
    lane: Lane, ask: Ask, rng: Random, now: float
) -> tuple[EndpointState, Reason] | None:
    rank = ask.rank
    for said_busy in (False, True):
        for tier in lane.tiers:
            free = [
                endpoint
                for endpoint in tier.endpoints
                if endpoint.rooms[rank] and (now < endpoint.health.busy_until) is said_busy
            ]
            if free:
                return _choose(tier, free, ask, rng, now)
    return None


def _choose(
    tier: Tier, free: list[EndpointState], ask: Ask, rng: Random, now: float
) -> tuple[EndpointState, Reason]:
    if len(free) == 1:
        return free[0], tier.reason
    return tier.policy.choose(ask, free, rng, now), tier.reason
