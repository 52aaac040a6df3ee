"""How much of something may be used in a span of time, by several routers together.

A `Meter` counts what was used in a window that moves on slot by slot: what is told as a limit for
a minute holds for every minute, and an idle caller has all of it at once. Routers that share a
limit lease parts of it from a board beside the requests, a few times a second, so that no request
waits: see `Meter.say` and `Meter.hear`. While the board is not heard, each keeps to its part.

Amounts are requests or tokens. Times are seconds since 1970, so that routers mean the same slot.
All state is changed here, in methods that never await.
"""

from dataclasses import dataclass
from math import inf
from typing import Final

STALE_S: Final = 1.0
"""A lease that was not renewed for so long is none."""
IDLE_S: Final = 2.0
"""A meter that nothing was taken from for so long gives its lease back."""
EXCHANGE_S: Final = 0.1
"""Between two exchanges with the board."""
AT_HAND: Final = 16
"""Of places, a router that is being asked keeps one part in so many of its share at hand."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a limit is for."""

    slot_s: float
    slots: int
    """Slots that count, the present one included."""

    @property
    def length_s(self) -> float:
        """At most this long does a use count."""
        return self.slot_s * self.slots


MINUTE: Final = Span(0.5, 121)
"""A use counts for between 60 and 60.5 s: never less than a minute, at most 0.8 % more."""
DAY: Final = Span(86_400.0, 1)
"""The present day, UTC."""


class Window:
    """What was used, by slot."""

    __slots__ = ("_amounts", "_slot", "_span", "total")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._slot = 0
        self._amounts: dict[int, int] = {}
        """By slot, ascending; only slots that count."""
        self.total = 0
        """Of all slots that count, as of the last call."""

    def at(self, now: float) -> int:
        """Move on to a moment and return its slot; time never goes back here."""
        slot = int(now / self._span.slot_s)
        if slot > self._slot:
            self._slot = slot
            self._forget(slot - self._span.slots)
        return self._slot

    def add(self, amount: int, now: float) -> None:
        """Count a use."""
        slot = self.at(now)
        self._amounts[slot] = self._amounts.get(slot, 0) + amount
        self.total += amount

    def take_back(self, amount: int, used_at: float, now: float) -> int:
        """Uncount a part of an earlier use, where it still counts; return how much that was."""
        self.at(now)
        slot = int(used_at / self._span.slot_s)
        back = min(amount, self._amounts.get(slot, 0))
        if back:
            self._amounts[slot] -= back
            self.total -= back
        return back

    def frees_in(self, amount: int, now: float) -> float:
        """Return how long it takes until `amount` no longer counts, s."""
        self.at(now)
        gone = 0
        for slot, used in self._amounts.items():
            gone += used
            if gone >= amount:
                return (slot + self._span.slots) * self._span.slot_s - now
        return self._span.length_s

    def empty_in(self, now: float) -> float:
        """Return how long it takes until nothing counts any more, s."""
        self.at(now)
        newest = next(reversed(self._amounts), None)
        if newest is None:
            return 0.0
        return (newest + self._span.slots) * self._span.slot_s - now

    def _forget(self, last: int) -> None:
        while self._amounts:
            slot = next(iter(self._amounts))
            if slot > last:
                return
            self.total -= self._amounts.pop(slot)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a router says to the board of one limit; amounts."""

    owed: int
    """Used beyond what was leased."""
    backs: dict[int, int]
    """Leased and not used, by the slot that it was leased in."""
    want: int
    """To be leased for the time until the next exchange."""
    least: int
    """The largest that was refused since: no less than this is of use."""
    number: int = 1
    """Of this telling, by this router."""
    heard: int = 0
    """Number of the latest telling whose answer came: what the board did on later ones is undone
    first, for all that was told then is told again."""


def granted(wanted: Wanted, free: int, count: int) -> int:
    """Return what one of `count` routers is given of what is free.

    No more than its part, but that it could do with no less than what it had to refuse.
    """
    if not wanted.want or free <= 0:
        return 0
    part = max(-(-free // count), min(free, wanted.least))
    return min(wanted.want, part)


@dataclass(frozen=True, slots=True)
class Granted:
    """What the board answers of one limit."""

    amount: int
    """Leased from here on."""
    total: int
    """Used or leased by all routers together, this grant included."""
    frees_in_s: float
    """Until `Wanted.least` is free, if nobody else takes it."""


class Meter:
    """One limit, as one router keeps it.

    On the way of a request only `pending` changes: `refresh` works out, twice a second, how much
    there is, and everything since is told from it.
    """

    __slots__ = (
        "_backs",
        "_frees_at",
        "_heard_at",
        "_lease",
        "_leased_at",
        "_number",
        "_number_heard",
        "_others",
        "_refused",
        "_said",
        "_spent",
        "_told_at",
        "_used_at",
        "_usual",
        "_wants",
        "count",
        "limit",
        "most_left",
        "name",
        "own",
        "pending",
        "room",
        "since",
        "span",
        "until",
    )

    def __init__(self, name: str, limit: int, span: Span, count: int = 1) -> None:
        self.name = name
        """The same in all routers."""
        self.limit = limit
        self.span = span
        self.count = count
        """Routers that share it, this one included."""
        self.own = Window(span)
        """What this router used, up to the last refresh."""
        self.room = 0
        """What could be used as of the last refresh."""
        self.most_left = limit
        """What was left of the limit for all routers together, as far as was known then."""
        self.pending = 0
        """Used since."""
        self.since = -inf
        """When that was."""
        self.until = -inf
        """From when on it has to be refreshed."""
        self._lease = 0
        """What may be used until the next exchange; negative where more was used than leased."""
        self._leased_at = 0.0
        self._heard_at = -inf
        """When the board last leased; minus infinity where there is no lease to keep to."""
        self._told_at = -inf
        """When the board last answered."""
        self._wants = False
        self._others = 0
        self._frees_at = 0.0
        self._backs: dict[int, int] = {}
        self._refused = 0
        """The largest amount since the last exchange."""
        self._usual = 0
        """The last amount that was refused: a lease of less is of little use."""
        self._spent = 0
        """Since the last exchange."""
        self._used_at = -inf
        self._said = 0
        """The lease as it was told last; what it changed by since is not known to the board."""
        self._number = 0
        """Of the latest telling."""
        self._number_heard = 0

    @property
    def used(self) -> int:
        """What this router used that still counts."""
        return self.own.total + self.pending

    def refresh(self, now: float) -> None:
        """Work out how much there is at a moment."""
        self._fold()
        slot = self.own.at(now)
        used = self.own.total
        self.most_left = max(0, self.limit - used - self._theirs(now))
        self.since = now
        self.until = (slot + 1) * self.span.slot_s
        if now - self._heard_at < STALE_S:
            self.room = self._lease
            self.until = min(self.until, self._heard_at + STALE_S)
        else:
            part = -(-self.limit // self.count)
            self.room = min(part - used, self.limit - used - self._theirs(now))
            self.until = min(self.until, now + STALE_S)

    def _fold(self) -> None:
        """Count what was used since the last refresh."""
        if self.pending:
            self.own.add(self.pending, self.since)
            self._lease -= self.pending
            self._spent += self.pending
            self._used_at = self.until
            self.pending = 0

    def free(self, now: float) -> int:
        """Return how much may be used at this moment; 0 or less: nothing."""
        if now >= self.until:
            self.refresh(now)
        return self.room - self.pending

    def left(self, now: float) -> int:
        """Return what is left of the limit for all routers together, as far as is known."""
        if now >= self.until:
            self.refresh(now)
        return max(0, self.most_left - self.pending)

    def _theirs(self, now: float) -> int:
        """Return what the others had used when they were last heard of, while it may count."""
        return self._others if now - self._leased_at < self.span.length_s else 0

    def take(self, amount: int, now: float) -> None:
        """Use some."""
        if now >= self.until:
            self.refresh(now)
        self.pending += amount

    def settle(self, reserved: int, used: int, reserved_at: float, now: float) -> None:
        """Correct an estimate; what turned out too much is free again, if it still counts."""
        if now >= self.until:
            self.refresh(now)
        if used >= reserved or reserved_at >= self.since:
            self.pending += used - reserved
        else:
            self._give_back(reserved - used, reserved_at, now)

    def _give_back(self, amount: int, used_at: float, now: float) -> None:
        self._fold()
        back = self.own.take_back(amount, used_at, now)
        if self._lease < 0:
            # The board has not been told of all of it yet.
            untold = min(back, -self._lease)
            self._lease += untold
            back -= untold
        if back:
            slot = int(used_at / self.span.slot_s)
            self._backs[slot] = self._backs.get(slot, 0) + back
        self.refresh(now)

    def wait_s(self, amount: int, now: float) -> float | None:
        """Return when to come back with what was refused, s; None: never, it is over the limit.

        Remembers that so much is wanted.
        """
        if amount > self.limit:
            return None
        self._refused = max(self._refused, amount)
        self._usual = amount
        self.refresh(now)
        if now - self._heard_at < STALE_S:
            if amount <= self.most_left:
                return 2 * EXCHANGE_S
            return max(self._frees_at - now, EXCHANGE_S)
        lacking = amount - self.room
        if self.own.total < lacking:
            return max(self._leased_at + self.span.length_s - now, EXCHANGE_S)
        return max(self.own.frees_in(lacking, now), EXCHANGE_S)

    def reset_s(self, now: float) -> float:
        """Return how long it takes until all of it is free again, if nothing more is used."""
        self.refresh(now)
        return self.own.empty_in(now)

    # sharing

    def say(self, now: float) -> Wanted | None:
        """Return what the board is to be told; None where there is nothing."""
        self._fold()
        idle = now - self._used_at >= IDLE_S and not self._refused
        if idle and not self._lease and not self._backs:
            self._heard_at = self.until = -inf
            return None
        backs, self._backs = self._backs, {}
        if self._lease > 0:
            slot = int(self._leased_at / self.span.slot_s)
            backs[slot] = backs.get(slot, 0) + self._lease
        self._wants = not idle
        want = 0 if idle else self._wanted(now)
        self._number += 1
        owed = max(0, -self._lease)
        wanted = Wanted(owed, backs, want, self._refused, self._number, self._number_heard)
        self._said = self._lease
        self._spent = self._refused = 0
        return wanted

    def _wanted(self, now: float) -> int:
        """Return what to lease: what may be needed until the next exchange, more while much is left.

        At first no more than its own part: what others used of theirs, and have not told yet, is on
        the board by the next time, and would be given away twice.
        """
        if now - self._told_at >= STALE_S:
            return max(0, -(-self.limit // self.count) - self.own.total)
        return max(1, 3 * self._spent, self._usual, self.left(now) // (2 * self.count))

    def hear(self, granted: Granted, now: float) -> None:
        """Take in what the board answered; what was used since it was asked is used of this."""
        self._fold()
        self._number_heard = self._number
        self._lease = granted.amount + self._lease - self._said
        self._leased_at = self._told_at = now
        self._heard_at = now if self._wants else -inf
        self.own.at(now)
        self._others = max(0, granted.total - granted.amount - self.own.total)
        self._frees_at = now + granted.frees_in_s
        self.refresh(now)

    def missed(self, wanted: Wanted) -> None:
        """The board did not answer: what it was told is told again, the lease stands till then."""
        slot = int(self._leased_at / self.span.slot_s)
        for each, amount in wanted.backs.items():
            again = amount - max(0, self._said) if each == slot else amount
            if again > 0:
                self._backs[each] = self._backs.get(each, 0) + again


class Places:
    """How many requests may run at once, by several routers together."""

    __slots__ = (
        "_held",
        "_refused",
        "_told_at",
        "_wants",
        "count",
        "in_use",
        "limit",
        "most",
        "name",
        "peak",
        "until",
    )

    def __init__(self, name: str, limit: int, count: int = 1) -> None:
        self.name = name
        self.limit = limit
        self.count = count
        self.in_use = 0
        self.most = 0
        """That may be in use, until `until`."""
        self.until = -inf
        self._held = 0
        """Leased from the board, those in use included."""
        self._told_at = -inf
        self._wants = False
        self.peak = 0
        """Most in use since the last exchange."""
        self._refused = 0

    def refresh(self, now: float) -> None:
        """Work out how many may be in use: without a lease, a part of all."""
        self.most = max(1, self.limit // self.count)
        self.until = now + STALE_S

    def has_room(self, now: float) -> bool:
        """Tell whether one more may run."""
        if now >= self.until:
            self.refresh(now)
        return self.in_use < self.most

    def refused(self) -> None:
        """Remember that one was turned away."""
        self._refused += 1

    def enter(self) -> None:
        """Take a place."""
        self.in_use += 1
        self.peak = max(self.peak, self.in_use)

    def leave(self) -> None:
        """Give it back."""
        self.in_use -= 1

    @property
    def has_news(self) -> bool:
        """Whether the board should be told anything."""
        return self.in_use > 0 or self._held > 0 or self.peak > 0 or self._refused > 0

    def say(self, now: float) -> tuple[int, int]:
        """Return the places in use, and those that would be held."""
        busy = max(self.in_use, self.peak) + self._refused
        self.peak = self._refused = 0
        self._wants = busy > 0
        if not busy:
            return 0, 0
        if now - self._told_at >= STALE_S:
            # As for a meter: no more than its part before the others have told of theirs.
            return self.in_use, max(1, self.limit // self.count)
        return self.in_use, min(self.limit, busy + max(1, self.limit // (AT_HAND * self.count)))

    def hear(self, held: int, now: float) -> None:
        """Take in what the board leased."""
        self._held = held
        self._told_at = now
        self.most = held
        self.until = now + STALE_S if self._wants else -inf
