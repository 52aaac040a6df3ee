"""The endpoint with the fewest requests in flight (join the shortest queue)."""

from collections.abc import Sequence
from random import Random

from policies.classify import Ask
from policies.endpoints.policy import E, lightest


class LeastBusy:
    """Counts requests, not their size: the usual default elsewhere, kept to compare with."""

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the endpoint with the fewest requests for its weight; equals equally likely."""
        return lightest(endpoints, lambda endpoint: (endpoint.in_flight + 1) / endpoint.weight, rng)
