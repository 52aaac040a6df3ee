"""Takes endpoints out that answer every health check and yet do not serve.

Looked at a few times a second: an endpoint that has work and on which nothing moves, and one whose
tokens come several times slower than its pool's. Both are put down softly: never more than a share
of a pool, never the last one for a model, and they are back as soon as they move.
"""

from collections.abc import Collection, Iterable
from math import floor, inf
from statistics import median
from typing import Final

from policies.fleet import EndpointState
from policies.health import Cause, State
from policies.progress import READING_IN_PEAKS

SILENCE_IN_TOKENS: Final = 12.0
"""Streams may be silent for so many times the usual time between tokens, however long that is."""
UNKNOWN_IN_STALLS: Final = 4.0
"""Where it is not known how long prompts take to read, they may take so many times the usual limit."""
READINGS: Final = 1.8
"""A counter is read now and then: it can be seen to stand still only after so many readings."""
LEAST_SLOWER_S: Final = 0.01
"""A token's time above the pool's median that matters at all."""


def watch(endpoints: Collection[EndpointState], now: float) -> bool:
    """Judge every endpoint by what moved there; return whether one was put down or came back."""
    changed = False
    pools: dict[str, list[EndpointState]] = {}
    for endpoint in endpoints:
        pools.setdefault(endpoint.plan.pool, []).append(endpoint)
    for pool in pools.values():
        for endpoint in pool:
            changed |= _watch_one(endpoint, pool, endpoints, now)
    return changed


def _watch_one(
    endpoint: EndpointState,
    pool: Collection[EndpointState],
    endpoints: Iterable[EndpointState],
    now: float,
) -> bool:
    health = endpoint.health
    changed = endpoint.ramp(now)
    if health.state is State.DOWN:
        if health.cause is Cause.STILL and endpoint.progress.moved_at > health.down_at:
            endpoint.moved_again(now)
            return True
        return changed
    if not health.hopeful or health.state is State.TRIAL:
        return changed
    peers = [each for each in pool if each is not endpoint]
    cause = _cause(endpoint, peers, now)
    if cause is None or not may_eject(endpoint, pool, endpoints):
        return changed
    endpoint.put_down(cause, now)
    return True


def _cause(endpoint: EndpointState, peers: Collection[EndpointState], now: float) -> Cause | None:
    usual_s = _usual_s(endpoint, peers, now)
    still_s = endpoint.progress.still_s(now)
    if still_s > 0.0 and still_s > _patience_s(endpoint, usual_s, now):
        return Cause.STILL
    own_s = endpoint.progress.per_token_s(now)
    policy = endpoint.health.policy
    if (
        own_s is None
        or usual_s is None
        or not _is_slow(own_s, usual_s, policy.slow_factor)
        or _reads_long(endpoint, peers, now)
    ):
        endpoint.slow_since = inf
        return None
    endpoint.slow_since = min(endpoint.slow_since, now)
    return Cause.SLOW if now - endpoint.slow_since >= policy.slow_s else None


def _is_slow(own_s: float, usual_s: float, factor: float) -> bool:
    return own_s > factor * usual_s and own_s - usual_s > LEAST_SLOWER_S


def _reads_long(endpoint: EndpointState, peers: Collection[EndpointState], now: float) -> bool:
    """Return whether any of its peers would be slow as well with the prompts that it has to read."""
    tokens = endpoint.pending_prompt_tokens + endpoint.progress.unread_tokens(now)
    readings = [each.progress.reading for each in peers if each.progress.reading.is_known]
    told = [each.long_s(tokens) for each in readings or (endpoint.progress.reading,)]
    return median(told) > 0.0


def _usual_s(endpoint: EndpointState, peers: Collection[EndpointState], now: float) -> float | None:
    """Return the median time between tokens of those that carry at least a quarter as much."""
    told = [
        each.progress.per_token_s(now)
        for each in peers
        if each.health.hopeful and 4 * each.in_flight >= endpoint.in_flight
    ]
    known = [each for each in told if each is not None]
    return median(known) if known else None


def _patience_s(endpoint: EndpointState, usual_s: float | None, now: float) -> float:
    """Return how long nothing need move."""
    progress, least_s = endpoint.progress, endpoint.health.policy.stall_s
    patience_s = least_s
    if progress.streams:
        per_token_s = usual_s if usual_s is not None else progress.per_token_s(now)
        patience_s = max(least_s, SILENCE_IN_TOKENS * (per_token_s or 0.0))
    elif progress.counter is not None:
        patience_s = max(least_s, READINGS * progress.read_every_s)
    if progress.pending:
        patience_s = max(patience_s, _reading_s(endpoint, least_s))
    return patience_s


def _reading_s(endpoint: EndpointState, stall_s: float) -> float:
    """Return how long an endpoint may give nobody a token because of prompts it has to read."""
    reading, tokens = endpoint.progress.reading, endpoint.pending_prompt_tokens
    least_s = 0.0 if reading.is_familiar(tokens) else UNKNOWN_IN_STALLS * stall_s
    return max(least_s, READING_IN_PEAKS * reading.expected_s(tokens))


def may_eject(
    endpoint: EndpointState, pool: Collection[EndpointState], endpoints: Iterable[EndpointState]
) -> bool:
    """Return whether the rest of the pool, and of each model's endpoints, is enough."""
    down = sum(not each.health.hopeful for each in pool)
    share = endpoint.health.policy.max_ejected_share
    if down + 1 > max(1, floor(share * len(pool))):
        return False
    return not is_alone(endpoint, endpoints)


def is_alone(endpoint: EndpointState, endpoints: Iterable[EndpointState]) -> bool:
    """Return whether one of its models has no other endpoint that is up."""
    others = [each for each in endpoints if each is not endpoint]
    return any(
        not any(other.health.hopeful and model in other.plan.models for other in others)
        for model in endpoint.plan.models
    )
