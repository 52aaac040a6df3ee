"""What an answer tells of a caller's limits: OpenAI's `x-ratelimit-*` headers.

Of several limits of a kind (the key's, its tenant's) the one that is nearest is told.
Source: OpenAI's API reference, "Rate limits: rate limits in headers".
"""

from collections.abc import Sequence
from math import ceil, inf
from typing import Final

from policies.limits import Meter
from policies.quotas import Quota

RETOLD_S: Final = 0.25
"""How old the reset times that are told may be."""
_TOLD_S: Final = 120
_WHOLE: Final = [
    b"%ds" % seconds if seconds < 60 else b"%dm%ds" % divmod(seconds, 60)  # noqa: PLR2004
    for seconds in range(_TOLD_S + 1)
]


class Telling:
    """The lines of one holder: worked out anew when a limit is, with only what is left filled in."""

    __slots__ = ("_quotas", "_requests", "_template", "_tokens", "_until")

    def __init__(self, quotas: Sequence[Quota]) -> None:
        self._quotas = quotas
        self._requests: Meter | None = None
        self._tokens: Meter | None = None
        self._template = b""
        self._until = inf if not any(q.requests or q.tokens for q in quotas) else -inf

    def lines(self, now: float) -> bytes:
        """Return header lines; empty where nothing is counted in a minute. `now` is since 1970."""
        if now >= self._until:
            self._retell(now)
        requests, tokens = self._requests, self._tokens
        if requests is None:
            return b"" if tokens is None else self._template % _left(tokens)
        if tokens is None:
            return self._template % _left(requests)
        requests_left = requests.most_left - requests.pending
        tokens_left = tokens.most_left - tokens.pending
        if requests_left < 0 or tokens_left < 0:
            return self._template % (_left(requests), _left(tokens))
        return self._template % (requests_left, tokens_left)

    def _retell(self, now: float) -> None:
        self._until = now + RETOLD_S
        requests = [each.requests for each in self._quotas if each.requests is not None]
        tokens = [each.tokens for each in self._quotas if each.tokens is not None]
        self._requests = min(requests, key=lambda each: each.left(now), default=None)
        self._tokens = min(tokens, key=lambda each: each.left(now), default=None)
        self._template = b"".join((
            b"" if self._requests is None else _lines(b"requests", self._requests, now),
            b"" if self._tokens is None else _lines(b"tokens", self._tokens, now),
        ))  # fmt: skip


def _left(meter: Meter) -> int:
    left = meter.most_left - meter.pending
    return max(0, left)


def _lines(what: bytes, meter: Meter, now: float) -> bytes:
    """Return the lines about one limit, with a place for what is left."""
    return (
        b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n"
        b"x-ratelimit-remaining-%b: %%d\r\n"
        % (what, meter.limit, what, duration(meter.reset_s(now)), what)
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
