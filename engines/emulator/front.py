"""The API server in front of an engine, and the record of when decode steps were delivered."""

from engines.emulator.profiles import Front


class ApiServer:
    """A single process, first come first served: requests in, tokens out."""

    __slots__ = ("_costs", "free_s")

    def __init__(self, costs: Front) -> None:
        self._costs = costs
        self.free_s = 0.0
        """When it is through with all that it was given."""

    @property
    def event_s(self) -> float:
        """Work per streamed token."""
        return self._costs.event_s

    def accept(self, now: float, prompt_tokens: int) -> float:
        """Take a request in; return when the engine has it."""
        work_s = self._costs.accept_s + self._costs.accept_per_token_s * prompt_tokens
        self.free_s = max(self.free_s, now) + work_s
        return self.free_s

    def send(self, now: float, tokens: int) -> float:
        """Send out one step's tokens; return when it turns to them."""
        begun_s = max(self.free_s, now)
        self.free_s = begun_s + tokens * self._costs.event_s
        return begun_s

    def first_delay_s(self, prompt_tokens: int) -> float:
        """Return by how much a first token is later than others."""
        return self._costs.transit_s + self._costs.first_per_token_s * prompt_tokens


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

    def at(self, clock: int, spread: float) -> float:
        """Return when the token at place `spread`, 0..1, of step `clock` was delivered."""
        index = clock - self._base
        return self._times[index] + spread * self._widths[index]

    def slowest_gap_s(self, after: int, until: int) -> float:
        """Return the longest time between two steps in `after`..`until`; 0 for less than two."""
        low, high = after - self._base + 1, until - self._base + 1
        return max(self._gaps[low:high], default=0.0)

    def full(self) -> bool:
        """Say whether it is worth forgetting."""
        return len(self._times) > self._KEEP

    def forget(self, before: int) -> None:
        """Drop the steps before `before`, which nobody will ask for."""
        drop = max(0, before - self._base)
        del self._times[:drop], self._gaps[:drop], self._widths[:drop]
        self._base += drop
