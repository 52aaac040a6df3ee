"""What is to happen when, in virtual time."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf

Action = Callable[[float], None]
"""Called with its own time."""


class Agenda:
    """Actions in order of time; those of one time in the order in which they were entered."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Action]] = []
        self._entered = 0

    @property
    def next_at(self) -> float:
        """When the next action is due; infinite where there is none."""
        return self._entries[0][0] if self._entries else inf

    def at(self, at_s: float, action: Action) -> None:
        """Enter an action."""
        self._entered += 1
        heappush(self._entries, (at_s, self._entered, action))

    def every(self, interval_s: float, first_s: float, action: Action) -> None:
        """Enter an action again and again, for ever."""

        def again(now: float) -> None:
            action(now)
            self.at(now + interval_s, again)

        self.at(first_s, again)

    def act(self) -> None:
        """Do what is next; there must be something."""
        at_s, _, action = heappop(self._entries)
        action(at_s)
