"""The seam that every endpoint policy fills, and what several of them share."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol, TypeVar

from policies.classify import Ask
from policies.fleet import EndpointView

E = TypeVar("E", bound=EndpointView)


class EndpointPolicy(Protocol):
    """Chooses one of several endpoints. It may remember; it never changes what it is shown."""

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return one of `endpoints`: at least one, all fit, healthy and with room."""
        ...


def lightest(endpoints: Sequence[E], load: Callable[[E], float], rng: Random) -> E:
    """Return the endpoint with the least load; among equals each is equally likely.

    Always taking the first would send nearly everything to it while the fleet is idle.
    """
    chosen, least, equals = endpoints[0], load(endpoints[0]), 1
    for endpoint in endpoints[1:]:
        weight = load(endpoint)
        if weight < least:
            chosen, least, equals = endpoint, weight, 1
        elif weight == least:
            equals += 1
            if rng.random() * equals < 1.0:
                chosen = endpoint
    return chosen


def two_of(endpoints: Sequence[E], rng: Random) -> Sequence[E]:
    """Draw two different endpoints, every pair equally likely; all of them if at most two.

    Comparing two is nearly as good as comparing all, and keeps routers that see the same stale
    numbers from stampeding to the same endpoint.
    Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001.
    """
    count = len(endpoints)
    if count <= 2:  # noqa: PLR2004 - a pair
        return endpoints
    first = int(rng.random() * count)
    second = int(rng.random() * (count - 1))
    return endpoints[first], endpoints[second + (second >= first)]
