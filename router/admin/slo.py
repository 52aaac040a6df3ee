"""How well promises are kept: attainment and burn rates over several windows, by class and tenant.

Burn rate: the share of requests that missed, over the share that may miss. At 1 the error budget is
used up exactly at the end of its period. Source: Google, The Site Reliability Workbook, chapter 5.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from policies.facts import RefusalReason, SlaClass
from router.admin.recent import Seen
from router.measure.distribution import Distribution

BIN_S: Final = 10.0
"""Requests are counted in pieces of time of this length."""
WINDOWS_S: Final = {"5m": 300.0, "1h": 3600.0, "6h": 21600.0}
MOST_TENANTS: Final = 100
OTHER: Final = "other"
_CALLERS_OWN: Final = frozenset(
    {RefusalReason.UNKNOWN_MODEL, RefusalReason.UNSUPPORTED, RefusalReason.TOO_LONG}
)


@dataclass(slots=True)
class Bin:
    """What ended within one piece of time."""

    number: int
    """Pieces since the clock's zero."""
    offered: int = 0
    """Requests with a target."""
    met: int = 0
    requests: int = 0
    output_tokens: int = 0


class Book:
    """The requests of one class, of one tenant or all, over the longest window."""

    def __init__(self) -> None:
        self._bins: deque[Bin] = deque()

    def add(self, seen: Seen) -> None:
        """Count one; later ones come later."""
        number = int(seen.ended_at / BIN_S)
        bins = self._bins
        if not bins or bins[-1].number < number:
            bins.append(Bin(number))
            while bins[0].number < number - WINDOWS_S["6h"] / BIN_S:
                bins.popleft()
        last = bins[-1]
        last.requests += 1
        if seen.outcome is not None:
            last.output_tokens += seen.outcome.output_tokens or 0
        verdict = verdict_of(seen)
        if verdict is not None:
            last.offered += 1
            last.met += verdict

    def window(self, now: float, window_s: float, objective: float) -> dict[str, Any]:
        """Return what one window says; attainment and burn rate are None without requests."""
        first = (now - window_s) / BIN_S
        inside = [each for each in self._bins if each.number >= first]
        offered, met = sum(each.offered for each in inside), sum(each.met for each in inside)
        attainment = met / offered if offered else None
        return {
            "requests": sum(each.requests for each in inside),
            "offered": offered,
            "met": met,
            "attainment": attainment,
            "burn_rate": None if attainment is None else (1.0 - attainment) / (1.0 - objective),
            "goodput_per_s": met / window_s,
            "output_tokens_per_s": sum(each.output_tokens for each in inside) / window_s,
        }


def verdict_of(seen: Seen) -> bool | None:
    """Return whether a request counts as a promise kept, as broken, or as none made."""
    if seen.refusal is not None and seen.flight is None:
        return None if seen.refusal.reason in _CALLERS_OWN else False
    return seen.met


class Slo:
    """All books."""

    def __init__(self, objective: float) -> None:
        self.objective = objective
        self._classes = {sla_class: Book() for sla_class in SlaClass}
        self._tenants: dict[tuple[str, SlaClass], Book] = {}

    def add(self, seen: Seen) -> None:
        """Count one request."""
        self._classes[seen.sla_class].add(seen)
        tenant = seen.facts.tenant
        if tenant:
            key = (tenant, seen.sla_class)
            if key not in self._tenants and len(self._tenants) >= MOST_TENANTS:
                key = (OTHER, seen.sla_class)
            self._tenants.setdefault(key, Book()).add(seen)

    def report(self, now: float) -> dict[str, Any]:
        """Return every window of every book."""
        return {
            "objective": self.objective,
            "classes": {name: self._windows(book, now) for name, book in self._classes.items()},
            "tenants": [
                {"tenant": tenant, "class": sla_class, "windows": self._windows(book, now)}
                for (tenant, sla_class), book in sorted(self._tenants.items())
            ],
        }

    def burning(self, now: float) -> Iterator[tuple[SlaClass, str, float]]:
        """Yield the burn rate of each class and window that had requests."""
        for sla_class, book in self._classes.items():
            for name, window in self._windows(book, now).items():
                if window["burn_rate"] is not None:
                    yield sla_class, name, window["burn_rate"]

    def _windows(self, book: Book, now: float) -> dict[str, Any]:
        return {
            name: book.window(now, window_s, self.objective) for name, window_s in WINDOWS_S.items()
        }


TREND_S: Final = 5.0
TREND_BINS: Final = 120


class Trend:
    """How latencies of one class went over the last ten minutes."""

    def __init__(self) -> None:
        self._bins: deque[tuple[int, Distribution, Distribution, Bin]] = deque(maxlen=TREND_BINS)

    def add(self, seen: Seen) -> None:
        """Count one; later ones come later."""
        number = int(seen.ended_at / TREND_S)
        if not self._bins or self._bins[-1][0] < number:
            self._bins.append((number, Distribution(), Distribution(), Bin(number)))
        _, first_token, per_token, counts = self._bins[-1]
        verdict = verdict_of(seen)
        counts.requests += 1
        if verdict is not None:
            counts.offered += 1
            counts.met += verdict
        outcome = seen.outcome
        if outcome is not None and outcome.first_token_s is not None:
            first_token.add(outcome.first_token_s)
        if outcome is not None and outcome.per_token_s is not None:
            per_token.add(outcome.per_token_s)

    def points(self, now: float) -> list[list[float | None]]:
        """Return, by piece of time: age s, TTFT p50 and p99, TPOT p50 and p99, attainment, requests."""
        return [
            [
                round(now - number * TREND_S, 1),
                first_token.percentile(0.5),
                first_token.percentile(0.99),
                per_token.percentile(0.5),
                per_token.percentile(0.99),
                counts.met / counts.offered if counts.offered else None,
                float(counts.requests),
            ]
            for number, first_token, per_token, counts in self._bins
            if now - number * TREND_S <= TREND_S * TREND_BINS
        ]
