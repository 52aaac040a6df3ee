"""Each endpoint in turn."""

from collections.abc import Sequence
from random import Random

from policies.classify import Ask
from policies.endpoints.policy import E


class RoundRobin:
    """Takes turns by weight, whichever endpoints happen to have room.

    Every turn moves an endpoint's own mark on by 1 / weight; the one furthest back is next. One
    that was away for a while starts level with the others and is not owed what it missed.
    Source: Waldspurger and Weihl, Stride Scheduling, 1995.
    """

    def __init__(self) -> None:
        self._marks: dict[str, float] = {}
        self._line = 0.0
        """The mark of the last one chosen, before its turn: nobody is further back."""

    def choose(self, ask: Ask, endpoints: Sequence[E], rng: Random, now: float) -> E:
        """Return the endpoint whose turn it is; the first in order among equals."""
        marks, line = self._marks, self._line
        chosen = min(endpoints, key=lambda endpoint: max(line, marks.get(endpoint.id, line)))
        self._line = max(line, marks.get(chosen.id, line))
        marks[chosen.id] = self._line + 1.0 / chosen.weight
        return chosen
