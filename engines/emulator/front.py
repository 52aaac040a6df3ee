"""The API server in front of an engine, and the record of when decode steps were delivered."""

from collections import deque
from math import inf
from operator import sub

from engines.emulator.profiles import Front
from engines.emulator.sequence import Sequence

_TOGETHER_TURNS = 2.0
"""Requests that come so few turns apart go on together: each task that is ready runs once a turn."""
_STEEPNESS = 3
"""A request waits the longer the less time the server has left between tokens: the share that it
spends on them, to this power, is how often a turn has to wait for a whole step's. Fitted to first
tokens at 60 to 250 streams."""
_TOGETHER = 16
"""Most that do: of 128 that came at once, a step of the measured engines met 16 to 50."""


class ApiServer:
    """A single process, first come first served: requests in, tokens out."""

    __slots__ = (
        "_busy",
        "_costs",
        "_free_s",
        "_group",
        "_group_s",
        "_latest_s",
        "_sent_s",
        "_turn_s",
        "event_s",
        "incoming",
    )

    def __init__(self, costs: Front) -> None:
        self._costs = costs
        self.incoming: deque[tuple[float, Sequence]] = deque()
        """Requests that the engine does not have yet, and when it has them."""
        self._free_s = -inf
        self._latest_s = -inf
        """When the engine has the request that came last."""
        self._group = 0
        """How many of `incoming` get to the engine together with the last of them."""
        self._group_s = -inf
        """When the first of these came."""
        self._sent_s = -inf
        """When the latest step was done whose tokens were sent."""
        self._turn_s = 0.0
        """Work on that step's tokens: how long one turn of the event loop takes meanwhile."""
        self._busy = 0.0
        """Share of its time that it spends on tokens, 0..1, as of the latest two steps."""
        self.event_s = costs.event_s
        """Work per streamed token."""

    def accept(self, now: float, sequence: Sequence) -> None:
        """Take a request in."""
        costs = self._costs
        work_s = costs.accept_s + costs.accept_per_token_s * sequence.prompt
        self._free_s = max(self._free_s, now) + work_s
        transit_s = costs.transit_s + costs.transit_per_token_s * sequence.prompt
        transit_s += costs.turns * self._busy**_STEEPNESS * self._turn_s
        self._latest_s = max(self._latest_s, self._free_s + transit_s)
        incoming = self.incoming
        if (
            not costs.turns
            or self._group >= _TOGETHER
            or now >= self._group_s + _TOGETHER_TURNS * self._turn_s
        ):
            self._group_s, self._group = now, 0
        self._group = min(self._group, len(incoming))
        for index in range(len(incoming) - self._group, len(incoming)):
            incoming[index] = (self._latest_s, incoming[index][1])
        incoming.append((self._latest_s, sequence))
        self._group += 1

    def next_ready_s(self) -> float:
        """Return when the engine has its next request; infinite where none is coming."""
        return self.incoming[0][0] if self.incoming else inf

    def let_in(self, now: float) -> list[Sequence]:
        """Return the requests that have got to the engine by `now`, in order."""
        ready: list[Sequence] = []
        while self.incoming and self.incoming[0][0] <= now:
            ready.append(self.incoming.popleft()[1])
        return ready

    def forget(self, sequence: Sequence) -> None:
        """Drop a request that the engine does not have yet."""
        if self.incoming:
            self.incoming = deque(entry for entry in self.incoming if entry[1] is not sequence)

    def send(self, now: float, tokens: int) -> float:
        """Send out one step's tokens; return when it turns to them."""
        begun_s = max(self._free_s, now)
        work_s = tokens * self.event_s
        self._free_s = begun_s + work_s
        self._note(now - self._sent_s, now, work_s)
        return begun_s

    def send_all(self, times: list[float], tokens: int) -> list[float]:
        """Send out several steps' tokens, `tokens` a step; return when it turns to each."""
        work_s, free_s = tokens * self.event_s, self._free_s
        begun: list[float] = []
        for now in times:
            at_s = free_s if free_s > now else now  # noqa: FURB136 (`max` costs thrice)
            begun.append(at_s)
            free_s = at_s + work_s
        self._free_s = free_s
        before_s = times[-2] if len(times) > 1 else self._sent_s
        self._note(times[-1] - before_s, times[-1], work_s)
        return begun

    def _note(self, interval_s: float, now: float, work_s: float) -> None:
        """Remember how busy the latest step kept it, `interval_s` after the one before."""
        self._busy = work_s / interval_s if interval_s > work_s else 1.0
        self._turn_s, self._sent_s = work_s, now

    def open(self, prompt_tokens: int) -> float:
        """Begin an answer, after what is being sent; return when its first token is out."""
        costs = self._costs
        self._free_s += costs.open_s
        return self._free_s + costs.open_per_token_s * prompt_tokens

    def close(self) -> None:
        """End an answer, after its last token."""
        self._free_s += self._costs.close_s


class Deliveries:
    """When the API server turned to the tokens of each decode step, by the batch clock."""

    __slots__ = ("_base", "_gaps", "_times", "_widths")

    _KEEP = 65_536

    def __init__(self) -> None:
        self._base = 1
        self._times: list[float] = []
        self._gaps: list[float] = []
        self._widths: list[float] = []

    def add(self, at_s: float, width_s: float) -> None:
        """Record the next step: when its first token went out, and how long all took."""
        self._gaps.append(at_s - self._times[-1] if self._times else 0.0)
        self._times.append(at_s)
        self._widths.append(width_s)

    def extend(self, times: list[float], width_s: float) -> None:
        """Record several steps that took equally long."""
        latest = self._times[-1] if self._times else times[0]
        self._gaps += map(sub, times, (latest, *times))
        self._times += times
        self._widths += [width_s] * len(times)

    def at(self, clock: int, spread: float) -> float:
        """Return when the token at place `spread`, 0..1, of step `clock` was delivered."""
        index = clock - self._base
        return self._times[index] + spread * self._widths[index]

    def slowest_gap_s(self, after: int, until: int) -> float:
        """Return the longest time between two steps in `after`..`until`; 0 for less than two."""
        low, high = after - self._base + 1, until - self._base + 1
        return max(self._gaps[low:high], default=0.0)

    @property
    def is_full(self) -> bool:
        """It is worth forgetting."""
        return len(self._times) > self._KEEP

    def forget(self, before: int) -> None:
        """Drop the steps before `before`, which nobody will ask for."""
        drop = max(0, before - self._base)
        del self._times[:drop], self._gaps[:drop], self._widths[:drop]
        self._base += drop
