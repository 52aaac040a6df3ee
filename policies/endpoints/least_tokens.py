"""The endpoint with the least work: the default."""

from collections.abc import Sequence
from math import inf
from random import Random

from policies.classify import Ask
from policies.endpoints.load import TOKENS_A_KV_TOKEN, TOKENS_A_SEQUENCE
from policies.endpoints.policy import E


class LeastTokens:
    """Chooses where the work, this request included, is least for the endpoint's weight."""

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the endpoint with the least work; equals are equally likely."""
        # `lightest` and `work_tokens` written out: at 64 endpoints the calls would cost more
        # than the rest of the decision.
        own = ask.prompt_tokens + TOKENS_A_SEQUENCE
        chosen, least, equals = endpoints[0], inf, 0
        for endpoint in endpoints:
            work = (
                own
                + endpoint.pending_prompt_tokens
                + TOKENS_A_SEQUENCE * endpoint.in_flight
                + TOKENS_A_KV_TOKEN * endpoint.kv_tokens
            ) / endpoint.weight
            if work < least:
                chosen, least, equals = endpoint, work, 1
            elif work == least:
                equals += 1
                if rng.random() * equals < 1.0:
                    chosen = endpoint
        return chosen
