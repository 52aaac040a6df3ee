"""Finds the endpoint for one request among those of its lane."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final

from policies.affinity import Favourite
from policies.classify import Ask
from policies.facts import Reason
from policies.fleet import EndpointState
from policies.guard import fullest, unspoilt
from policies.ordering import Lane
from policies.policy import Policy
from policies.pools import Tier
from policies.timely import choose_in_time, has_targets

BULK: Final = 2
"""The rank that is kept from spoiling others."""
LATE_WORTH: Final = 20.0
"""Seconds of waiting that a second of reading saved is worth where targets are missed: it is saved
to all who wait behind."""


# Made for every request.
@dataclass(init=False, slots=True)
class Placed:
    """An endpoint with room for a request."""

    endpoint: EndpointState
    reason: Reason
    in_time: bool = True
    """False: even one that had just come would be late there, and everywhere else."""
    hit_tokens: int = 0
    """Prompt tokens that are taken to be read there already."""

    def __init__(
        self,
        endpoint: EndpointState,
        reason: Reason,
        in_time: bool = True,  # noqa: FBT002 # the field
        hit_tokens: int = 0,
    ) -> None:
        self.endpoint = endpoint
        self.reason = reason
        self.in_time = in_time
        self.hit_tokens = hit_tokens


def place(
    tiers: Sequence[tuple[Tier, list[EndpointState]]],
    ask: Ask,
    policy: Policy,
    rng: Random,
    now: float,
    *,
    floor: bool = False,
) -> Placed | None:
    """Return the endpoint to send to and why there; None where the request had better wait.

    `tiers`: those with room, as `open_tiers` gives them. `floor`: bulk may pass its guard.
    """
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


def open_tiers(
    lane: Lane, rank: int, now: float, busy_until: float
) -> list[tuple[Tier, list[EndpointState]]]:
    """Return the tiers that have room for a rank, best first, each with those that have.

    Until `busy_until` some endpoint may have said that it is busy: such a one counts only if
    nobody else has room, at home or elsewhere.
    """
    tiers = []
    for tier in lane.tiers:
        free = [endpoint for endpoint in tier.endpoints if endpoint.rooms[rank]]
        if free:
            tiers.append((tier, free))
    if now < busy_until:
        willing = [
            (tier, [endpoint for endpoint in free if now >= endpoint.health.busy_until])
            for tier, free in tiers
        ]
        return [pair for pair in willing if pair[1]] or tiers
    return tiers


def follow(
    lane: Lane,
    tiers: Sequence[tuple[Tier, list[EndpointState]]],
    ask: Ask,
    policy: Policy,
    favourite: Favourite,
    now: float,
) -> Placed | None:
    """Return the favourite endpoint, where it has room and going there costs little enough.

    `tiers`: those of the lane with room, as `open_tiers` gives them.
    """
    free = [endpoint for _, free in tiers for endpoint in free]
    chosen = next((each for each in free if each.id == favourite.endpoint_id), None)
    if chosen is None:
        chosen = _read_there(lane, ask, policy, favourite, now)
    if chosen is None:
        return None
    first_s, next_s = chosen.forecast(ask.prompt_tokens - favourite.hit_tokens, now)
    beside = policy.classes.interactive.targets.per_token_s if chosen.held[0] else None
    if ask.rank == BULK and next_s > policy.spill.away_share * (beside or inf):
        return None
    saved_s = favourite.hit_tokens * chosen.model.prefill_s_per_token
    least_s = min((each.forecast(ask.prompt_tokens, now)[0] for each in free), default=inf)
    if first_s > least_s + _worth_s(ask, policy, (first_s, next_s), least_s, saved_s, now):
        return None
    return Placed(chosen, Reason.AFFINITY, hit_tokens=favourite.hit_tokens)


def _worth_s(
    ask: Ask,
    policy: Policy,
    there: tuple[float, float],
    least_s: float,
    saved_s: float,
    now: float,
) -> float:
    """Return how much later than elsewhere a first token may come from where a prompt is known.

    `there`: the times predicted there; `least_s`: the least time to first token elsewhere;
    `saved_s`: the reading that going there saves.
    """
    first_s, next_s = there
    share, per_token_s = policy.spill.away_share, ask.targets.per_token_s
    if per_token_s is None or next_s <= share * per_token_s:
        if ask.first_token_by is None:
            return policy.affinity.untargeted_delay_s
        left_s = ask.first_token_by - now
        if first_s <= share * left_s:
            return (policy.affinity.most_delay_share or 0.0) * left_s
        if least_s <= share * left_s:
            return 0.0
    return LATE_WORTH * saved_s


def _read_there(
    lane: Lane, ask: Ask, policy: Policy, favourite: Favourite, now: float
) -> EndpointState | None:
    """Return a favourite that keeps to short prompts: what is left to read of this one is short.

    A conversation that grows would leave its cache behind otherwise.
    """
    if lane.wide is None:
        return None
    limits = policy.profiles.predictable
    unread_tokens = ask.prompt_tokens - favourite.hit_tokens
    if unread_tokens > (limits.max_prompt_tokens or inf):
        return None
    if ask.answer_tokens > (limits.max_output_tokens or inf):
        return None
    for endpoint in lane.wide.endpoints:
        if endpoint.id == favourite.endpoint_id:
            open_now = endpoint.rooms[ask.rank] and now >= endpoint.health.busy_until
            return endpoint if open_now else None
    return None


def _guarded(
    tiers: Sequence[tuple[Tier, list[EndpointState]]],
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
