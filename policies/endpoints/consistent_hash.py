"""The same endpoint for the same session, unless it has more than its share of the load."""

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from random import Random
from typing import Final

from policies.classify import Ask
from policies.endpoints.policy import E

BOUND: Final = 1.25
"""Times the mean load that an endpoint may have and still be chosen by hash.

Source: Mirrokni, Thorup and Zadimoghaddam, Consistent Hashing with Bounded Loads, 2016.
"""


class ConsistentHash:
    """Keeps what shares a session, else a tenant, on one endpoint, where its prefix is cached.

    Rendezvous hashing: each endpoint draws a number from the key, scaled by weight, and the
    highest wins, so that an endpoint's leaving moves only what it had. The draw depends on
    nothing but names: every router agrees on it.
    """

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the first endpoint, in the key's own order, that is not over its share."""
        facts = ask.facts
        key = blake2b((facts.session or facts.tenant or facts.id).encode()).digest()
        requests = 1 + sum(endpoint.in_flight for endpoint in endpoints)
        share = BOUND * requests / sum(endpoint.weight for endpoint in endpoints)
        # Never empty: together the shares are more than all requests with this one.
        bounded = [each for each in endpoints if each.in_flight < share * each.weight]
        return max(bounded, key=lambda endpoint: _draw(key, endpoint))


def _draw(key: bytes, endpoint: E) -> float:
    """Return a number in proportion to weight, the same for the same names."""
    digest = blake2b(endpoint.id.encode(), digest_size=8, key=key).digest()
    uniform = (int.from_bytes(digest) + 1) / ((1 << 64) + 1)
    return -endpoint.weight / log(uniform)
