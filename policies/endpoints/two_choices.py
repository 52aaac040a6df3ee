"""The better of two endpoints drawn at random, by requests."""

from collections.abc import Sequence
from random import Random

from policies.classify import Ask
from policies.endpoints.policy import E, lightest, two_of


class TwoChoices:
    """Stays good where several routers see each other's work late."""

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the one of two with fewer requests for its weight."""
        return lightest(
            two_of(endpoints, rng), lambda endpoint: (endpoint.in_flight + 1) / endpoint.weight, rng
        )
