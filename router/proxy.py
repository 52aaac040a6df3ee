"""The life of one request. Read this file first.

    Inbound ── begin ─▶ Door ─▶ Exchange ── arrive ─▶ dispatcher: Send | Wait | Refuse
                                   │ Send: an Attempt asks an endpoint
                                   │   failed before the first event ─▶ dispatcher.failed: Send | Wait | Refuse
                                   │   begun: the head, then every event as it comes
                                   ▼
                                 ended: the slot is given back, counted, logged

An exchange holds a slot (its `flight`) or a place in the queue (its `ticket`), never both, and
gives back what it holds exactly once: through `_complete`, `attempt_failed` or `_give_back`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.engine import Engine, Fault, FaultKind, Question, Route, TokenUsage
from engines.sse import data_of, last_events, split
from policies.admission import shutting_down
from policies.classify import Why
from policies.commands import Expire, Send, Wait
from policies.facts import Ending, FailureKind, RefusalReason, Refuse, SlaClass
from policies.flight import Flight
from policies.ordering import Ticket
from router import declined, errors
from router.access.gate import LOWERED, Stay
from router.answer import Outcome, Phases, Placement, receipt, routing_lines
from router.attempt import Attempt
from router.continuation import Seams, may_continue
from router.endpoint import dialect_of
from router.intake import Intake
from router.relay import AS_IT_CAME, BARE, DONE_EVENT, RECHUNKED, Relay, edited, fixed
from router.trace import Trace
from router.wire.inbound import STATUS_LINES, Inbound, Incoming

if TYPE_CHECKING:
    from router.door import Door

ANTHROPIC = frozenset({Route.MESSAGES, Route.COUNT_TOKENS})
"""Routes whose callers expect Anthropic's error object."""
MARKED = frozenset({Route.CHAT, Route.COMPLETIONS})
"""Routes whose streams end with a mark."""
LEFT = 499
"""What the log says of a caller that left before its answer was complete (nginx's convention)."""
_NO_USAGE = TokenUsage()
# A member looked up on its class costs more than a name of this module.
CEILING = Why.CEILING


@dataclass(init=False, slots=True)
class End:
    """How an exchange ended."""

    exchange: "Exchange"
    ending: Ending | None
    """None: refused before it was sent anywhere."""
    status: int
    """As the caller saw it."""
    sla_class: SlaClass
    flight: Flight | None = None
    """The last attempt; None where there was none."""
    outcome: Outcome | None = None
    """What was measured; None where no answer began."""
    refusal: Refuse | None = None

    def __init__(  # noqa: PLR0913, PLR0917 # one parameter a field
        self,
        exchange: "Exchange",
        ending: Ending | None,
        status: int,
        sla_class: SlaClass,
        flight: Flight | None = None,
        outcome: Outcome | None = None,
        refusal: Refuse | None = None,
    ) -> None:
        self.exchange = exchange
        self.ending = ending
        self.status = status
        self.sla_class = sla_class
        self.flight = flight
        self.outcome = outcome
        self.refusal = refusal


class Exchange:
    """One request from its arrival to the last byte of its answer."""

    __slots__ = (
        "_attempt",
        "_caller",
        "_door",
        "_flight",
        "_head",
        "_last_part",
        "_relay",
        "_seams",
        "_ticket",
        "_unread_bytes",
        "attempts",
        "ended",
        "intake",
        "paused_at",
        "reported_events",
        "request",
        "router_s",
        "stay",
        "trace",
    )  # fmt: skip

    def __init__(
        self,
        door: "Door",
        caller: Inbound,
        request: Incoming,
        intake: Intake,
        stay: Stay | None = None,
    ) -> None:
        self.stay = stay
        """What it has taken of its caller's limits, until it ends; None where nothing is counted."""
        self._door = door
        self._caller = caller
        self.request = request
        self.intake = intake
        self._flight: Flight | None = None
        self._ticket: Ticket | None = None
        self._attempt: Attempt | None = None
        self._head = b""
        """The head of the answer, until it goes out with the first part of the body."""
        self._relay: Relay = AS_IT_CAME
        self._last_part: Sequence[bytes] = ()
        """What was passed on last, where it is framed anew."""
        self._seams: Seams | None = None
        """Of an answer that may go on at another endpoint; from its first event."""
        self.attempts = 0
        self.ended = False
        self.trace: Trace | None = None
        """Its place in a trace, set before anything is decided; None where tracing is off."""
        self.router_s = 0.0
        """The router's own time: from the request's last byte to the first byte sent on."""
        self.paused_at = 0.0
        """When the caller stopped reading, or last read a little; 0 while it reads."""
        self._unread_bytes = 0
        self.reported_events = 0

    @property
    def route(self) -> Route:
        """The inference route asked for."""
        if self.request.head.route is None:
            raise RuntimeError("an exchange is begun for inference routes alone")
        return self.request.head.route

    @property
    def flight(self) -> Flight | None:
        """The slot that it holds; None while it waits."""
        return self._flight

    # deciding

    def follow(self, decision: Send | Wait | Refuse, now: float) -> None:
        """Carry out what the dispatcher decided."""
        if isinstance(decision, Send):
            self._send(decision.flight, now)
        elif isinstance(decision, Wait):
            self._ticket = decision.ticket
            if self.trace is not None:
                self.trace.waiting(now)
            self._door.queue(decision.ticket, self)
        else:
            self._refuse(decision, self._door.dispatcher.class_of(self.intake.facts))

    def released(self, flight: Flight, now: float) -> None:
        """Leave the queue for an endpoint."""
        self._ticket = None
        self._send(flight, now)

    def expired(self, expiry: Expire) -> None:
        """Leave the queue without an answer."""
        self._ticket = None
        self._refuse(expiry.refusal, expiry.ticket.ask.sla_class)

    def _send(self, flight: Flight, now: float) -> None:
        self._flight = flight
        self.attempts += 1
        door = self._door
        endpoint = door.endpoints[flight.endpoint.plan.id]
        dialect = endpoint.dialect if flight.ask.part is None else dialect_of(endpoint, flight)
        prepared = endpoint.engine.prepare(self._question(flight), dialect)
        attempt = Attempt(self, flight, endpoint, prepared)
        self._attempt = attempt
        extra = prepared.headers
        if self.trace is not None:
            extra = (*extra, *self.trace.sent(attempt, now))
        head = endpoint.request_head(
            prepared.path,
            self.request.head,
            extra=extra,
            request_id=self.intake.request_id.encode(),
            length=len(prepared.body),
            hops=self._caller.is_trusted,
        )
        attempt.ask(head, now)
        if self.attempts == 1:
            self.router_s = door.clock() - self.request.arrived - flight.queued_s

    def _question(self, flight: Flight) -> Question:
        ask, intake = flight.ask, self.intake
        question = Question(
            route=self.route,
            body=self.request.body,
            document=intake.document,
            model=ask.facts.model,
            stream=intake.stream,
            sla_rank=ask.rank,
            urgency=ask.facts.wish.urgency,
            id=intake.request_id,
        )
        return question if self._seams is None else self._seams.question(question)

    # Asker: what the attempt reports

    def attempt_failed(self, attempt: Attempt, kind: FailureKind, fault: Fault) -> None:
        """See `Asker`."""
        flight, door = attempt.flight, self._door
        self._attempt = None
        self._flight = None
        now = door.clock()
        if self.trace is not None:
            self.trace.failed(kind, now)
        if kind is FailureKind.REJECTED:
            door.dispatcher.ended(flight, Ending.REJECTED, now)
            problem = declined.failed(fault, callers_key=not attempt.endpoint.keeps_key)
            self._finish_with(problem, self._end_of(flight, Ending.REJECTED, problem.status))
        else:
            door.note_failure(attempt, kind, fault)
            decision = door.dispatcher.failed(flight, kind, now, retry_after_s=fault.retry_after_s)
            if isinstance(decision, Refuse):
                problem = self._given_up(decision, kind, fault)
                end = self._end_of(flight, Ending.FAILED, problem.status)
                end.refusal = decision
                self._finish_with(problem, end)
            else:
                door.metrics.retried(kind)
                self.follow(decision, now)
        door.pump(now)

    def _given_up(self, refusal: Refuse, kind: FailureKind, fault: Fault) -> errors.Problem:
        """Say in the engine's words what it failed with, where nothing else was tried after it."""
        if kind is FailureKind.FIRST_TOKEN_TIMEOUT:
            return declined.engine_silent("the beginning of its answer", self._first_limit_s)
        if kind is FailureKind.IDLE_TIMEOUT and self._door.timeouts.total_s is not None:
            return declined.engine_silent("the whole of its answer", self._door.timeouts.total_s)
        if kind is FailureKind.BROKEN and refusal.reason is RefusalReason.RETRIES_SPENT:
            return declined.failed(fault)
        return declined.refused(refusal)

    def begin_answer(self, attempt: Attempt) -> None:
        """See `Asker`."""
        door = self._door
        if attempt.in_events:
            door.dispatcher.first_token(attempt.flight, attempt.last_at)
        if self._seams is None:
            always = door.dispatcher.policy.retry.continue_streams
            if attempt.in_events and may_continue(self.intake, self.route, always=always):
                self._seams = Seams(self.route, attempt.first_event_at)
            self._relay = self._relay_for(attempt)
            self._head = self._answer_head(attempt, self._relay.head)
        if door.dispatcher.waiting:
            door.pump(attempt.last_at)

    def pass_on(self, relay: bytes, payload: Sequence[bytes]) -> None:
        """See `Asker`."""
        if self._seams is not None and self._fails_inside(payload):
            return
        if self._relay is AS_IT_CAME:
            out = relay
        else:
            out = self._relay.part(relay, payload)
            self._last_part = payload or self._last_part
        if self._head:
            out = self._head + out
            self._head = b""
        self._caller.transport.write(out)

    def _fails_inside(self, payload: Sequence[bytes]) -> bool:
        """Have another endpoint go on where the engine tells of its failure in the stream."""
        attempt = self._attempt
        if attempt is None or b'"error"' not in b"".join(payload):
            return False
        frames, _ = split(b"".join(payload))
        for frame in frames:
            data = data_of(frame)
            fault = None if data is None else attempt.endpoint.engine.read_event_fault(data)
            if fault is not None:
                attempt.drop()
                self.answer_broke(attempt, FailureKind.BROKEN, fault.message)
                return True
        return False

    def answer_ended(self, attempt: Attempt) -> None:
        """See `Asker`."""
        if attempt is not self._attempt:
            # What it said last was that it had failed, and another goes on.
            return
        tail = b"".join([part for parts in attempt.tail for part in parts])
        if self._is_cut(attempt):
            self.answer_broke(attempt, FailureKind.BROKEN, "the stream ended without its mark")
            return
        usage = self._usage(attempt, tail)
        outcome = self._outcome(attempt, usage)
        if self.trace is not None:
            self.trace.answered(tail)
        end = self._head + self._relay.end()
        self._head = b""
        if end:
            self._caller.transport.write(end)
        self._complete(attempt, usage, outcome, self._ending(attempt, tail))

    def _is_cut(self, attempt: Attempt) -> bool:
        """Return whether a stream's end is none: a connection's end says nothing of the answer's."""
        if not attempt.in_events or self.route not in MARKED or self._relay is AS_IT_CAME:
            return False
        if DONE_EVENT in b"".join(self._last_part):
            return False
        if self._seams is not None:
            return not self._seams.is_finished
        return not attempt.framing.chunked and attempt.head.content_length is None

    def _ending(self, attempt: Attempt, tail: bytes) -> Ending:
        """Say how a begun answer ended: an engine may tell of its failure in the last events."""
        if attempt.in_events:
            for event in last_events(tail):
                fault = attempt.endpoint.engine.read_event_fault(event)
                if fault is not None and fault.kind is FaultKind.BROKEN:
                    self._door.note_failure(attempt, FailureKind.BROKEN, fault)
                    if self.trace is not None:
                        self.trace.failed(FailureKind.BROKEN, attempt.last_at)
                    return Ending.FAILED
        return Ending.COMPLETED

    def whole_answer(self, attempt: Attempt, body: bytes) -> None:
        """See `Asker`."""
        engine, flight = attempt.endpoint.engine, attempt.flight
        if self._seams is not None:
            self.answer_broke(attempt, FailureKind.BROKEN, "its rest came as no stream")
            return
        if attempt.prepared.repairs:
            body = engine.repair_body(body, self._question(flight))
        usage = self._usage(attempt, body)
        outcome = self._outcome(attempt, usage)
        framing = b"content-length: %d\r\n" % len(body)
        if self.intake.wants_receipt:
            framing += b"x-sla-receipt: %b\r\n" % self._receipt(flight, outcome)
        if self.trace is not None:
            self.trace.answered(body)
        self._caller.transport.write(self._answer_head(attempt, framing) + body)
        self._complete(attempt, usage, outcome, Ending.COMPLETED)

    def answer_broke(self, attempt: Attempt, kind: FailureKind, detail: str) -> None:
        """See `Asker`."""
        door, flight = self._door, attempt.flight
        fault = Fault(FaultKind.BROKEN, detail)
        door.note_failure(attempt, kind, fault)
        if self.trace is not None:
            self.trace.failed(kind, door.clock())
        if self._seams is not None and self._goes_on(self._seams, attempt):
            return
        self._break_off(attempt, declined.engine_lost(detail))
        self._give_back(Ending.FAILED)
        outcome = self._outcome(attempt, self._seen(attempt))
        self._end(
            self._end_of(flight, Ending.FAILED, attempt.head.status, outcome), keep_alive=False
        )

    def _goes_on(self, seams: Seams, attempt: Attempt) -> bool:
        """Ask another endpoint for the rest of an answer that broke off, if that can be done."""
        if attempt.torn or not seams.can_go_on:
            return False
        whole = attempt.take_whole_events()
        if whole:
            self.pass_on(b"", (whole,))
        if seams.is_finished:
            # Only the mark was lost that nothing more comes.
            self.pass_on(b"", (seams.end(),))
            self.answer_ended(attempt)
            return True
        if not seams.can_go_on:
            return False
        door, now = self._door, self._door.clock()
        seams.broke(attempt.endpoint.id)
        if self.trace is not None:
            self.trace.goes_on(seams.tokens)
        self._attempt = self._flight = None
        self.reported_events = 0
        barred = frozenset(
            id_ for id_, each in door.endpoints.items() if not seams.fits(each.engine.traits.kind)
        )
        decision = door.dispatcher.broke(attempt.flight, now, barred)
        if isinstance(decision, Refuse):
            end = self._end_of(attempt.flight, Ending.FAILED, attempt.head.status)
            self._finish_with(declined.refused(decision), end)
        else:
            door.metrics.retried(FailureKind.BROKEN)
            self.follow(decision, now)
        door.pump(now)
        return True

    # ending

    def _complete(
        self, attempt: Attempt, usage: TokenUsage, outcome: Outcome, ending: Ending
    ) -> None:
        self._flight = None
        door = self._door
        door.dispatcher.ended(
            attempt.flight,
            ending,
            attempt.last_at,
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
        )
        end = self._end_of(attempt.flight, ending, attempt.head.status, outcome)
        self._end(end, keep_alive=self.request.keep_alive)
        if door.dispatcher.waiting:
            door.pump(attempt.last_at)

    def _refuse(self, refusal: Refuse, sla_class: SlaClass) -> None:
        door = self._door
        door.note_refusal(self, refusal, sla_class)
        if refusal.reason is RefusalReason.UNSUPPORTED:
            problem = door.unsupported(self.intake.facts, refusal)
        else:
            problem = declined.refused(refusal)
        self._finish_with(problem, End(self, None, problem.status, sla_class, refusal=refusal))

    def _finish_with(self, problem: errors.Problem, end: End) -> None:
        """Answer with an error: an event of its own where a part of an answer has been sent."""
        if self._seams is not None:
            event = errors.event(problem, anthropic=False)
            self._caller.transport.write(
                self._head + self._relay.event(event) + self._relay.abandon
            )
            self._head = b""
            self._end(end, keep_alive=False)
            return
        keep_alive = self.request.keep_alive
        ours = [
            (b"x-request-id", self.intake.request_id.encode()),
            (b"x-sla-class", end.sla_class.encode()),
        ]
        if self.stay is not None and self._door.gate is not None:
            ours += errors.pairs(self._door.gate.told(self.stay, self.request.arrived))
        self._caller.answer(
            problem.status,
            ours + errors.headers(problem),
            errors.body(problem, anthropic=self.route in ANTHROPIC),
            close=not keep_alive,
        )
        self._end(end, keep_alive=keep_alive)

    def _break_off(self, attempt: Attempt, problem: errors.Problem) -> None:
        """End a begun answer with an error that the caller cannot take for an end."""
        transport = self._caller.transport
        if attempt.torn or not (attempt.in_events or self._seams is not None):
            transport.abort()
            return
        relay = self._relay
        by_payload = RECHUNKED if relay is AS_IT_CAME else relay
        # The rest of a stream that broke off before may have come as no stream.
        held = attempt.take_whole_events() if attempt.in_events else b""
        whole = by_payload.part(b"", (held,))
        event = errors.event(problem, anthropic=self.route in ANTHROPIC)
        transport.write(self._head + whole + relay.event(event) + relay.abandon)
        self._head = b""

    def _give_back(self, ending: Ending) -> None:
        """Give back the slot or the place in the queue, whichever is held."""
        door = self._door
        flight, self._flight = self._flight, None
        ticket, self._ticket = self._ticket, None
        now = door.clock()
        if flight is not None:
            door.dispatcher.ended(flight, ending, now)
            door.pump(now)
        if ticket is not None:
            door.leave(ticket, now)

    def _end_of(
        self, flight: Flight, ending: Ending, status: int, outcome: Outcome | None = None
    ) -> End:
        return End(self, ending, status, flight.ask.sla_class, flight, outcome)

    def _end(self, end: End, *, keep_alive: bool) -> None:
        self.ended = True
        self._attempt = None
        self._door.note_end(end)
        self._caller.finished(keep_alive=keep_alive)

    # Exchange: what the connection and the sweep report

    def caller_left(self) -> None:
        """See `wire.inbound.Exchange`."""
        if self.ended:
            return
        self.ended = True
        attempt, flight, ticket = self._attempt, self._flight, self._ticket
        self._attempt = None
        if attempt is not None:
            attempt.drop()
        self._give_back(Ending.ABANDONED)
        if flight is not None:
            outcome = None if attempt is None else self._outcome(attempt, self._seen(attempt))
            self._door.note_end(self._end_of(flight, Ending.ABANDONED, LEFT, outcome))
        elif ticket is not None:
            self._door.note_end(End(self, Ending.ABANDONED, LEFT, ticket.ask.sla_class))
        else:
            self._door.settle(self, None, None, None)

    def pause_writing(self) -> None:
        """See `wire.inbound.Exchange`."""
        self.paused_at = self._door.clock()
        self._unread_bytes = self._caller.transport.get_write_buffer_size()
        if self._attempt is not None and self._attempt.connection is not None:
            self._attempt.connection.pause()
            self._door.dispatcher.unread(self._attempt.flight, on=True, now=self.paused_at)

    def resume_writing(self) -> None:
        """See `wire.inbound.Exchange`."""
        self.paused_at = 0.0
        if self._attempt is not None and self._attempt.connection is not None:
            self._attempt.last_at = self._door.clock()
            self._attempt.connection.resume()
            self._door.dispatcher.unread(self._attempt.flight, on=False, now=self._attempt.last_at)

    def check(self, now: float) -> None:
        """Report progress, and act on timeouts that have passed; called a few times a second."""
        attempt = self._attempt
        if attempt is None:
            return
        if self.paused_at:
            unread_bytes = self._caller.transport.get_write_buffer_size()
            if unread_bytes < self._unread_bytes:
                self.paused_at, self._unread_bytes = now, unread_bytes
            elif now - self.paused_at > self._door.timeouts.idle_s:
                self._caller.transport.abort()
            return
        if attempt.events > self.reported_events:
            fresh = attempt.events - self.reported_events
            self.reported_events = attempt.events
            self._door.dispatcher.progressed(attempt.flight, fresh, now)
        self._time_out(attempt, now)

    def _time_out(self, attempt: Attempt, now: float) -> None:
        timeouts = self._door.timeouts
        if timeouts.total_s is not None and now - self.request.arrived > timeouts.total_s:
            attempt.time_out(
                FailureKind.IDLE_TIMEOUT, f"not complete within {timeouts.total_s:g} s"
            )
        elif attempt.begun:
            idle_s = timeouts.of_class(attempt.flight.ask.sla_class)
            if now - attempt.last_at > idle_s:
                attempt.time_out(FailureKind.IDLE_TIMEOUT, f"silent for {idle_s:g} s")
            elif self._seams is not None and self._door.dispatcher.stands_still(attempt.flight):
                attempt.time_out(FailureKind.IDLE_TIMEOUT, "nothing moves at the engine")
        elif self.intake.stream and self._door.dispatcher.had_better_move(attempt.flight, now):
            attempt.time_out(FailureKind.FIRST_TOKEN_TIMEOUT, "nothing moves at the engine")
        elif now - attempt.asked_at > self._first_limit_s:
            limit = f"no answer within {self._first_limit_s:g} s"
            attempt.time_out(FailureKind.FIRST_TOKEN_TIMEOUT, limit)

    @property
    def _first_limit_s(self) -> float:
        """How long an engine may be silent: a plain answer shows nothing until it is complete."""
        timeouts = self._door.timeouts
        return timeouts.first_token_s if self.intake.stream else timeouts.answer_s

    def stop(self, why: errors.Problem | None = None) -> None:
        """End with an error, at once; `why` None: the server cannot wait any longer."""
        attempt, ticket = self._attempt, self._ticket
        if ticket is not None:
            self._give_back(Ending.ABANDONED)
            if why is None:
                self._refuse(shutting_down(), ticket.ask.sla_class)
            else:
                self._finish_with(why, End(self, None, why.status, ticket.ask.sla_class))
        elif attempt is not None:
            problem = why or declined.shutting_down()
            flight, begun = attempt.flight, attempt.begun
            attempt.drop()
            self._give_back(Ending.ABANDONED)
            if begun:
                self._break_off(attempt, problem)
                outcome = self._outcome(attempt, self._seen(attempt))
                end = self._end_of(flight, Ending.FAILED, attempt.head.status, outcome)
                self._end(end, keep_alive=False)
            else:
                self._finish_with(problem, self._end_of(flight, Ending.FAILED, problem.status))

    # the caller's view of the answer

    def _relay_for(self, attempt: Attempt) -> Relay:
        """Choose how the body reaches the caller."""
        framing, intake = attempt.framing, self.intake
        seams = self._seams
        edits = attempt.in_events and (
            attempt.prepared.repairs or intake.wants_receipt or seams is not None
        )
        if self.request.head.http_1_0:
            inner = BARE
        elif framing.chunked and not edits:
            return AS_IT_CAME
        else:
            length = attempt.head.content_length
            inner = RECHUNKED if length is None or attempt.in_events else fixed(length)
        if not edits:
            return inner
        before_done = self._receipt_event if intake.wants_receipt else None
        if seams is not None:
            return edited(inner, repair=self._sewn(seams, attempt), before_done=before_done)
        question, engine = self._question(attempt.flight), attempt.endpoint.engine
        return edited(
            inner,
            repair=(lambda data: self._repaired(engine, data, question))
            if attempt.prepared.repairs
            else None,
            before_done=before_done,
        )

    def _sewn(self, seams: Seams, first: Attempt) -> Callable[[bytes], bytes]:
        """Return what makes the parts of an answer, from whatever endpoint, one."""
        question = self._question(first.flight)

        def sewn(data: bytes) -> bytes:
            attempt = self._attempt
            if attempt is not None and attempt.prepared.repairs:
                data = self._repaired(attempt.endpoint.engine, data, question)
            return seams.took(data)

        return sewn

    def _repaired(self, engine: Engine, event: bytes, question: Question) -> bytes:
        """Return an event's data as clients expect it, be it part of an answer or an error."""
        fault = engine.read_event_fault(event)
        if fault is None:
            return engine.repair_event(event, question)
        return errors.body(declined.failed(fault), anthropic=self.route in ANTHROPIC)

    def _answer_head(self, attempt: Attempt, framing: bytes) -> bytes:
        """Return the head of the answer: the engine's end-to-end headers, and ours."""
        head = attempt.head
        first_token_s = attempt.first_event_at - self.request.arrived
        phases = Phases(
            connect_s=attempt.connect_s,
            first_token_s=first_token_s if attempt.in_events else None,
            total_s=None if attempt.in_events else first_token_s,
        )
        placement = self._placement(attempt.flight)
        return b"".join(
            (
                STATUS_LINES.get(head.status) or b"HTTP/1.1 %d \r\n" % head.status,
                head.passed_on,
                routing_lines(
                    self.intake.request_id, placement, phases, show_routing=self._door.show_routing
                ),
                framing,
                b"" if self.stay is None else self._limits_told(self.stay, attempt.flight),
                b"\r\n" if self.request.keep_alive else b"connection: close\r\n\r\n",
            )
        )

    def _limits_told(self, stay: Stay, flight: Flight) -> bytes:
        """Return the lines that tell a caller with a key of its limits."""
        gate = self._door.gate
        if gate is None:
            return b""
        lines = stay.holder.telling.lines(self.request.arrived + gate.since_1970_s)
        return lines + LOWERED if flight.ask.why is CEILING else lines

    def _placement(self, flight: Flight) -> Placement:
        plan = flight.endpoint.plan
        waited_s = flight.sent_at - flight.ask.arrived_at
        return Placement(
            flight.ask.sla_class,
            plan.pool,
            plan.id,
            flight.reason,
            flight.queued_s,
            waited_s + flight.predicted_first_token_s,
        )

    def _seen(self, attempt: Attempt) -> TokenUsage:
        """Return what was seen of an answer that has no end: nobody is served for nothing."""
        if not attempt.in_events:
            return _NO_USAGE
        usage = TokenUsage(None, attempt.events, None)
        return usage if self._seams is None else self._seams.counted(usage)

    def _usage(self, attempt: Attempt, tail: bytes) -> TokenUsage:
        """Return the token counts as the engine told them, or as the events count them."""
        usage = attempt.endpoint.engine.read_usage(tail, stream=attempt.in_events) or _NO_USAGE
        if usage.output_tokens is None and attempt.in_events:
            usage = TokenUsage(usage.prompt_tokens, attempt.content_events, usage.cached_tokens)
        return usage if self._seams is None else self._seams.counted(usage)

    def _outcome(self, attempt: Attempt, usage: TokenUsage) -> Outcome:
        arrived, first_at, last_at = self.request.arrived, attempt.first_event_at, attempt.last_at
        if self._seams is not None:
            first_at = self._seams.first_event_at
        begun = attempt.in_events and first_at > 0.0
        tokens = usage.output_tokens or attempt.content_events
        return Outcome(
            router_s=self.router_s,
            first_token_s=first_at - arrived if begun else None,
            per_token_s=(last_at - first_at) / (tokens - 1) if begun and tokens > 1 else None,
            total_s=last_at - arrived,
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            targets=attempt.flight.ask.targets,
            attempts=self.attempts,
            seams=()
            if self._seams is None
            else [(each.endpoint, each.tokens) for each in self._seams.breaks],
        )

    def _receipt(self, flight: Flight, outcome: Outcome) -> bytes:
        return receipt(self._placement(flight), outcome, show_routing=self._door.show_routing)

    def _receipt_event(self) -> bytes:
        attempt = self._attempt
        if attempt is None:
            return b""
        tail = b"".join([part for parts in attempt.tail for part in parts])
        outcome = self._outcome(attempt, self._usage(attempt, tail))
        return b": sla %b\n\n" % self._receipt(attempt.flight, outcome)
