"""The router's dispatcher and a fleet of emulated engines, in virtual time.

A request is decided on when it is offered, by the dispatcher that serves; what it decides is
carried out as the proxy would: sent, queued, tried elsewhere, timed out. The dispatcher sees what
a router sees, never a true length. The router's own time and the network are not counted: they are
below a millisecond; the engines' API servers are.

The same seed gives the same run: nothing depends on a clock, and every source of chance is its own.
"""

from collections.abc import Callable, Iterator
from math import inf
from random import Random
from typing import Final

from engines.emulator.jobs import Event, Failed, Finished, FirstToken, Tokens
from engines.emulator.spec import HEALTHY, Faults
from policies.commands import Expire, Send, Wait
from policies.dispatcher import Dispatcher
from policies.facts import Ending, EndpointPlan, FailureKind, RefusalReason, Refuse
from policies.flight import Flight
from policies.ordering import Ticket
from router.measure.outcome import Fate, Outcome
from router.simulation.agenda import Agenda
from router.simulation.conditions import USUAL, Conditions, Observed
from router.simulation.contenders import Contender
from router.simulation.fleet import Fleet
from router.simulation.machine import Machine, failure_kind, faults_of
from router.simulation.several import Several
from router.simulation.trip import Trip
from router.workload.offers import Offer
from router.workload.settings import Fault

_REJECTED: Final = Refuse(RefusalReason.UNSUPPORTED, "the engine found the request wrong")
_CALLERS_FAULT: Final = frozenset(
    {RefusalReason.UNKNOWN_MODEL, RefusalReason.UNSUPPORTED, RefusalReason.TOO_LONG}
)


class World:
    """One run: a fleet, a contender, a stream of offers."""

    def __init__(
        self,
        fleet: Fleet,
        contender: Contender,
        *,
        seed: int,
        faults: tuple[Fault, ...] = (),
        conditions: Conditions = USUAL,
    ) -> None:
        self.observed = Observed()
        self._machines = {
            member.plan.id: Machine(member, Random(f"{seed}/engine/{member.plan.id}"))
            for member in fleet.members
        }
        self._list = list(self._machines.values())
        self._agenda = Agenda()
        self._dispatcher = self._routing(contender, contender.plans(fleet), conditions, seed)
        self._bytes_rng = Random(f"{seed}/bytes")
        self._conditions = conditions
        self._tells_class = contender.tells_class
        self._waiting: dict[Ticket, Trip] = {}
        self._active: dict[Trip, None] = {}
        """All that are not over, in order of arrival."""
        self._outcomes: list[Outcome] = []
        self._schedule_faults(faults)

    def _routing(
        self, contender: Contender, plans: list[EndpointPlan], conditions: Conditions, seed: int
    ) -> Dispatcher | Several:
        """Return the one router that there is, or several that look like one."""
        if conditions.replicas == 1:
            return Dispatcher(plans, contender.policy, Random(f"{seed}/router"))
        dispatchers = [
            Dispatcher(plans, contender.policy, Random(f"{seed}/router/{number}"))
            for number in range(conditions.replicas)
        ]
        return Several(dispatchers, self._agenda, self._pump, Random(f"{seed}/spread"))

    def run(self, offers: Iterator[Offer]) -> Iterator[Outcome]:
        """Yield what becomes of every offer, each once, as soon as it is known."""
        self._start_looking()
        coming = next(offers, None)
        while coming is not None or self._active:
            machine, machine_at = self._next_machine()
            agenda_at = self._agenda.next_at
            wake_at = self._wake_at()
            now = min(machine_at, agenda_at, wake_at)
            if coming is not None and coming.at_s <= now:
                self._arrive(coming)
                coming = next(offers, None)
            elif machine_at <= now:
                self._attend(machine, machine_at)
            elif agenda_at <= now:
                self._agenda.act()
            else:
                self._pump(wake_at)
            if self._outcomes:
                yield from self._outcomes
                self._outcomes.clear()
        self._sum_up()

    # What the router does

    def _arrive(self, offer: Offer) -> None:
        trip = Trip(offer, self._conditions.facts(offer, self._bytes_rng))
        self._active[trip] = None
        now = offer.at_s
        if offer.patience_s is not None:
            self._agenda.at(now + offer.patience_s, lambda at: self._leave(trip, at))
        self._follow(trip, self._dispatcher.arrive(trip.facts, now), now)
        self._pump(now)

    def _follow(self, trip: Trip, decision: Send | Wait | Refuse, now: float) -> None:
        """Carry out a decision, and those that follow from it."""
        while isinstance(decision, Send):
            trip.flight, trip.ticket = decision.flight, None
            refused = self._send(trip, decision.flight, now)
            if refused is None:
                return
            decision = self._failed(trip, decision.flight, refused, now)
        if isinstance(decision, Wait):
            trip.ticket = decision.ticket
            self._waiting[decision.ticket] = trip
        elif not trip.over:
            self._refuse(trip, decision, now)

    def _send(self, trip: Trip, flight: Flight, now: float) -> FailureKind | None:
        trip.attempts += 1
        trip.asked_at = trip.moved_at = now
        machine = self._machines[flight.endpoint.id]
        rank = flight.ask.rank if self._tells_class else 0
        return machine.submit(trip, rank, now)

    def _failed(
        self, trip: Trip, flight: Flight, kind: FailureKind, now: float
    ) -> Send | Wait | Refuse:
        """Give the slot back after a failure before the first token, and decide again."""
        if kind is FailureKind.REJECTED:
            self._dispatcher.ended(flight, Ending.REJECTED, now)
            self._end(trip, Fate.REJECTED, now)
            return _REJECTED
        decision = self._dispatcher.failed(flight, kind, now)
        if isinstance(decision, Refuse) and decision.reason is RefusalReason.RETRIES_SPENT:
            self._end(trip, Fate.FAILED, now, refusal=decision)
        return decision

    def _refuse(self, trip: Trip, refusal: Refuse, now: float) -> None:
        fate = Fate.REJECTED if refusal.reason in _CALLERS_FAULT else Fate.REFUSED
        self._end(trip, fate, now, refusal=refusal)

    def _pump(self, now: float) -> None:
        """Carry out what has become due: releases from the queue, and expiries."""
        while self._dispatcher.waiting:
            commands = self._dispatcher.due(now)
            if not commands:
                return
            for command in commands:
                if command.ticket is None:
                    raise RuntimeError("an answer from the queue belongs to nobody")
                trip = self._waiting.pop(command.ticket)
                trip.ticket = None
                if isinstance(command, Expire):
                    self._refuse(trip, command.refusal, now)
                else:
                    self._follow(trip, command, now)

    def _wake_at(self) -> float:
        at = self._dispatcher.next_wake() if self._dispatcher.waiting else None
        return inf if at is None else at

    def _leave(self, trip: Trip, now: float) -> None:
        """Let a caller hang up."""
        if trip.over:
            return
        if trip.ticket is not None:
            del self._waiting[trip.ticket]
            self._dispatcher.left(trip.ticket, now)
        elif trip.flight is not None and trip.machine is not None:
            trip.machine.abort(trip, now)
            self._dispatcher.ended(trip.flight, Ending.ABANDONED, now)
        self._end(trip, Fate.ABANDONED, now)
        self._pump(now)

    # What the engines do

    def _next_machine(self) -> tuple[Machine, float]:
        soonest, at = self._list[0], inf
        for machine in self._list:  # asked for every event: `min` with a key costs twice as much
            if machine.next_event_at < at:
                soonest, at = machine, machine.next_event_at
        return soonest, at

    def _attend(self, machine: Machine, now: float) -> None:
        """Take in what an engine has to tell by `now`."""
        for event in machine.advance(now):
            trip = machine.trips.get(event.job_id)
            if trip is not None and trip.flight is not None:
                self._take_in(machine, trip, trip.flight, event)
        self._pump(now)

    def _take_in(self, machine: Machine, trip: Trip, flight: Flight, event: Event) -> None:
        at_s = event.at_s
        match event:
            case FirstToken():
                trip.first_at = trip.moved_at = at_s
                trip.steps = machine.engine.gauges().steps
                self._dispatcher.first_token(flight, at_s)
            case Finished():
                del machine.trips[event.job_id]
                trip.machine = None
                self._dispatcher.ended(
                    flight,
                    Ending.COMPLETED,
                    at_s,
                    prompt_tokens=trip.offer.prompt_tokens,
                    output_tokens=event.output_tokens,
                    cached_tokens=event.cached_tokens,
                )
                fate = Fate.SERVED if event.output_tokens >= trip.offer.length else Fate.TRUNCATED
                self._end(trip, fate, at_s, finished=event)
            case Failed():
                del machine.trips[event.job_id]
                trip.machine = None
                if trip.first_at is None:
                    kind = failure_kind(event.cause)
                    self._follow(trip, self._failed(trip, flight, kind, at_s), at_s)
                else:
                    self._dispatcher.ended(flight, Ending.FAILED, at_s)
                    self._end(trip, Fate.FAILED, at_s, tokens=event.output_tokens)
            case Tokens():
                raise RuntimeError("engines are asked for no single tokens")

    # What goes on beside the requests

    def _start_looking(self) -> None:
        self._agenda.every(self._conditions.sweep_s, self._conditions.sweep_s, self._sweep)
        for index, machine in enumerate(self._list):
            # Not all at the same moment.
            share = (index + 1) / len(self._list)
            self._agenda.every(
                self._conditions.scrape_s,
                self._conditions.scrape_s * share,
                self._looker(machine, self._scrape),
            )
            self._agenda.every(
                self._conditions.probe_s,
                self._conditions.probe_s * share,
                self._looker(machine, self._probe),
            )

    def _looker(
        self, machine: Machine, look: Callable[[Machine, float], None]
    ) -> Callable[[float], None]:
        return lambda now: look(machine, now)

    def _sweep(self, now: float) -> None:
        """Note progress, and act on timeouts."""
        observed = self.observed
        observed.sweeps += 1
        observed.waiting += self._dispatcher.waiting
        for machine in self._list:
            self._attend(machine, now)
            in_flight = observed.in_flight.get(machine.id, 0)
            observed.in_flight[machine.id] = in_flight + len(machine.trips)
            steps = machine.engine.gauges().steps
            for trip in tuple(machine.trips.values()):
                self._check(machine, trip, steps, now)
        self._pump(now)

    def _check(self, machine: Machine, trip: Trip, steps: int, now: float) -> None:
        """Count one request's tokens since the last look, one a step; give up on one that hangs."""
        flight = trip.flight
        if flight is None:
            return
        if trip.first_at is None:
            if now - trip.asked_at > self._conditions.timeouts.first_token_s:
                machine.abort(trip, now)
                trip.machine = None
                kind = FailureKind.FIRST_TOKEN_TIMEOUT
                self._follow(trip, self._failed(trip, flight, kind, now), now)
            return
        if steps > trip.steps:
            self._dispatcher.progressed(flight, steps - trip.steps, now)
            trip.steps, trip.moved_at = steps, now
        elif now - trip.moved_at > self._conditions.timeouts.idle_s:
            machine.abort(trip, now)
            self._dispatcher.ended(flight, Ending.FAILED, now)
            self._end(trip, Fate.FAILED, now, tokens=flight.output_tokens)

    def _scrape(self, machine: Machine, now: float) -> None:
        self._attend(machine, now)
        if not machine.engine.faults.dead:
            self._dispatcher.observed(machine.id, machine.load(), now)

    def _probe(self, machine: Machine, now: float) -> None:
        self._dispatcher.probed(machine.id, machine.is_well, now)
        self._pump(now)

    def _schedule_faults(self, faults: tuple[Fault, ...]) -> None:
        for fault in faults:
            machine = self._machines[fault.endpoint]
            self._agenda.at(fault.at_s, self._setter(machine, faults_of(fault)))
            if fault.until_s is not None:
                self._agenda.at(fault.until_s, self._setter(machine, HEALTHY))

    def _setter(self, machine: Machine, faults: Faults) -> Callable[[float], None]:
        def set_faults(now: float) -> None:
            self._attend(machine, now)
            machine.set_faults(faults, now)
            self._attend(machine, now)

        return set_faults

    # Ends

    def _end(
        self,
        trip: Trip,
        fate: Fate,
        now: float,
        *,
        finished: Finished | None = None,
        tokens: int = 0,
        refusal: Refuse | None = None,
    ) -> None:
        """Note what became of a request. Its slot or place has been given back."""
        del self._active[trip]
        self.observed.ended_at = max(self.observed.ended_at, now)
        self._outcomes.append(trip.outcome(fate, now, finished, refusal, tokens=tokens))

    def _sum_up(self) -> None:
        for machine in self._list:
            gauges = machine.engine.gauges()
            self.observed.steps += gauges.steps
            self.observed.preemptions += gauges.preemptions
            self.observed.cached_tokens += gauges.cached_tokens
