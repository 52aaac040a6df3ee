"""All limits of one key or one tenant together: what is refused, taken, and settled at the end.

A request takes its place, one of the requests, and the tokens that it is thought to cost; when it
ends the tokens are set to what it did cost and the place is given back.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.keys import Allowance
from policies.limits import DAY, MINUTE, Meter, Places

PLACE_FREES_S: Final = 1.0
"""When a place will be free is not known; a client that comes back sooner only asks in vain."""


class Kind(StrEnum):
    """Which limit."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    DAY = "tokens_per_day"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class Limited:
    """Why a request is refused."""

    kind: Kind
    whose: str
    """As a person would say it: key 'ab12', tenant 'acme'."""
    limit: int
    left: int
    asked: int
    wait_s: float | None
    """When to come back; None: it is more than the limit itself."""


class Quota:
    """The limits of one holder, as one router keeps them."""

    __slots__ = ("_allowance", "_whose", "day", "places", "requests", "tokens")

    def __init__(self, name: str, whose: str, allowance: Allowance, count: int = 1) -> None:
        """`name` is the same in all `count` routers."""
        self._whose = whose
        self._allowance = allowance
        rpm, tpm = allowance.requests_per_minute, allowance.tokens_per_minute
        per_day, most = allowance.tokens_per_day, allowance.concurrent
        self.requests = None if rpm is None else Meter(f"{name}:requests", rpm, MINUTE, count)
        self.tokens = None if tpm is None else Meter(f"{name}:tokens", tpm, MINUTE, count)
        self.day = None if per_day is None else Meter(f"{name}:day", per_day, DAY, count)
        self.places = None if most is None else Places(f"{name}:places", most, count)

    @property
    def counts_tokens(self) -> bool:
        """Whether an estimate is needed."""
        return self.tokens is not None or self.day is not None

    @property
    def meters(self) -> list[Meter]:
        """All that count a use."""
        return [each for each in (self.requests, self.tokens, self.day) if each is not None]

    def share_among(self, count: int) -> None:
        """Reckon with so many routers."""
        for meter in self.meters:
            meter.count = count
        if self.places is not None:
            self.places.count = count

    def is_for(self, allowance: Allowance) -> bool:
        """Tell whether these are the limits that it keeps to."""
        return self._allowance == allowance

    def refusal(self, tokens: int, now: float) -> Limited | None:
        """Return why a request cannot be taken on; None where it can."""
        requests, meter, day, places = self.requests, self.tokens, self.day, self.places
        if requests is not None and requests.free(now) < 1:
            return self._limited(Kind.REQUESTS, requests, 1, now)
        if meter is not None and meter.free(now) < tokens:
            return self._limited(Kind.TOKENS, meter, tokens, now)
        if day is not None and day.free(now) < tokens:
            return self._limited(Kind.DAY, day, tokens, now)
        if places is not None and not places.has_room(now):
            places.refused()
            left = max(0, places.limit - places.in_use)
            return Limited(Kind.CONCURRENT, self._whose, places.limit, left, 1, PLACE_FREES_S)
        return None

    def _limited(self, kind: Kind, meter: Meter, asked: int, now: float) -> Limited:
        left, wait_s = meter.left(now), meter.wait_s(asked, now)
        return Limited(kind, self._whose, meter.limit, left, asked, wait_s)

    def take(self, tokens: int, now: float) -> None:
        """Take on a request."""
        if self.requests is not None:
            self.requests.take(1, now)
        if self.tokens is not None:
            self.tokens.take(tokens, now)
        if self.day is not None:
            self.day.take(tokens, now)
        if self.places is not None:
            self.places.enter()

    def settle(self, reserved: int, used: int, reserved_at: float, now: float) -> None:
        """Let go of a request that `used` so many tokens."""
        if self.tokens is not None:
            self.tokens.settle(reserved, used, reserved_at, now)
        if self.day is not None:
            self.day.settle(reserved, used, reserved_at, now)
        if self.places is not None:
            self.places.leave()
