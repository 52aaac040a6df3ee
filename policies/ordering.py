"""Who waits, in which order, until when.

Strict order between classes. Within one: who can still be in time before who cannot, tenants that
used little before those that used much, and of one tenant the most urgent, which is who has to be
sent first to be in time. Requests of one class that may go to the same endpoints share a lane: if
the first of a lane finds no slot, none of it is looked at until something happens.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf

from policies.backlog import RANKS, Backlog
from policies.classify import Ask
from policies.facts import Reason
from policies.fleet import EndpointState
from policies.flight import Flight
from policies.pools import Tier


def due_at(ask: Ask) -> float:
    """Return when a request has to be sent at the latest to be in time, whatever comes after."""
    if ask.first_token_by is not None:
        return ask.first_token_by
    return ask.wait_until if ask.finish_by is None else ask.finish_by


class Lane:
    """Requests of one rank that may go to the same endpoints, tenant by tenant."""

    __slots__ = (
        "_detours",
        "_late",
        "_queues",
        "backlog",
        "endpoints",
        "rank",
        "tiers",
        "waiting",
        "wide",
    )

    def __init__(self, rank: int, tiers: tuple[Tier, ...], backlog: Backlog | None = None) -> None:
        self.rank = rank
        self.backlog = backlog or Backlog()
        """Of the model that it is a lane of."""
        self.tiers = tiers
        self.endpoints: tuple[EndpointState, ...] = tuple(
            endpoint for tier in tiers for endpoint in tier.endpoints
        )
        self.wide: Lane | None = None
        """The lane of the same request if its prompt were short; None where it is."""
        self.waiting = 0
        self._queues: dict[str, list[Ticket]] = {}
        """By tenant, the most urgent first; none is empty."""
        self._late: dict[int, Ticket] = {}
        """By number: those that can no longer be in time, in the order in which they became so."""
        self._detours: dict[frozenset[str], Lane] = {}

    @property
    def tickets(self) -> list["Ticket"]:
        """All who wait here, those of a tenant by urgency, the late ones last."""
        return [each for queue in self._queues.values() for each in queue] + [*self._late.values()]

    @property
    def soonest(self) -> float:
        """When the first of those who can still be in time is due; infinite where nobody can."""
        return min((queue[0].due_at for queue in self._queues.values()), default=inf)

    def add(self, ticket: "Ticket") -> None:
        """Add one at the place that its urgency gives it."""
        queue = self._queues.get(ticket.ask.facts.tenant)
        if queue is None:
            self._queues[ticket.ask.facts.tenant] = [ticket]
        else:
            insort(queue, ticket, key=_urgency)
        ticket.waits = True
        self.waiting += 1
        self.backlog.came(self.rank, ticket.queued_at)

    def remove(self, ticket: "Ticket") -> None:
        """Take one out that waits here, wherever it stands."""
        ticket.waits = False
        self.waiting -= 1
        self.backlog.went(self.rank)
        if self._late.pop(ticket.number, None) is None:
            tenant = ticket.ask.facts.tenant
            queue = self._queues[tenant]
            del queue[bisect_left(queue, ticket.urgency, key=_urgency)]
            if not queue:
                del self._queues[tenant]

    def first(self, now: float, used: Callable[[str], float]) -> "Ticket":
        """Return the one to be served next; somebody waits. `used`: what a tenant used lately."""
        self._demote(now)
        queues = self._queues
        if not queues:
            return next(iter(self._late.values()))
        if len(queues) == 1:
            return next(iter(queues.values()))[0]
        return min(queues.items(), key=lambda item: (used(item[0]), item[1][0].urgency))[1][0]

    def _demote(self, now: float) -> None:
        """Set those apart that can no longer be in time: served first, they would make all late."""
        for tenant, queue in list(self._queues.items()):
            while queue and queue[0].due_at <= now:
                late = queue.pop(0)
                self._late[late.number] = late
            if not queue:
                del self._queues[tenant]

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
            detour = Lane(self.rank, tuple(tier for tier in kept if tier.endpoints), self.backlog)
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
    waits: bool = False
    """Whether it stands in its lane."""

    @property
    def reason(self) -> Reason | None:
        """Why it will be sent where it is, if not for the tier that takes it."""
        return Reason.RETRY if self.attempt > 1 else None

    @property
    def due_at(self) -> float:
        """See `due_at`."""
        return due_at(self.ask)

    @property
    def urgency(self) -> tuple[int, float, int]:
        """What those of a tenant are ordered by, the least first; no two are the same."""
        return self.ask.facts.wish.urgency, self.due_at, self.number


def _urgency(ticket: Ticket) -> tuple[int, float, int]:
    return ticket.urgency


class Queue:
    """All who wait. Adding and removing cost the same however many there are."""

    def __init__(self) -> None:
        self.waiting = 0
        self.by_rank = [0] * RANKS
        self._lanes: list[dict[Lane, None]] = [{} for _ in range(RANKS)]
        self._expiries: list[tuple[float, int, Ticket]] = []

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket.waits

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
        lane.remove(ticket)
        if not lane.waiting:
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
        """Take out and return all, in order of arrival."""
        gone = sorted(
            (ticket for lanes in self._lanes for lane in lanes for ticket in lane.tickets),
            key=lambda ticket: (ticket.ask.arrived_at, ticket.number),
        )
        for ticket in gone:
            self.remove(ticket)
        return gone


def foremost(lanes: list[Lane], now: float, used: Callable[[str], float]) -> Lane:
    """Return the lane whose first request is to be served first; somebody waits in each."""
    if len(lanes) == 1:
        return lanes[0]

    def standing(lane: Lane) -> tuple[bool, float, tuple[int, float, int]]:
        first = lane.first(now, used)
        return first.due_at <= now, used(first.ask.facts.tenant), first.urgency

    return min(lanes, key=standing)
