"""Where requests meet the dispatcher: whom they wait for, what they are sent to, what is noted.

The one place that feeds the dispatcher events from sockets and carries its commands out. Nothing
here awaits, so that no decision is ever made on a state that has moved on.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from engines.engine import Fault, Route
from policies.dispatcher import Dispatcher, Expire, Flight, Send, Ticket
from policies.facts import Ending, FailureKind, Refuse
from router import errors
from router.answer import Outcome
from router.attempt import Attempt
from router.config import Timeouts
from router.endpoint import Endpoint
from router.intake import read_request
from router.metrics import Metrics
from router.proxy import Exchange
from router.wire.inbound import Inbound, Incoming
from router.wire.limits import Limits

ROUTES: Mapping[bytes, Route] = {route.encode(): route for route in Route}

Note = Callable[[dict[str, Any]], None]


class Door:
    """All that an exchange needs beyond itself."""

    routes = ROUTES

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        endpoints: dict[str, Endpoint],
        metrics: Metrics,
        log: Note,
        limits: Limits,
        timeouts: Timeouts,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
        show_routing: bool,
    ) -> None:
        self.dispatcher = dispatcher
        self.endpoints = endpoints
        self.metrics = metrics
        self.limits = limits
        self.timeouts = timeouts
        self.clock = clock
        self.show_routing = show_routing
        self.connections: set[Inbound] = set()
        self.active: set[Exchange] = set()
        """Exchanges whose answer has not ended, waiting ones included."""
        self._waiting: dict[Ticket, Exchange] = {}
        self._log = log
        self._wall_clock = wall_clock
        self._new_id = new_id
        self._wake: asyncio.TimerHandle | None = None

    # requests

    def begin(self, caller: Inbound, request: Incoming) -> Exchange | None:
        """See `wire.inbound.Door`."""
        route = request.route
        if route is None:
            raise RuntimeError("only inference routes come through the door")
        intake = read_request(route, request.headers, request.body, new_id=self._new_id)
        if isinstance(intake, errors.Problem):
            self._turn_away(caller, request, route, intake)
            return None
        exchange = Exchange(self, caller, request, intake)
        self.active.add(exchange)
        now = request.arrived
        exchange.follow(self.dispatcher.arrive(intake.facts, now), now)
        return None if exchange.ended else exchange

    def _turn_away(
        self, caller: Inbound, request: Incoming, route: Route, problem: errors.Problem
    ) -> None:
        anthropic = route in {Route.MESSAGES, Route.COUNT_TOKENS}
        caller.answer(
            problem.status,
            errors.headers(problem),
            errors.body(problem, anthropic=anthropic),
            close=not request.keep_alive,
        )
        self._log(
            {
                "at": self._wall_clock(),
                "route": route,
                "status": problem.status,
                "error": problem.code,
            }
        )
        caller.finished(keep_alive=request.keep_alive)

    # the queue

    def queue(self, ticket: Ticket, exchange: Exchange) -> None:
        """Remember who waits, and be there when the ticket's time comes."""
        self._waiting[ticket] = exchange
        self._arm()

    def leave(self, ticket: Ticket, now: float) -> None:
        """Take a caller that hung up out of the queue."""
        self._waiting.pop(ticket, None)
        self.dispatcher.left(ticket, now)

    def pump(self, now: float) -> None:
        """Carry out what has become due: releases from the queue, and expiries."""
        if not self.dispatcher.waiting:
            return
        for command in self.dispatcher.due(now):
            exchange = self._waiting.pop(command.ticket, None) if command.ticket else None
            if isinstance(command, Send):
                if exchange is None:
                    # The caller left between the decision and now.
                    self.dispatcher.ended(command.flight, Ending.ABANDONED, now)
                else:
                    exchange.released(command.flight, now)
            elif exchange is not None:
                exchange.expired(command)
        self._arm()

    def _arm(self) -> None:
        """See to it that `pump` runs when the dispatcher next has something to do."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        at = self.dispatcher.next_wake()
        if at is not None:
            delay = max(0.0, at - self.clock())
            self._wake = asyncio.get_running_loop().call_later(delay, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self.pump(self.clock())

    # what goes on beside the requests

    def sweep(self) -> None:
        """Act on every timeout that has passed; to be called a few times a second."""
        now = self.clock()
        for exchange in tuple(self.active):
            exchange.check(now)
        for connection in tuple(self.connections):
            connection.expire(now)
        for endpoint in self.endpoints.values():
            endpoint.pool.sweep()
        self.pump(now)

    def stop(self) -> None:
        """End every exchange that is left, each with an error of its own."""
        for exchange in tuple(self.active):
            exchange.stop()

    # what is noted

    def note_failure(self, attempt: Attempt, kind: FailureKind, fault: Fault) -> None:
        """Note an attempt that failed."""
        self.metrics.retried(kind)
        self._log(
            {
                "at": self._wall_clock(),
                "event": "attempt failed",
                "endpoint": attempt.endpoint.id,
                "failure": kind,
                "detail": fault.message,
            }
        )

    def note_refusal(self, exchange: Exchange, refusal: Refuse) -> None:
        """Note a request that the dispatcher refused."""
        facts = exchange.intake.facts
        sla_class = self.dispatcher.class_of(facts)
        self.metrics.refused(refusal.reason, sla_class, facts.model)

    def note_end(
        self,
        exchange: Exchange,
        ending: Ending | None,
        status: int,
        flight: Flight | None,
        outcome: Outcome | None,
    ) -> None:
        """Note how a request ended: counts, and one line in the log."""
        self.active.discard(exchange)
