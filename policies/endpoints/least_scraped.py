"""The endpoint whose own gauges look best: a baseline, not a recommendation."""

from collections.abc import Sequence
from random import Random

from policies.classify import Ask
from policies.endpoints.policy import E, lightest


class LeastScraped:
    """Scores the queue, relative to the other endpoints', plus the free share of the KV cache.

    Gauges are late by the scrape interval, so requests herd to the endpoint that looked best.
    Source: Gateway API Inference Extension, `queue-scorer` and `kv-cache-utilization-scorer`
    with equal weights. A gauge that an engine does not tell counts as its middle.
    """

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the endpoint with the best score; equals are equally likely."""
        queues = [waiting for each in endpoints if (waiting := _waiting(each)) is not None]
        longest, shortest = max(queues, default=0), min(queues, default=0)

        def burden(endpoint: E) -> float:
            waiting = _waiting(endpoint)
            queue = 0.5 if waiting is None else 0.0
            if waiting is not None and longest > shortest:
                queue = (waiting - shortest) / (longest - shortest)
            usage = None if endpoint.load is None else endpoint.load.kv_usage
            return queue + (0.5 if usage is None else usage)

        return lightest(endpoints, burden, rng)


def _waiting(endpoint: E) -> int | None:
    return None if endpoint.load is None else endpoint.load.waiting
