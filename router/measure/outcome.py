"""What became of one offered request, as its caller saw it."""

from dataclasses import dataclass
from enum import StrEnum

from policies.facts import Reason, RefusalReason
from router.answer import met
from router.workload.offers import Offer


class Fate(StrEnum):
    """How an offered request ended; each has exactly one."""

    SERVED = "served"
    """The whole answer came."""
    TRUNCATED = "truncated"
    """An end came, but fewer tokens than there should have been."""
    REFUSED = "refused"
    """Turned away for want of room, time or a healthy engine: 429, 503."""
    REJECTED = "rejected"
    """Found wrong: another 4xx."""
    FAILED = "failed"
    """Broke, before the answer's end or instead of an answer."""
    ABANDONED = "abandoned"
    """The caller lost patience."""


@dataclass(slots=True)
class Outcome:
    """Times are seconds from the moment at which the request was due."""

    offer: Offer
    fate: Fate
    first_token_s: float | None = None
    """None: there was none."""
    per_token_s: float | None = None
    """Mean time per output token after the first; None below two tokens, or not whole."""
    slowest_gap_s: float | None = None
    """Longest time between two tokens."""
    total_s: float = 0.0
    """Until it was over, whatever the fate."""
    output_tokens: int = 0
    """Tokens that the caller has."""
    endpoint: str | None = None
    """The last one that it was sent to; None where there was none, or the caller cannot tell."""
    reason: Reason | None = None
    """Why there."""
    attempts: int = 0
    queued_s: float = 0.0
    """Time waited for a slot in the router."""
    refusal: RefusalReason | str | None = None
    retry_after_s: float | None = None

    @property
    def good(self) -> bool:
        """Whether the answer came whole and met every target that it was held to."""
        if self.fate is not Fate.SERVED:
            return False
        return (
            met(self.offer.targets, self.first_token_s, self.per_token_s, self.total_s) is not False
        )
