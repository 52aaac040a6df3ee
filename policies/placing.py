"""Finds the endpoint for one request among those of its lane."""

from dataclasses import dataclass
from random import Random

from policies.classify import Ask
from policies.facts import Reason
from policies.fleet import EndpointState
from policies.guard import fullest, unspoilt
from policies.ordering import Lane
from policies.policy import Policy
from policies.pools import Tier
from policies.timely import choose_in_time, has_targets

BULK = 2
"""The rank that is kept from spoiling others."""


@dataclass(slots=True)
class Placed:
    """An endpoint with room for a request."""

    endpoint: EndpointState
    reason: Reason
    in_time: bool = True
    """False: it has targets, and no endpoint is predicted to keep them."""


def place(
    lane: Lane,
    ask: Ask,
    policy: Policy,
    rng: Random,
    now: float,
    *,
    busy_until: float,
    floor: bool = False,
) -> Placed | None:
    """Return the endpoint to send to and why there; None where nobody has room.

    Until `busy_until` some endpoint may have said that it is busy: such a one is chosen only if
    nobody else has room, at home or elsewhere. `floor`: bulk may pass its guard.
    """
    if now >= busy_until:
        return _choose(_open_tiers(lane, ask.rank), ask, policy, rng, now, floor=floor)
    for said_busy in (False, True):
        tiers = [
            (tier, [each for each in free if (now < each.health.busy_until) is said_busy])
            for tier, free in _open_tiers(lane, ask.rank)
        ]
        placed = _choose([pair for pair in tiers if pair[1]], ask, policy, rng, now, floor=floor)
        if placed is not None:
            return placed
    return None


def _open_tiers(lane: Lane, rank: int) -> list[tuple[Tier, list[EndpointState]]]:
    """Return the tiers that have room for a rank, best first, each with those that have."""
    tiers = []
    for tier in lane.tiers:
        free = [endpoint for endpoint in tier.endpoints if endpoint.rooms[rank]]
        if free:
            tiers.append((tier, free))
    return tiers


def _choose(
    tiers: list[tuple[Tier, list[EndpointState]]],
    ask: Ask,
    policy: Policy,
    rng: Random,
    now: float,
    *,
    floor: bool,
) -> Placed | None:
    if not tiers:
        return None
    if ask.rank == BULK and policy.guard.per_token_share is not None and not floor:
        return _guarded(tiers, ask, policy, policy.guard.per_token_share, now)
    if policy.spill.home_share is not None and has_targets(ask):
        found = choose_in_time(tiers, ask, policy.spill, rng, now)
        return None if found is None else Placed(*found)
    tier, free = tiers[0]
    endpoint = free[0] if len(free) == 1 else tier.policy.choose(ask, free, rng, now)
    return Placed(endpoint, tier.reason)


def _guarded(
    tiers: list[tuple[Tier, list[EndpointState]]],
    ask: Ask,
    policy: Policy,
    share: float,
    now: float,
) -> Placed | None:
    target_s = policy.classes.interactive.targets.per_token_s
    for tier, free in tiers:
        fits = free if target_s is None else unspoilt(free, ask, share * target_s, now)
        if fits:
            return Placed(fullest(fits), tier.reason)
    return None
