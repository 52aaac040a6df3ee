"""Chooses by prediction, for requests that have latency targets.

At home while home is predicted to keep the targets with something to spare; else wherever they
are kept; else where they are missed by least. Away from home the fullest endpoint that still keeps
them is taken, so that the other endpoints there stay free for those who are at home there.
Source: PolyServe, arXiv 2507.17769, for the fullest that still fits.
"""

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Final

from policies.classify import Ask
from policies.facts import Reason
from policies.fleet import EndpointState
from policies.policy import Spill
from policies.pools import Tier

LATE_WEIGHT: Final = 10.0
"""Seconds of time to first token that a second of time a token over its target is worth."""
MOST_COMPARED: Final = 16
"""Endpoints of a tier that are predicted for; of more, so many at random."""


def has_targets(ask: Ask) -> bool:
    """Return whether there is a target that a prediction can be held against."""
    return ask.targets.first_token_s is not None or ask.targets.per_token_s is not None


def choose_in_time(
    open_tiers: Sequence[tuple[Tier, list[EndpointState]]],
    ask: Ask,
    spill: Spill,
    rng: Random,
    now: float,
) -> tuple[EndpointState, Reason, bool] | None:
    """Return an endpoint, why there, and whether one that had just come would be in time there.

    `open_tiers`: those with room, best first. None where nobody has room.
    """
    left_s = inf if ask.first_token_by is None else ask.first_token_by - now
    whole_s = ask.targets.first_token_s or inf
    per_token_s = ask.targets.per_token_s or inf
    share = 1.0 if spill.home_share is None else spill.home_share
    prompt_tokens, least, edge = ask.prompt_tokens, inf, spill.away_share
    best: tuple[EndpointState, Reason, bool] | None = None
    at_home = True
    for tier, free in open_tiers:
        at_home = at_home and tier.reason is not Reason.SPILL
        if not at_home:
            share = spill.away_share
        compared = free if len(free) <= MOST_COMPARED else rng.sample(free, MOST_COMPARED)
        fits: list[EndpointState] = []
        for endpoint in compared:
            first_s, next_s = endpoint.forecast(prompt_tokens, now)
            if first_s <= share * left_s and next_s <= share * per_token_s:
                fits.append(endpoint)
            late = first_s + LATE_WEIGHT * max(0.0, next_s - per_token_s)
            if late < least:
                fresh = first_s <= edge * whole_s and next_s <= edge * per_token_s
                best, least = (endpoint, tier.reason, fresh), late
        if fits:
            if at_home:
                chosen = fits[0] if len(fits) == 1 else tier.policy.choose(ask, fits, rng, now)
            else:
                chosen = max(fits, key=_interactive)
            return chosen, tier.reason, True
    return best


def _interactive(endpoint: EndpointState) -> int:
    return endpoint.held[0]
