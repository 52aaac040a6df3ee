"""Where bulk may go without spoiling interactive answers, and where it is packed."""

from collections.abc import Sequence

from policies.classify import Ask
from policies.fleet import EndpointState


def unspoilt(
    free: Sequence[EndpointState], ask: Ask, limit_s: float, now: float
) -> list[EndpointState]:
    """Return the endpoints with no interactive request, or whose time a token stays within limit.

    The prediction includes the request itself.
    """
    tokens = ask.prompt_tokens
    return [
        endpoint
        for endpoint in free
        if not endpoint.held[0] or endpoint.forecast(tokens, now)[1] <= limit_s
    ]


def fullest(endpoints: Sequence[EndpointState]) -> EndpointState:
    """Return the one with the least interactive work, and of these the one with the most bulk.

    Bulk keeps together: the other endpoints stay as they are best for those who are in a hurry.
    """
    return min(endpoints, key=_order)


def _order(endpoint: EndpointState) -> tuple[int, int, float]:
    return endpoint.held[0], -endpoint.held[2], endpoint.pending_prompt_tokens / endpoint.weight
