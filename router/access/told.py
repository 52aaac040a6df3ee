"""What an answer tells of a caller's limits: OpenAI's `x-ratelimit-*` headers.

Of several limits of a kind (the key's, its tenant's) the one that is nearest is told.
Source: OpenAI's API reference, "Rate limits: rate limits in headers".
"""

from collections.abc import Sequence
from math import ceil
from typing import Final

from policies.limits import Meter
from policies.quotas import Quota

_TOLD_S: Final = 120
_WHOLE: Final = [
    b"%ds" % seconds if seconds < 60 else b"%dm%ds" % divmod(seconds, 60)  # noqa: PLR2004
    for seconds in range(_TOLD_S + 1)
]


def told(quotas: Sequence[Quota], now: float) -> bytes:
    """Return header lines; empty where nothing is counted in a minute. `now` is since 1970."""
    requests: Meter | None = None
    tokens: Meter | None = None
    requests_left = tokens_left = 0
    for quota in quotas:
        meter = quota.requests
        if meter is not None:
            left = meter.left(now)
            if requests is None or left < requests_left:
                requests, requests_left = meter, left
        meter = quota.tokens
        if meter is not None:
            left = meter.left(now)
            if tokens is None or left < tokens_left:
                tokens, tokens_left = meter, left
    if requests is None:
        return b"" if tokens is None else _lines(b"tokens", tokens, tokens_left, now)
    lines = _lines(b"requests", requests, requests_left, now)
    return lines if tokens is None else lines + _lines(b"tokens", tokens, tokens_left, now)


def _lines(what: bytes, meter: Meter, left: int, now: float) -> bytes:
    return (
        b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n"
        % (what, meter.limit, what, left, what, duration(meter.reset_s(now)))
    )


def duration(seconds: float) -> bytes:
    """Return a time as OpenAI writes it, rounded up: 12ms, 7s, 1m0s, 5h3m0s."""
    if seconds <= 0.0:
        return b"0s"
    if seconds < 1.0:
        return b"%dms" % ceil(seconds * 1e3)
    whole = ceil(seconds)
    if whole <= _TOLD_S:
        return _WHOLE[whole]
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)
