"""The endpoint that answers soonest for what it has to do already."""

from collections.abc import Sequence
from random import Random
from typing import Final

from policies.classify import Ask
from policies.endpoints.policy import E, lightest

UNKNOWN_S: Final = 1e6
"""Longer than any time to first token, so that an endpoint on its first request gets no second."""


class LowestPeakEwma:
    """Cost is the recent peak of the time to first token, times the requests with this one.

    Source: Finagle, `PeakEwma`.
    """

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the endpoint with the least cost for its weight; equals are equally likely."""

        def cost(endpoint: E) -> float:
            seen_s = endpoint.first_token_s(now)
            if seen_s is None:
                # Unknown: let one request find out and keep the rest away until it has. Finite,
                # so that among endpoints all unknown the least busy still wins.
                return UNKNOWN_S + endpoint.in_flight if endpoint.in_flight else 0.0
            return seen_s * (endpoint.in_flight + 1) / endpoint.weight

        return lightest(endpoints, cost, rng)
