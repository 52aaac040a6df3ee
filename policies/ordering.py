"""Who waits, in which order, until when.

Strict order between classes, first come first served within one. Requests of one class that may
go to the same endpoints share a lane: if the first of a lane finds no slot, none of it would, so
a lane, not a request, is what is looked at when a slot falls free.
"""

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Final

from policies.classify import Ask
from policies.facts import Reason
from policies.fleet import EndpointState, Flight
from policies.pools import Tier

RANKS: Final = 3


class Lane:
    """Requests of one rank that may go to the same endpoints, in order of coming."""

    __slots__ = ("_detours", "endpoints", "rank", "tickets", "tiers")

    def __init__(self, rank: int, tiers: tuple[Tier, ...]) -> None:
        self.rank = rank
        self.tiers = tiers
        self.endpoints: tuple[EndpointState, ...] = tuple(
            endpoint for tier in tiers for endpoint in tier.endpoints
        )
        self.tickets: dict[int, Ticket] = {}
        """By number, in order of arrival."""
        self._detours: dict[frozenset[str], Lane] = {}

    def add(self, ticket: "Ticket") -> None:
        """Add one behind all that arrived before it: a retry passes those that came later."""
        tickets = self.tickets
        last = next(reversed(tickets.values())) if tickets else None
        tickets[ticket.number] = ticket
        if last is not None and ticket.seniority < last.seniority:
            self.tickets = {
                each.number: each
                for each in sorted(tickets.values(), key=lambda each: each.seniority)
            }

    @property
    def first(self) -> "Ticket":
        """The one that waits longest; there is one."""
        return next(iter(self.tickets.values()))

    def without(self, tried: frozenset[str]) -> "Lane":
        """Return the same lane past some endpoints; it may have none left."""
        if not tried:
            return self
        detour = self._detours.get(tried)
        if detour is None:
            kept = (
                Tier(
                    tuple(each for each in tier.endpoints if each.id not in tried),
                    tier.policy,
                    tier.reason,
                )
                for tier in self.tiers
            )
            detour = Lane(self.rank, tuple(tier for tier in kept if tier.endpoints))
            self._detours[tried] = detour
        return detour


@dataclass(slots=True, eq=False)
class Ticket:
    """One waiting request."""

    number: int
    """Ascending, no two the same."""
    ask: Ask
    lane: Lane
    queued_at: float
    attempt: int = 1
    """The attempt that it waits for."""
    queued_s: float = 0.0
    """Time waited before, for earlier attempts."""
    tried: frozenset[str] = field(default=frozenset())
    spared: bool = False
    flight: Flight | None = None
    """Once a slot was found."""

    @property
    def reason(self) -> Reason | None:
        """Why it will be sent where it is, if not for the tier that takes it."""
        return Reason.RETRY if self.attempt > 1 else None

    @property
    def seniority(self) -> tuple[float, int]:
        """What those who wait are ordered by in their class, the least first."""
        return self.ask.arrived_at, self.number


class Queue:
    """All who wait. Adding and removing cost the same however many there are."""

    def __init__(self) -> None:
        self.waiting = 0
        self.by_rank = [0] * RANKS
        self._lanes: list[dict[Lane, None]] = [{} for _ in range(RANKS)]
        self._expiries: list[tuple[float, int, Ticket]] = []

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket.number in ticket.lane.tickets

    def push(self, ticket: Ticket) -> None:
        """Add one."""
        lane = ticket.lane
        lane.add(ticket)
        self._lanes[lane.rank][lane] = None
        heappush(self._expiries, (ticket.ask.wait_until, ticket.number, ticket))
        self.waiting += 1
        self.by_rank[lane.rank] += 1

    def remove(self, ticket: Ticket) -> None:
        """Take one out, wherever it stands. Its entry among the expiries is passed over later."""
        lane = ticket.lane
        del lane.tickets[ticket.number]
        if not lane.tickets:
            del self._lanes[lane.rank][lane]
        self.waiting -= 1
        self.by_rank[lane.rank] -= 1
        if len(self._expiries) > 2 * self.waiting + 64:
            self._expiries = [entry for entry in self._expiries if entry[2] in self]
            heapify(self._expiries)

    def lanes(self, rank: int) -> list[Lane]:
        """Return the lanes of one rank in which somebody waits."""
        return list(self._lanes[rank])

    def next_expiry(self) -> float | None:
        """Return when the next of those waiting will have waited too long."""
        expiries = self._expiries
        while expiries and expiries[0][2] not in self:
            heappop(expiries)
        return expiries[0][0] if expiries else None

    def expire(self, now: float) -> list[Ticket]:
        """Take out and return all that have waited too long, the longest overdue first."""
        gone = []
        while (at := self.next_expiry()) is not None and at <= now:
            ticket = heappop(self._expiries)[2]
            self.remove(ticket)
            gone.append(ticket)
        return gone

    def clear(self) -> list[Ticket]:
        """Take out and return all, those of a class in order of arrival."""
        gone = sorted(
            (ticket for lanes in self._lanes for lane in lanes for ticket in lane.tickets.values()),
            key=lambda ticket: ticket.seniority,
        )
        for ticket in gone:
            self.remove(ticket)
        return gone


def oldest(lanes: list[Lane]) -> Lane:
    """Return the lane whose first request arrived first; each has one."""
    if len(lanes) == 1:
        return lanes[0]
    return min(lanes, key=lambda lane: lane.first.seniority)
