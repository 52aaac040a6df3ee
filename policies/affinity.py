"""Which endpoint is likely to have the beginning of a prompt in its cache already.

Every request says what its prompt begins with, as hashes of ever longer beginnings. Where one of
these was sent lately, that endpoint has read it; how much of it is really still cached there, the
engines' own counts of cached tokens teach.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from policies.facts import RequestFacts

MOST_BEGINNINGS: Final = 65536
"""Beginnings remembered; those not seen for longest are forgotten."""
FIRST_TRUST: Final = 0.8
"""Share of an expected hit that is reckoned with at first; a guess."""
LEAST_TRUST: Final = 0.2
"""Least such share: with less, caches would not be followed any more, and nothing be learned."""
STEP: Final = 0.05
"""Weight of one observation in that share."""
SESSION_SHARE: Final = 0.5
"""Share of a prompt that its session's last one has in common with it, where nothing else is
known; a guess."""


@dataclass(frozen=True, slots=True)
class Favourite:
    """Where a request would find part of its prompt read already."""

    endpoint_id: str
    hit_tokens: int
    """Prompt tokens that need not be read there, as far as can be told."""


class Affinity:
    """What was sent where lately, by beginning and by session."""

    def __init__(self) -> None:
        self.trust = FIRST_TRUST
        self._endpoints: OrderedDict[int | str, str] = OrderedDict()

    def favourite(self, facts: RequestFacts, prompt_tokens: int) -> Favourite | None:
        """Return where most of the prompt was read before; None where nothing is known."""
        known, beginnings = self._endpoints, facts.beginnings
        for at in range(len(beginnings) - 1, -1, -1):
            endpoint_id = known.get(beginnings[at])
            if endpoint_id is not None:
                # What follows the last whole block counts as half of one.
                share = (at + 1) / (len(beginnings) + 0.5)
                return Favourite(endpoint_id, int(self.trust * share * prompt_tokens))
        endpoint_id = known.get(facts.session) if facts.session is not None else None
        if endpoint_id is None:
            return None
        return Favourite(endpoint_id, int(self.trust * SESSION_SHARE * prompt_tokens))

    def went(self, facts: RequestFacts, endpoint_id: str) -> None:
        """Note where a request was sent."""
        known = self._endpoints
        for beginning in facts.beginnings:
            known[beginning] = endpoint_id
            known.move_to_end(beginning)
        if facts.session is not None:
            known[facts.session] = endpoint_id
            known.move_to_end(facts.session)
        while len(known) > MOST_BEGINNINGS:
            known.popitem(last=False)

    def learn(self, expected_tokens: int, cached_tokens: int) -> None:
        """Compare what was expected to be cached, > 0, with what the engine says was."""
        seen = min(1.0, self.trust * cached_tokens / expected_tokens)
        self.trust = max(LEAST_TRUST, self.trust + STEP * (seen - self.trust))
