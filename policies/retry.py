"""Whether a request that failed before its first byte may be tried again, elsewhere."""

from policies.facts import FailureKind
from policies.policy import RetryPolicy


class RetryBudget:
    """Retries in proportion to requests, so that an outage is not made worse by them.

    Source: Finagle's retry budget; 10 % of requests and 1/s instead of 20 % and 10/s, because a
    request to an LLM is expensive.
    """

    __slots__ = ("_at", "_balance", "policy")

    def __init__(self, policy: RetryPolicy, now: float | None = None) -> None:
        self.policy = policy
        self._balance = policy.burst
        self._at = now

    def arrived(self) -> None:
        """Add the share of one request."""
        self._balance += self.policy.share_of_requests

    def has_one(self, now: float) -> bool:
        """Return whether one retry may be had."""
        elapsed_s = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._balance = min(self.policy.burst, self._balance + elapsed_s * self.policy.per_s)
        return self._balance >= 1.0

    def spend(self) -> None:
        """Use one retry, or a part of the next where there is none."""
        self._balance -= 1.0


def may_retry(
    kind: FailureKind, attempts: int, budget: RetryBudget, now: float, *, spared: bool
) -> bool:
    """Return whether to try once more after `attempts`; only before the answer's first byte.

    `spared`: this request was already sent again for a stale connection. The first such time is
    free, and no attempt: a kept connection that had been closed says nothing about the engine or
    the request.
    """
    attempts -= spared
    most = budget.policy.max_attempts
    match kind:
        case FailureKind.REJECTED | FailureKind.IDLE_TIMEOUT:
            return False
        case FailureKind.STALE_CONNECTION if not spared:
            return True
        case FailureKind.BUSY:
            # Refusing costs an engine nothing, and the request joins the queue where nobody else
            # has room, so nothing is made worse.
            return attempts < most
        case (
            FailureKind.STALE_CONNECTION
            | FailureKind.NOT_REACHED
            | FailureKind.BROKEN
            | FailureKind.FIRST_TOKEN_TIMEOUT
        ):
            return attempts < most and budget.has_one(now)
