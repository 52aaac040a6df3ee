"""Several routers over one fleet: each with a dispatcher of its own, told of the others by a board.

To a world they are one. Every request comes to one of them by chance; what they tell each other is
as old as it is in truth: said as often as a member says it, each at its own moment, and on its way
for a while.
"""

from collections.abc import Callable, Coroutine, Iterable
from random import Random
from typing import Any, Final

from engines.engine import EngineLoad
from policies.commands import Expire, Send, Wait
from policies.dispatcher import Dispatcher
from policies.facts import Ending, FailureKind, Refuse, RequestFacts
from policies.flight import Flight
from policies.ordering import Ticket
from router.replicas.board import View, Word
from router.replicas.member import EXCHANGE_S, Member
from router.replicas.memory import MemoryBoard
from router.simulation.agenda import Agenda

WAY_S: Final = 0.001
"""From a replica to the board, and as long back."""


class Several:
    """Takes the events of one dispatcher and gives each to the router whose request it is."""

    def __init__(
        self,
        dispatchers: Iterable[Dispatcher],
        agenda: Agenda,
        pump: Callable[[float], None],
        rng: Random,
    ) -> None:
        """`pump(now)` carries out what `due` returns. `rng` says who gets a request."""
        self._all = list(dispatchers)
        self._agenda = agenda
        self._rng = rng
        self._now = 0.0
        self._whose: dict[Flight | Ticket, Dispatcher] = {}
        self._board = MemoryBoard(lambda: self._now)
        self._members = [
            Member(
                self._board,
                dispatcher,
                replica=f"replica-{number}",
                host="simulated",
                clock=lambda: self._now,
                pump=pump,
                expected=len(self._all),
            )
            for number, dispatcher in enumerate(self._all)
        ]
        for number, member in enumerate(self._members):
            member.begin(0.0)
            agenda.at(EXCHANGE_S * number / len(self._all), self._speaker(member))

    # What a world asks of a dispatcher

    @property
    def waiting(self) -> int:
        """Requests that wait, and answers that `due` has ready."""
        return sum(each.waiting for each in self._all)

    def arrive(self, facts: RequestFacts, now: float) -> Send | Wait | Refuse:
        """Let a request come to any of the routers."""
        dispatcher = self._rng.choice(self._all)
        return self._noted(dispatcher, dispatcher.arrive(facts, now))

    def first_token(self, flight: Flight, now: float) -> None:
        """See `Dispatcher`, as for all that follow."""
        self._whose[flight].first_token(flight, now)

    def progressed(self, flight: Flight, tokens: int, now: float) -> None:
        """Note more output tokens."""
        self._whose[flight].progressed(flight, tokens, now)

    def ended(
        self,
        flight: Flight,
        ending: Ending,
        now: float,
        *,
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_tokens: int | None = None,
    ) -> None:
        """Give a slot back."""
        self._whose.pop(flight).ended(
            flight,
            ending,
            now,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached_tokens,
        )

    def failed(self, flight: Flight, kind: FailureKind, now: float) -> Send | Wait | Refuse:
        """Answer a request again whose attempt failed."""
        dispatcher = self._whose.pop(flight)
        return self._noted(dispatcher, dispatcher.failed(flight, kind, now))

    def left(self, ticket: Ticket, now: float) -> None:
        """Let a caller go who waits."""
        self._whose.pop(ticket).left(ticket, now)

    def due(self, now: float) -> list[Send | Expire]:
        """Return what has become due at any of them."""
        commands: list[Send | Expire] = []
        for dispatcher in self._all:
            if not dispatcher.waiting:
                continue
            for command in dispatcher.due(now):
                if command.ticket is not None:
                    self._whose.pop(command.ticket)
                if isinstance(command, Send):
                    self._whose[command.flight] = dispatcher
                commands.append(command)
        return commands

    def next_wake(self) -> float | None:
        """Return when to ask `due` again; None where nobody waits."""
        times = [each.next_wake() for each in self._all if each.waiting]
        return min((at for at in times if at is not None), default=None)

    def observed(self, endpoint_id: str, load: EngineLoad, now: float) -> None:
        """Let gauges be read by whoever reads them for all; the others hear of them."""
        self._now = now
        for dispatcher, member in zip(self._all, self._members, strict=True):
            if member.reads(endpoint_id):
                dispatcher.observed(endpoint_id, load, now)
                member.observed(endpoint_id, load, now)

    def probed(self, endpoint_id: str, ok: bool, now: float) -> None:
        """Take in a health probe: every router has its own."""
        for dispatcher in self._all:
            dispatcher.probed(endpoint_id, ok, now)

    def _noted(
        self, dispatcher: Dispatcher, decision: Send | Wait | Refuse
    ) -> Send | Wait | Refuse:
        if isinstance(decision, Send):
            self._whose[decision.flight] = dispatcher
        elif isinstance(decision, Wait):
            self._whose[decision.ticket] = dispatcher
        return decision

    # What they tell each other

    def _speaker(self, member: Member) -> Callable[[float], None]:
        def speak(now: float) -> None:
            self._now = now
            word = member.say(now)
            self._agenda.at(now + WAY_S, lambda at: self._deliver(member, word, now, at))
            self._agenda.at(now + member.pause_s, speak)

        return speak

    def _deliver(self, member: Member, word: Word, began: float, now: float) -> None:
        self._now = now
        view = _at_once(self._board.exchange(word))

        def hear(at: float) -> None:
            self._now = at
            member.hear(view, began)

        self._agenda.at(now + WAY_S, hear)


def _at_once(call: Coroutine[Any, Any, View]) -> View:
    """Run what waits for nothing. Raises RuntimeError where it does."""
    try:
        call.send(None)
    except StopIteration as stop:
        view: View = stop.value
        return view
    call.close()
    raise RuntimeError("a board in memory waited")
