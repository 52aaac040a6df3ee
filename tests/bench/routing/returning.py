"""Callers that come back: who is refused tries again when it was told to."""

from collections.abc import Iterator
from dataclasses import replace
from heapq import heappop, heappush
from typing import Final

from router.measure.outcome import Fate, Outcome
from router.workload.offers import Offer

MOST_RETURNS: Final = 3
"""Times that one caller comes back."""
FIRST_RETURN: Final = 1_000_000_000
"""Number of the first request of a caller that came back: workloads have fewer."""


class Returning:
    """Requests of a workload and of those who come back, in order of time.

    The workload must go on while callers come back: with its last request the stream is over.
    """

    def __init__(self, offers: Iterator[Offer], *, comes_back: bool) -> None:
        self._offers = offers
        self._comes_back = comes_back
        self._next = next(offers, None)
        self._coming: list[tuple[float, int, Offer]] = []
        """(when, number, request) of those who will come back."""
        self._times: dict[int, int] = {}
        """By number of a request: how often its caller had come back with it."""
        self._returns = 0
        self._at_s = 0.0

    def __iter__(self) -> "Returning":
        return self

    def __next__(self) -> Offer:
        following = self._next
        if following is None:
            raise StopIteration
        if self._coming and self._coming[0][0] <= following.at_s:
            at_s, _, offer = heappop(self._coming)
            # Asked for one ahead: a return may be told of after a later request was handed out.
            self._at_s = max(at_s, self._at_s)
            return replace(offer, at_s=self._at_s)
        self._next = next(self._offers, None)
        self._at_s = following.at_s
        return following

    def is_return(self, outcome: Outcome) -> bool:
        """Return whether this request's caller had been refused before."""
        return outcome.offer.number in self._times

    def learn(self, outcome: Outcome) -> None:
        """Let a caller that was refused come back."""
        offer = outcome.offer
        times = self._times.get(offer.number, 0)
        back_s = outcome.retry_after_s
        if (
            not self._comes_back
            or outcome.fate is not Fate.REFUSED
            or back_s is None
            or times >= MOST_RETURNS
        ):
            return
        at_s = offer.at_s + outcome.total_s + back_s
        again = replace(offer, number=FIRST_RETURN + self._returns, at_s=at_s)
        self._returns += 1
        self._times[again.number] = times + 1
        heappush(self._coming, (at_s, again.number, again))
