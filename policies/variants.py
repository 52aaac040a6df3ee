"""Which variant of a model each request belongs to: shares that are exact, and sticky.

What shares a session (or a tenant) draws a number for each variant from its name, scaled by the
variant's share, and the highest wins: a share that grows takes requests over and gives none back,
and every router agrees. All other requests are dealt out so that after every one of them each
variant is within one request of its share, those of sessions counted.

Sources: Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005, for the first; the
smooth weighted round robin of nginx for the second.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import log
from typing import Final

from policies.facts import EndpointPlan, RequestFacts
from policies.fleet import EndpointState
from policies.policy import REST, ModelPolicy, Shadow, Sticky, Variant

MOST_OWED: Final = 16.0
"""Requests that dealing out makes up for, at most, where sessions were uneven."""


class Split:
    """The variants of one model, and what each is owed."""

    def __init__(self, model: str, policy: ModelPolicy) -> None:
        self.policy = policy
        self._model = model
        shares = {name: each.share for name, each in policy.variants.items()}
        rest = 1.0 - sum(shares.values())
        if rest > 1e-9:  # noqa: PLR2004 # less is what adding up has lost
            shares[REST] = rest
        self._shares = {name: share for name, share in sorted(shares.items()) if share > 0}
        self._owed = dict.fromkeys(self._shares, 0.0)

    def choose(self, facts: RequestFacts) -> str:
        """Return the variant that takes a request, and count it."""
        name = self.foresee(facts)
        owed = self._owed
        for each, share in self._shares.items():
            owed[each] = min(MOST_OWED, owed[each] + share)
        owed[name] = max(-MOST_OWED, owed[name] - 1.0)
        return name

    def foresee(self, facts: RequestFacts) -> str:
        """Return the variant that would take a request."""
        key = self._key(facts)
        shares, owed = self._shares, self._owed
        if key is not None:
            return max(shares, key=lambda name: self._draw(key, name))
        return max(shares, key=lambda name: owed[name] + shares[name])

    def _key(self, facts: RequestFacts) -> str | None:
        match self.policy.sticky:
            case Sticky.SESSION:
                return facts.session
            case Sticky.TENANT:
                return facts.tenant or None
            case Sticky.NOTHING:
                return None

    def _draw(self, key: str, name: str) -> float:
        text = f"{self._model}\0{key}\0{name}".encode(errors="surrogatepass")
        uniform = (int.from_bytes(blake2b(text, digest_size=8).digest()) + 1) / ((1 << 64) + 1)
        return self._shares[name] / -log(uniform)


class Copies:
    """Which requests of a model are copied, evenly spread, and how many copies are under way."""

    def __init__(
        self, policy: Shadow, endpoints: Sequence[EndpointState], before: "Copies | None" = None
    ) -> None:
        self.policy = policy
        self._endpoints = endpoints
        self.in_flight: int = before.in_flight if before else 0
        self.dropped: int = before.dropped if before else 0
        """Copies that were due while nobody had room to spare."""
        self._due = 0.0

    def is_due(self) -> bool:
        """Count a request, and return whether it is to be copied."""
        self._due += self.policy.share
        if self._due < 1.0 - 1e-9:  # less is what adding up has lost
            return False
        self._due -= 1.0
        return True

    def place(self, facts: RequestFacts) -> EndpointState | None:
        """Return the shadow endpoint with most room to spare; None where a copy is dropped."""
        free = [
            each
            for each in self._endpoints
            if each.rooms[2] and facts.model in each.plan.models and facts.needs <= each.plan.offers
        ]
        if not free or self.in_flight >= self.policy.max_in_flight:
            self.dropped += 1
            return None
        return min(free, key=lambda each: each.in_flight / each.weight)


def is_of(place: Variant | Shadow, plan: EndpointPlan) -> bool:
    """Return whether an endpoint is one of those named; where none are, each is."""
    if not (place.endpoints or place.pools):
        return True
    return plan.id in place.endpoints or plan.pool in place.pools


def named(places: Iterable[Variant | Shadow], plan: EndpointPlan) -> bool:
    """Return whether any of `places` names an endpoint, by itself or by its pool."""
    return any(plan.id in each.endpoints or plan.pool in each.pools for each in places)
