"""The better of two endpoints drawn at random, by work."""

from collections.abc import Sequence
from random import Random

from policies.classify import Ask
from policies.endpoints.load import TOKENS_A_SEQUENCE, work_tokens
from policies.endpoints.policy import E, lightest, two_of


class TwoChoicesTokens:
    """`least_tokens` for several routers that see each other's work late."""

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the one of two with less work, this request included, for its weight."""
        own = ask.prompt_tokens + TOKENS_A_SEQUENCE
        return lightest(
            two_of(endpoints, rng),
            lambda endpoint: (own + work_tokens(endpoint)) / endpoint.weight,
            rng,
        )
