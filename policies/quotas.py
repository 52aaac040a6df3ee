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

    __slots__ = (
        "_allowance",
        "counts_tokens",
        "day",
        "is_busy",
        "places",
        "requests",
        "tokens",
        "whose",
    )

    def __init__(self, name: str, whose: str, allowance: Allowance, count: int = 1) -> None:
        """`name` is the same in all `count` routers."""
        self.whose = whose
        self._allowance = allowance
        rpm, tpm = allowance.requests_per_minute, allowance.tokens_per_minute
        per_day, most = allowance.tokens_per_day, allowance.concurrent
        self.requests = None if rpm is None else Meter(f"{name}:requests", rpm, MINUTE, count)
        self.tokens = None if tpm is None else Meter(f"{name}:tokens", tpm, MINUTE, count)
        self.day = None if per_day is None else Meter(f"{name}:day", per_day, DAY, count)
        self.places = None if most is None else Places(f"{name}:places", most, count)
        self.counts_tokens = tpm is not None or per_day is not None
        """Whether an estimate is needed."""
        self.is_busy = False
        """Whether those who share it are told of it."""

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

    def enter(self, tokens: int, now: float) -> Limited | None:  # noqa: C901, PLR0912 # see below
        """Take on a request, or return why it cannot be; then nothing is taken.

        Written out: a call for each limit would cost as much as all of it.
        """
        requests, meter, day, places = self.requests, self.tokens, self.day, self.places
        if requests is not None:
            if now >= requests.until:
                requests.refresh(now)
            if requests.room <= requests.pending:
                return self._limited(Kind.REQUESTS, requests, 1, now)
        if meter is not None:
            if now >= meter.until:
                meter.refresh(now)
            if meter.room - meter.pending < tokens:
                return self._limited(Kind.TOKENS, meter, tokens, now)
        if day is not None:
            if now >= day.until:
                day.refresh(now)
            if day.room - day.pending < tokens:
                return self._limited(Kind.DAY, day, tokens, now)
        if places is not None:
            if now >= places.until:
                places.refresh(now)
            in_use = places.in_use
            if in_use >= places.most:
                return self._crowded(places)
            places.in_use = in_use = in_use + 1
            places.peak = max(places.peak, in_use)
        if requests is not None:
            requests.pending += 1
        if meter is not None:
            meter.pending += tokens
        if day is not None:
            day.pending += tokens
        return None

    def undo(self, tokens: int) -> None:
        """Take nothing after all, at the very moment of `enter`."""
        if self.requests is not None:
            self.requests.pending -= 1
        if self.tokens is not None:
            self.tokens.pending -= tokens
        if self.day is not None:
            self.day.pending -= tokens
        if self.places is not None:
            self.places.leave()

    def settle(self, reserved: int, used: int, reserved_at: float, now: float) -> None:
        """Let go of a request that `used` so many tokens."""
        meter, day, places = self.tokens, self.day, self.places
        if meter is not None:
            if now < meter.until and (used >= reserved or reserved_at >= meter.since):
                meter.pending += used - reserved
            else:
                meter.settle(reserved, used, reserved_at, now)
        if day is not None:
            if now < day.until and (used >= reserved or reserved_at >= day.since):
                day.pending += used - reserved
            else:
                day.settle(reserved, used, reserved_at, now)
        if places is not None:
            places.in_use -= 1

    def _limited(self, kind: Kind, meter: Meter, asked: int, now: float) -> Limited:
        left, wait_s = meter.left(now), meter.wait_s(asked, now)
        return Limited(kind, self.whose, meter.limit, left, asked, wait_s)

    def _crowded(self, places: Places) -> Limited:
        places.refused()
        left = max(0, places.limit - places.in_use)
        return Limited(Kind.CONCURRENT, self.whose, places.limit, left, 1, PLACE_FREES_S)
