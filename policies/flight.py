"""One attempt at one request, from being sent until its slot is given back."""

from typing import TYPE_CHECKING, Final

from policies.classify import Ask
from policies.facts import Reason

if TYPE_CHECKING:
    from policies.fleet import EndpointState

NONE_TRIED: Final = frozenset[str]()


class Flight:
    """One attempt at one request: from being sent until its slot is given back."""

    __slots__ = (
        "ahead_tokens",
        "ask",
        "attempt",
        "beside",
        "endpoint",
        "first_token_at",
        "gather_s",
        "held",
        "hit_tokens",
        "id",
        "kv_tokens",
        "moved_at",
        "output_tokens",
        "pending_tokens",
        "predicted_first_token_s",
        "predicted_per_token_s",
        "queued_s",
        "read_before",
        "reason",
        "sent_at",
        "spared",
        "trial",
        "tried",
        "unread",
    )  # fmt: skip

    def __init__(
        self,
        id: int,  # noqa: A002 # the attribute
        ask: Ask,
        endpoint: "EndpointState",
        reason: Reason,
        sent_at: float,
    ) -> None:
        self.id = id
        self.ask = ask
        self.endpoint = endpoint
        self.reason = reason
        self.sent_at = sent_at
        self.attempt = 1
        """1 for the first."""
        self.queued_s = 0.0
        """Time waited for a slot, all attempts together."""
        self.tried = NONE_TRIED
        """Endpoints that failed at this request before."""
        self.first_token_at: float | None = None
        self.output_tokens = 0
        """As counted so far."""
        self.held = False
        """Whether it holds its slot."""
        self.pending_tokens = 0
        """Prompt tokens that it adds to the endpoint's pending ones."""
        self.trial = False
        """Whether it is the one request that an endpoint is tried with."""
        self.spared = False
        """Whether this request was already sent again for a connection found stale."""
        self.moved_at = 0.0
        """When its last token came, as far as was noted."""
        self.unread = False
        """Whether its caller has stopped reading, so that nothing can come."""
        self.hit_tokens = 0
        """Prompt tokens that its endpoint is expected to have read already."""
        self.ahead_tokens = 0
        """Prompt tokens pending at its endpoint when it was sent, its own included."""
        self.beside = 0
        """Requests in flight there then, itself included."""
        self.kv_tokens = 0
        """Tokens in flight there then, its own included."""
        self.gather_s = 0.0
        """How long its engine might have let it wait for others to join with, s."""
        self.read_before = 0
        """Prompt tokens read there when its answer began."""
        self.predicted_first_token_s = 0.0
        """As predicted when it was sent."""
        self.predicted_per_token_s = 0.0
