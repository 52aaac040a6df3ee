"""One replica among others: tells the board what it has, and the dispatcher what the others have.

No request ever waits for the board: everything goes on beside them, one exchange at a time, each
bounded in time. What was heard last stands until the next; after a second without, the replica is
alone and keeps to its share of every cap.

All state is changed here, in methods that never await but for `run` and `leave`, which only call
them. An exchange is `say`, and then `hear` or `missed`; it costs CPU twenty times a second, beside
the requests, so it is written to be quick.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Final

from engines.engine import EngineLoad
from policies.dispatcher import Dispatcher
from policies.fleet import EndpointState
from policies.others import Others
from router.replicas.board import Board, BoardFailed, Claim, View, Word
from router.replicas.experience import Experience
from router.replicas.shares import permits_wanted, reader, room, share
from router.replicas.sums import NOTHING_THERE, Sum, added_up
from router.replicas.word import NO_WORK, NOTHING, Mode, Reading, Said, Work, read, written

logger = logging.getLogger("headway")

EXCHANGE_S: Final = 0.05
"""Between two exchanges while the board answers."""
CALM_S: Final = 0.1
"""The same while no replica has bulk and nobody waits: then only counts are told, and those may be
so old without harm to where requests go."""
RETRY_S: Final = 0.25
"""Between two while it does not."""
LIMIT_S: Final = 0.25
"""What one exchange may take."""
STALE_S: Final = 1.0
"""What was heard stands so long. Less than half a life, so that a permit is never used after the
board took it back."""
CAUTION_S: Final = 30.0
"""A replica that is alone takes up its share of bulk permits that others held only after this:
until then they may still use them."""
TURN_S: Final = 0.05
"""Bulk that waited less long than another replica's by no more than this may pass it."""
READING_LIFE_S: Final = 3.0
"""Gauges that a replica read for all, and that are older, are no gauges."""
CLOCK_DRIFT: Final = 1.02
"""By how much a slower exchange than the quickest seen may tell the board's time, grown each time."""

NOBODY_WAITS: Final = (None, 0)

Sleep = Callable[[float], Awaitable[object]]


class Member:
    """See the module.

    `pump(now)` lets waiting requests go; `expected` replicas are reckoned with until some were
    heard of.
    """

    def __init__(  # noqa: PLR0913 # it stands between the board, the dispatcher and the clock
        self,
        board: Board,
        dispatcher: Dispatcher,
        *,
        replica: str,
        host: str,
        clock: Callable[[], float],
        pump: Callable[[float], None],
        expected: int = 1,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.replica = replica
        self.mode = Mode.JOINING
        self.others: Mapping[str, Said] = {}
        """What the other replicas said last, by name."""
        self.said = Said()
        """What this one said last."""
        self.exchanges = 0
        self.failures = 0
        self.exchange_s = 0.0
        """What the last exchange took."""
        self.cautious = True
        """The board gives no permits away at present."""
        self._board = board
        self._dispatcher = dispatcher
        self._experience = Experience(dispatcher)
        self._host = host
        self._clock = clock
        self._pump = pump
        self._sleep = sleep
        self._members: list[str] = [replica, *(f"~{number}" for number in range(1, expected))]
        """All replicas as last heard, this one included, in order."""
        self._held: dict[str, int] = {}
        """Bulk permits by endpoint id."""
        self._texts: dict[str, tuple[bytes, Said]] = {}
        self._sums: dict[str, Sum] = {}
        """What the others have together, by endpoint; empty while this one is alone."""
        self._is_reader: dict[str, bool] = {}
        """Whether this replica reads an endpoint's gauges for all, as far as worked out."""
        self._readings: dict[str, Reading] = {}
        """The newest by endpoint id, whoever read it."""
        self._number = 0
        self._offset_s = 0.0
        """The board's time less ours."""
        self._quickest_s = inf
        self._stirs = True
        """Whether there is bulk, or somebody waits, here."""
        self._others_stir = True
        """The same of the others."""
        self._heard_at = clock()
        """When the last exchange that was answered began."""

    @property
    def count(self) -> int:
        """Replicas that are reckoned with, this one included."""
        return len(self._members)

    @property
    def permits(self) -> Mapping[str, int]:
        """Bulk requests that this replica may have, by endpoint id."""
        return self._held

    def begin(self, now: float) -> None:
        """Hold bulk back until the board was heard: nothing is known of others'."""
        for endpoint in self._dispatcher.endpoints.values():
            self._dispatcher.heard(endpoint.id, Others(bulk_permits=0), now)

    async def run(self) -> None:
        """Take part until cancelled."""
        self.begin(self._clock())
        while True:
            began = self._clock()
            try:
                await self._exchange(began)
            except Exception:  # whatever broke, the next exchange starts from what is
                logger.exception("replicas: exchange broke")
            await self._sleep(max(0.0, began + self.pause_s - self._clock()))

    @property
    def pause_s(self) -> float:
        """From the beginning of one exchange to that of the next."""
        if self.mode is Mode.ALONE:
            return RETRY_S
        calm = self.mode is Mode.SHARED and not self._stirs and not self._others_stir
        return CALM_S if calm else EXCHANGE_S

    async def leave(self) -> None:
        """Tell the board that this replica is no more, if it listens, and let go of it."""
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._board.leave(self.replica)
                await self._board.close()
        except (BoardFailed, TimeoutError):
            logger.debug("replicas: left without a word", exc_info=True)

    async def _exchange(self, began: float) -> None:
        word = self.say(began)
        self.exchanges += 1
        try:
            async with asyncio.timeout(LIMIT_S):
                view = await self._board.exchange(word)
        except TimeoutError:
            self.missed(f"no answer within {LIMIT_S:g} s")
        except BoardFailed as failure:
            self.missed(str(failure))
        else:
            self.hear(view, began)

    # speaking

    def say(self, now: float) -> Word:
        """Return what is to be told, and hold no more permits than it says."""
        self._number += 1
        waiting = self._dispatcher.waiting_bulk()
        work: dict[str, Work] = {}
        claims: dict[str, Claim] = {}
        down: list[str] = []
        held: dict[str, int] = {}
        self._stirs = self._dispatcher.waiting > 0
        for name, endpoint in self._dispatcher.endpoints.items():
            first, count = waiting.get(name, NOBODY_WAITS)
            own = endpoint.own_held
            done = self._work(endpoint, own, first)
            if done != NO_WORK:
                work[name] = done
            if own[2]:
                self._stirs = True
            claims[name] = claim = self._claim(endpoint, own[2], first, count)
            held[name] = self._held.get(name, 0)
            if claim.keep < held[name]:
                held[name] = claim.keep
                self._lower(endpoint, claim.keep, now)
            if not endpoint.health.hopeful:
                down.append(name)
        self._held = held
        self._experience.say(now)
        self.said = Said(
            host=self._host,
            mode=self.mode,
            waiting=self._waiting(),
            work=work,
            permits={name: count for name, count in held.items() if count},
            down=tuple(down),
            readings={n: each for n, each in self._readings.items() if self._reads_for_all(n)},
            used=self._experience.used,
            lessons=self._experience.lessons,
        )
        return Word(self.replica, self._number, written(self.said), claims)

    def _work(
        self, endpoint: EndpointState, own: tuple[int, int, int], first: float | None
    ) -> Work:
        others = endpoint.others
        return Work(
            *own,
            endpoint.pending_prompt_tokens - others.pending_prompt_tokens,
            endpoint.kv_tokens - others.kv_tokens,
            None if first is None else first + self._offset_s,
        )

    def _claim(
        self, endpoint: EndpointState, in_use: int, first: float | None, waiting: int
    ) -> Claim:
        cap = endpoint.bulk_cap
        theirs = self._first_waiting(endpoint.id)
        is_turn = theirs == inf if first is None else first <= theirs + TURN_S
        want = permits_wanted(in_use, waiting, cap, self.count, is_turn=is_turn and cap > 0)
        keep = max(in_use, min(self._held.get(endpoint.id, 0), want))
        return Claim(keep, max(keep, want), cap)

    def _first_waiting(self, endpoint_id: str) -> float:
        """Return the place of the first bulk of the others, by our clock."""
        return self._sums.get(endpoint_id, NOTHING_THERE).first_waiting_s - self._offset_s

    def _waiting(self) -> tuple[int, int, int]:
        interactive, standard, bulk = self._dispatcher.waiting_by_rank
        return interactive, standard, bulk

    # hearing

    def hear(self, view: View, began: float) -> None:
        """Take in an answer; `began`: when what it answers was said."""
        now = self._clock()
        self.exchange_s = now - began
        self._heard_at = began
        self.cautious = view.cautious
        self._set_time(view.now_s, began, now)
        self.others = self._understood(view.texts)
        members = sorted({*view.texts, self.replica})
        changed = self.mode is not Mode.SHARED or members != self._members
        if changed:
            self._members = members
            self._is_reader.clear()
            self._become(Mode.SHARED)
        self._sums = added_up(self.others.values())
        self._others_stir = any(map(_stirs, self.others.values()))
        heard, permits = self._dispatcher.heard, view.permits
        for name, endpoint in self._dispatcher.endpoints.items():
            self._held[name] = held = permits.get(name, 0)
            heard(name, self._others_of(endpoint, held), now)
        self._take_readings(now)
        self._experience.hear(self.others.values(), now, at_once=changed)
        self._pump(now)

    def _set_time(self, board_s: float, began: float, now: float) -> None:
        """Tell the board's time from the quickest of late exchanges: it can be wrong by half."""
        self._quickest_s *= CLOCK_DRIFT
        if now - began <= self._quickest_s:
            self._quickest_s = now - began
            self._offset_s = board_s - 0.5 * (began + now)

    def _understood(self, texts: Mapping[str, bytes]) -> dict[str, Said]:
        known, self._texts = self._texts, {}
        for name, text in texts.items():
            if name != self.replica:
                before_text, before = known.get(name, (b"", NOTHING))
                said = before if text == before_text else read(text, before)
                self._texts[name] = text, said
        return {name: said for name, (_, said) in self._texts.items()}

    def _others_of(self, endpoint: EndpointState, permits: int) -> Others:
        there = self._sums.get(endpoint.id, NOTHING_THERE)
        interactive, standard, bulk = there.interactive, there.standard, there.bulk
        free = endpoint.plan.max_in_flight - endpoint.own_in_flight - interactive - standard - bulk
        return Others(
            (interactive, standard, bulk),
            there.pending_prompt_tokens,
            there.kv_tokens,
            room=room(free, self.count),
            bulk_permits=permits,
            bulk_before=there.first_waiting_s - self._offset_s + TURN_S,
        )

    def _lower(self, endpoint: EndpointState, permits: int, now: float) -> None:
        """Use fewer permits at an endpoint from here on."""
        # The room counts from here on: what has been taken of it since it was heard is taken.
        left = endpoint.slots - endpoint.in_flight
        others = replace(endpoint.others, bulk_permits=permits, room=max(0, left))
        self._dispatcher.heard(endpoint.id, others, now)

    # being alone

    def missed(self, reason: str) -> None:
        """Take in that there was no answer."""
        now = self._clock()
        self.failures += 1
        self.exchange_s = now - self._heard_at
        if now - self._heard_at < STALE_S:
            return
        if self.mode is not Mode.ALONE:
            self._become(Mode.ALONE, reason)
        self._sums = {}
        for endpoint in self._dispatcher.endpoints.values():
            self._dispatcher.heard(endpoint.id, self._reckoned(endpoint, now), now)
        self._pump(now)

    def _reckoned(self, endpoint: EndpointState, now: float) -> Others:
        """Return what the others may have, going by our own: they are served the same traffic."""
        times = self.count - 1
        own, theirs = endpoint.own_held, endpoint.others
        interactive, standard, bulk = (times * each for each in own)
        slots = share(endpoint.plan.max_in_flight, self._members, self.replica, endpoint.id)
        permits = share(endpoint.bulk_cap, self._members, self.replica, endpoint.id)
        # Nobody else can hold them where there is nobody else.
        if times and now - self._heard_at < CAUTION_S:
            permits = min(permits, max(self._held.get(endpoint.id, 0), self._unheld(endpoint)))
        self._held[endpoint.id] = permits
        return Others(
            (interactive, standard, bulk),
            times * (endpoint.pending_prompt_tokens - theirs.pending_prompt_tokens),
            times * (endpoint.kv_tokens - theirs.kv_tokens),
            room=max(0, slots - endpoint.own_in_flight),
            bulk_permits=permits,
        )

    def _unheld(self, endpoint: EndpointState) -> int:
        """Return the bulk permits that no other replica held when it was last heard.

        None where none was ever heard. What was given away just before the board went silent is
        not known here: so a cap may be overrun by that, as long as it runs.
        """
        if not self.others:
            return 0
        return endpoint.bulk_cap - sum(
            said.permits.get(endpoint.id, 0) for said in self.others.values()
        )

    def _become(self, mode: Mode, reason: str = "") -> None:
        self.mode = mode
        fields = {"replica": self.replica, "replicas": self.count}
        if mode is Mode.ALONE:
            extra = {**fields, "reason": reason, "share": 1 / self.count}
            logger.warning("replicas alone", extra=extra)
        else:
            logger.info("replicas shared", extra=fields)

    # engines' gauges, read by one for all

    def reads(self, endpoint_id: str) -> bool:
        """Tell whether this replica is to read an endpoint's gauges."""
        if self.mode is not Mode.SHARED or self._reads_for_all(endpoint_id):
            return True
        reading = self._readings.get(endpoint_id)
        board_s = self._clock() + self._offset_s
        return reading is None or board_s - reading.at_s > READING_LIFE_S

    def observed(self, endpoint_id: str, load: EngineLoad, now: float) -> None:
        """Keep gauges that this replica read, for the others."""
        self._readings[endpoint_id] = Reading(load, now + self._offset_s)

    def _reads_for_all(self, endpoint_id: str) -> bool:
        known = self._is_reader.get(endpoint_id)
        if known is None:
            known = reader(endpoint_id, self._members) == self.replica
            self._is_reader[endpoint_id] = known
        return known

    def _take_readings(self, now: float) -> None:
        for said in self.others.values():
            for name, reading in said.readings.items():
                known = self._readings.get(name)
                if known is None or known.at_s < reading.at_s:
                    self._readings[name] = reading
                    self._dispatcher.observed(name, reading.load, now)


def _stirs(said: Said) -> bool:
    """Return whether a replica has bulk, or somebody waits in it."""
    return any(said.waiting) or any(work.bulk for work in said.work.values())
