"""Where requests meet the dispatcher: whom they wait for, what they are sent to, what is noted.

The one place that feeds the dispatcher events from sockets and carries its commands out. Nothing
here awaits, so that no decision is ever made on a state that has moved on.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.engine import Fault, Route
from policies.commands import Send
from policies.dispatcher import Dispatcher
from policies.facts import NO_TARGETS, Ending, FailureKind, Refuse, RequestFacts, SlaClass
from policies.flight import Flight
from policies.ordering import Ticket
from router import declined, errors
from router.access.allotment import Allotment
from router.access.gate import Gate, Stay, presented
from router.access.keyring import Failure, Pass
from router.access_log import AccessLog, Repeated, RequestLine
from router.answer import Outcome, met
from router.attempt import Attempt
from router.endpoint import Endpoint
from router.intake import read_asked, read_request
from router.intake_headers import read_request_id
from router.metrics import Metrics
from router.overload import Overload, most_connections
from router.proxy import ANTHROPIC, End, Exchange
from router.settings import Limits, Timeouts
from router.shadow import Shadows
from router.wire.heads import KnownRequests, RequestHead
from router.wire.inbound import Inbound, Incoming, whole_answer

if TYPE_CHECKING:
    # Loaded only where it is switched on: what it needs may not be installed.
    from router.tracing import Tracing

ROUTES: Mapping[bytes, Route] = {route.encode(): route for route in Route}

STRANGERS_PER_S = 10.0
"""Requests without a key that opens anything, of which each is written down; all are counted."""

logger = logging.getLogger("headway")


class Door:
    """All that an exchange needs beyond itself."""

    def __init__(  # noqa: PLR0913 # all that requests share
        self,
        *,
        dispatcher: Dispatcher,
        endpoints: dict[str, Endpoint],
        metrics: Metrics,
        access_log: AccessLog | None,
        limits: Limits,
        timeouts: Timeouts,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        show_routing: bool,
        gate: Gate | None = None,
        trusts: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`gate` None: whoever comes is let in. `trusts`: see `wire.inbound.Door`."""
        self.gate = gate
        self.trusts = trusts
        self.routes = ROUTES
        self.dispatcher = dispatcher
        self.endpoints = endpoints
        self.metrics = metrics
        self.limits = limits
        self.timeouts = timeouts
        self.clock = clock
        self.show_routing = show_routing
        self.overload = Overload(limits.max_loop_lag_s)
        self.most_connections = most_connections(limits.max_connections)
        self.known = KnownRequests()
        self.connections: set[Inbound] = set()
        self.active: set[Exchange] = set()
        """Exchanges whose answer has not ended, waiting ones included."""
        self._waiting: dict[Ticket, Exchange] = {}
        self._access_log = access_log
        self._new_id = new_id
        self.record: Callable[[End, bool | None], None] | None = None
        """Told how each request ended and whether its targets were met; None: nobody listens."""
        self.shadows = Shadows(
            dispatcher, endpoints, clock=clock, limit_s=timeouts.answer_s, pump=self.pump
        )
        self.tracing: Tracing | None = None
        """Makes spans of requests; None: nothing is traced."""
        self._wake: asyncio.TimerHandle | None = None
        self._strangers = Allotment(STRANGERS_PER_S)
        self._refusals: dict[tuple[Failure, bool, bool], bytes] = {}
        """Whole answers: why, for callers of Anthropic's API, and of a connection that ends."""

    # requests

    def begin(self, caller: Inbound, request: Incoming) -> Exchange | None:
        """See `wire.inbound.Door`."""
        route = request.head.route
        if route is None:
            raise RuntimeError("only inference routes come through the door")
        opened: Pass | None = None
        if self.gate is not None:
            shown = self.gate.identify(request.head, request.arrived)
            if isinstance(shown, Failure):
                self._keep_out(caller, request, route, self.gate, shown)
                return None
            opened = shown
        asked = request.head.memo.get("asked")
        if asked is None:
            asked = request.head.memo["asked"] = read_asked(request.head.headers)
        intake = read_request(route, asked, request.body, new_id=self._new_id)
        if isinstance(intake, errors.Problem):
            self._turn_away(caller, request, route, intake)
            return None
        stay = None
        if self.gate is not None and opened is not None:
            admitted = self.gate.admit(opened.holder, intake.facts, request.arrived)
            if isinstance(admitted, errors.Problem):
                self._turn_away(caller, request, route, admitted, intake.facts)
                return None
            stay = admitted
        return self._take_on(Exchange(self, caller, request, intake, stay))

    def _take_on(self, exchange: Exchange) -> Exchange | None:
        """Have the dispatcher decide; None where the answer was made at once."""
        self.active.add(exchange)
        if self.tracing is not None:
            exchange.trace = self.tracing.begin(exchange.request.head.headers)
        facts, now = exchange.intake.facts, exchange.request.arrived
        try:
            refusal = self._shed(facts) if self.overload.level else None
            exchange.follow(refusal or self.dispatcher.arrive(facts, now), now)
            if self.dispatcher.copies and exchange.flight is not None and not self.overload.level:
                self.shadows.consider(exchange.request, exchange.intake, exchange.flight, now)
        except Exception:
            # The connection ends with the error: what was taken for it is given back.
            exchange.caller_left()
            raise
        return None if exchange.ended else exchange

    def _shed(self, facts: RequestFacts) -> Refuse | None:
        """Return why a request is turned away by a router that has too much to do."""
        return self.overload.refusal(self.dispatcher.class_of(facts))

    def _keep_out(
        self, caller: Inbound, request: Incoming, route: Route, gate: Gate, failure: Failure
    ) -> None:
        """Answer who is not let in; there may be very many, so only a few are written down."""
        if self._strangers.has_one(request.arrived):
            request.whole = None
            self._turn_away(caller, request, route, gate.refusal(failure), outcome="stranger")
            return
        answer = self._kept_out(gate, failure, route, close=not request.keep_alive)
        caller.keep_out(request, presented(request.head.headers), answer)

    def refusal_of(self, head: RequestHead, key: bytes) -> bytes | None:
        """See `wire.inbound.Door`."""
        gate, route, now = self.gate, head.route, self.clock()
        if gate is None or route is None or self._strangers.would_have_one(now):
            return None
        failure = gate.turns_away(key, now)
        return None if failure is None else self._kept_out(gate, failure, route, close=False)

    def _kept_out(self, gate: Gate, failure: Failure, route: Route, *, close: bool) -> bytes:
        """Return the whole answer to who is not let in."""
        kind = failure, route in ANTHROPIC, close
        answer = self._refusals.get(kind)
        if answer is None:
            problem = gate.refusal(failure)
            headers, body = errors.headers(problem), errors.body(problem, anthropic=kind[1])
            answer = self._refusals[kind] = whole_answer(problem.status, headers, body, close=close)
        return answer

    def _turn_away(
        self,
        caller: Inbound,
        request: Incoming,
        route: Route,
        problem: errors.Problem,
        facts: RequestFacts | None = None,
        outcome: str = "malformed",
    ) -> None:
        """Answer a request that goes no further; `facts` of one that was read and is over a limit."""
        request_id = read_request_id(request.head.headers) or self._new_id()
        caller.answer(
            problem.status,
            [(b"x-request-id", request_id.encode()), *errors.headers(problem)],
            errors.body(problem, anthropic=route in ANTHROPIC),
            close=not request.keep_alive,
        )
        now = self.clock()
        said = outcome if facts is None else problem.code or outcome
        trace = None
        if self.tracing is not None:
            trace = self.tracing.turned_away(
                request,
                now,
                status=problem.status,
                outcome=said,
                request_id=request_id,
                facts=facts,
            )
        if self._access_log is not None:
            line: RequestLine = {
                "request_id": request_id,
                "route": route,
                "status": problem.status,
                "outcome": said,
                "duration_s": now - request.arrived,
            }
            if trace is not None:
                line["trace_id"] = trace.id
            if facts is not None:
                line["tenant"] = facts.tenant
                line["model"] = facts.model
            self._access_log.ended(line)
        caller.finished(keep_alive=request.keep_alive)

    def unsupported(self, facts: RequestFacts, refusal: Refuse) -> errors.Problem:
        """Answer needs that no endpoint of the model offers; where each is, but not together, all.

        Of those only the features: leaving one of them out mends the request.
        """
        plans = [each.plan for each in self.dispatcher.endpoints.values()]
        offered = [plan.offers for plan in plans if facts.model in plan.models]
        missing = facts.needs.difference(*offered) or facts.needs.difference(Route)
        return replace(declined.unsupported(missing, facts.model), message=refusal.detail)

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
            # `left` takes a caller's answer back, so whoever is answered here still waits.
            if command.ticket is None:
                raise RuntimeError("an answer from the queue belongs to nobody")
            exchange = self._waiting.pop(command.ticket)
            if isinstance(command, Send):
                exchange.released(command.flight, now)
            else:
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
        self.shadows.sweep(now)
        for endpoint in self.endpoints.values():
            endpoint.pool.sweep()
        self.pump(now)

    def stop(self) -> None:
        """End every exchange that is left, each with an error of its own; nothing comes after."""
        self.dispatcher.stop(self.clock())
        self.shadows.close()
        # First those who wait, so that nobody is sent to a slot that falls free now.
        for exchange in (*self._waiting.values(), *self.active):
            exchange.stop()
        if self._wake is not None:
            self._wake.cancel()

    # what is noted

    def note_failure(self, attempt: Attempt, kind: FailureKind, fault: Fault) -> None:
        """Note an attempt that failed; an engine's own words may hold a prompt, or a key."""
        detail = f"answered {attempt.head.status}" if attempt.is_answered else fault.message
        logger.debug(
            "attempt failed",
            extra={"endpoint": attempt.endpoint.id, "failure": kind, "detail": detail},
        )

    def note_refusal(self, exchange: Exchange, refusal: Refuse, sla_class: SlaClass) -> None:
        """Note a request that the dispatcher refused."""
        self.metrics.refused(refusal.reason, sla_class, exchange.intake.facts.model)

    def note_end(self, end: End) -> None:
        """Note how a request ended: counts, and one line in the log.

        Never raises: its caller has its answer, and waits for that of its next request.
        """
        self.active.discard(end.exchange)
        try:
            self._note(end)
        except Exception:  # whatever cannot be counted or written down
            id_ = end.exchange.intake.request_id
            logger.exception("a request's end went unnoted", extra={"request_id": id_})

    def _note(self, end: End) -> None:
        flight, outcome = end.flight, end.outcome
        if end.exchange.stay is not None:
            self.settle(end.exchange, flight, end.ending, outcome)
        verdict: bool | None = None
        if outcome is not None and end.ending is Ending.COMPLETED:
            verdict = met(
                outcome.targets, outcome.first_token_s, outcome.per_token_s, outcome.total_s
            )
        elif end.ending is Ending.FAILED and flight is not None:
            verdict = False if flight.ask.targets != NO_TARGETS else None
        if flight is not None and end.ending is not None:
            self._count(end, flight, outcome, verdict)
        if self.record is not None:
            self.record(end, verdict)
        if self._access_log is not None:
            self._access_log.ended(self._line(end, verdict), _repeated(end))
        if self.tracing is not None:
            self.tracing.ended(end, verdict, self.clock())
            self._exemplify(end, self.tracing)

    def settle(
        self,
        exchange: Exchange,
        flight: Flight | None,
        ending: Ending | None,
        outcome: Outcome | None,
    ) -> None:
        """Have an exchange's limits settled, once; nothing where it has none."""
        stay: Stay | None = exchange.stay
        if stay is not None and self.gate is not None:
            exchange.stay = None
            self.gate.settle(stay, flight, ending, outcome, self.clock())

    def _count(
        self, end: End, flight: Flight, outcome: Outcome | None, verdict: bool | None
    ) -> None:
        plan, ask = flight.endpoint.plan, flight.ask
        self.metrics.decided(flight.reason, ask.sla_class)
        series = self.metrics.series(plan.pool, plan.id, ask.sla_class, ask.facts.model)
        series.ended(
            end.ending or Ending.FAILED,
            queue_s=flight.queued_s,
            first_token_s=None if outcome is None else outcome.first_token_s,
            per_token_s=None if outcome is None else outcome.per_token_s,
            overhead_s=end.exchange.router_s,
            prompt_tokens=(outcome.prompt_tokens or 0) if outcome is not None else 0,
            output_tokens=(outcome.output_tokens or 0) if outcome is not None else 0,
            met=verdict,
        )

    def _exemplify(self, end: End, tracing: "Tracing") -> None:
        """Have a kept trace stand for latencies like its request's."""
        trace, flight, outcome = end.exchange.trace, end.flight, end.outcome
        if trace is None or not trace.sampled or flight is None or end.ending is None:
            return
        plan, ask = flight.endpoint.plan, flight.ask
        self.metrics.series(plan.pool, plan.id, ask.sla_class, ask.facts.model).exemplify(
            trace.id,
            tracing.wall_clock(),
            queue_s=flight.queued_s,
            first_token_s=None if outcome is None else outcome.first_token_s,
            per_token_s=None if outcome is None else outcome.per_token_s,
        )

    def _line(self, end: End, verdict: bool | None) -> RequestLine:
        """Return what is the request's own in its line."""
        exchange, flight, outcome = end.exchange, end.flight, end.outcome
        line: RequestLine = {
            "request_id": exchange.intake.facts.id,
            "overhead_s": exchange.router_s,
            "duration_s": self.clock() - exchange.request.arrived,
        }
        if exchange.trace is not None:
            line["trace_id"] = exchange.trace.id
        if flight is not None:
            line["queue_s"] = flight.queued_s
        if outcome is not None:
            line["first_token_s"] = outcome.first_token_s
            line["per_token_s"] = outcome.per_token_s
            line["prompt_tokens"] = outcome.prompt_tokens
            line["output_tokens"] = outcome.output_tokens
            line["met"] = verdict
        return line


def _repeated(end: End) -> Repeated:
    """Return what many lines have in common, in the order of `router.access_log.REPEATED`."""
    exchange, flight, refusal = end.exchange, end.flight, end.refusal
    facts = exchange.intake.facts
    return (
        exchange.route,
        facts.model,
        end.sla_class,
        facts.tenant,
        exchange.intake.stream,
        end.status,
        end.ending or "refused",
        exchange.attempts,
        None if flight is None else flight.endpoint.plan.pool,
        None if flight is None else flight.endpoint.id,
        None if flight is None else flight.reason,
        None if refusal is None else refusal.reason,
    )
