"""Any endpoint, in proportion to its weight."""

from collections.abc import Sequence
from random import Random

from policies.classify import Ask
from policies.endpoints.policy import E


class RandomChoice:
    """Needs no knowledge at all: the floor that any other policy has to beat."""

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return an endpoint with a likelihood in proportion to its weight."""
        left = rng.random() * sum(endpoint.weight for endpoint in endpoints)
        for endpoint in endpoints[:-1]:
            left -= endpoint.weight
            if left < 0.0:
                return endpoint
        return endpoints[-1]
