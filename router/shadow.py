"""Copies of requests for a shadow: sent after the caller's own, their answers thrown away.

A copy holds a slot of its own, ranks with bulk and is dropped before anything else is: while
requests wait, while the router is late, where the shadow has no room. Nothing of it reaches a
caller, and no caller waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engines.engine import Fault, Question, TokenUsage
from policies.dispatcher import Dispatcher
from policies.facts import Ending, FailureKind
from policies.flight import Flight
from router.attempt import Attempt
from router.endpoint import Endpoint
from router.intake import Intake
from router.wire.inbound import Incoming

SUFFIX = "-copy"
"""What a copy's request id ends in."""


@dataclass(slots=True)
class CopyEnd:
    """How a copy fared; times in seconds from being sent."""

    flight: Flight
    ending: Ending
    ended_at: float
    first_token_s: float | None
    per_token_s: float | None
    total_s: float
    usage: TokenUsage


class Copy:
    """One copy under way; an `Asker` that tells nobody."""

    __slots__ = ("_attempt", "_due_at", "_shadows")

    def __init__(self, shadows: "Shadows", due_at: float) -> None:
        self._shadows = shadows
        self._due_at = due_at
        self._attempt: Attempt | None = None

    def send(self, attempt: Attempt, head: bytes, now: float) -> None:
        """Ask the shadow."""
        self._attempt = attempt
        attempt.ask(head, now)

    def check(self, now: float) -> None:
        """Give it up when it has taken too long."""
        if now >= self._due_at and self._attempt is not None:
            self._attempt.time_out(FailureKind.IDLE_TIMEOUT, "a copy took too long")

    def drop(self) -> None:
        """Hang up."""
        if self._attempt is not None:
            self._attempt.drop()
            self._end(Ending.ABANDONED)

    # Asker

    def attempt_failed(self, attempt: Attempt, kind: FailureKind, fault: Fault) -> None:
        """See `Asker`."""
        sick = kind not in {FailureKind.REJECTED, FailureKind.BUSY, FailureKind.STALE_CONNECTION}
        self._end(Ending.FAILED if sick else Ending.REJECTED)

    def begin_answer(self, attempt: Attempt) -> None:
        """See `Asker`."""
        if attempt.in_events:
            self._shadows.dispatcher.first_token(attempt.flight, attempt.last_at)

    def whole_answer(self, attempt: Attempt, body: bytes) -> None:
        """See `Asker`."""
        self._end(Ending.COMPLETED, attempt.endpoint.engine.read_usage(body, stream=False))

    def pass_on(self, relay: bytes, payload: Sequence[bytes]) -> None:
        """See `Asker`."""

    def answer_ended(self, attempt: Attempt) -> None:
        """See `Asker`."""
        tail = b"".join([part for parts in attempt.tail for part in parts])
        self._end(Ending.COMPLETED, attempt.endpoint.engine.read_usage(tail, stream=True))

    def answer_broke(self, attempt: Attempt, kind: FailureKind, detail: str) -> None:
        """See `Asker`."""
        self._end(Ending.FAILED)

    def _end(self, ending: Ending, usage: TokenUsage | None = None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._shadows.ended(self, attempt, ending, usage or TokenUsage())


class Shadows:
    """All copies under way."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoints: Mapping[str, Endpoint],
        *,
        clock: Callable[[], float],
        limit_s: float,
        pump: Callable[[float], None],
    ) -> None:
        """`pump` is called when one has ended: somebody may wait for its slot."""
        self.dispatcher = dispatcher
        self.record: Callable[[CopyEnd], None] | None = None
        """Told how each copy fared; None: nobody listens."""
        self._endpoints = endpoints
        self._clock = clock
        self._limit_s = limit_s
        self._pump = pump
        self._flying: set[Copy] = set()

    def consider(self, request: Incoming, intake: Intake, flight: Flight, now: float) -> None:
        """Copy a request that was just sent, if that is due and costs nobody anything."""
        copied = self.dispatcher.copied(flight, now)
        if copied is None:
            return
        endpoint = self._endpoints.get(copied.endpoint.id)
        if endpoint is None or request.head.route is None:
            self.dispatcher.copy_ended(copied, Ending.ABANDONED, now)
            return
        id_ = intake.request_id + SUFFIX
        question = Question(
            route=request.head.route,
            body=request.body,
            document=intake.document,
            model=intake.facts.model,
            stream=intake.stream,
            sla_rank=copied.ask.rank,
            urgency=copied.ask.facts.wish.urgency,
            id=id_,
        )
        prepared = endpoint.engine.prepare(question, endpoint.dialect)
        head = endpoint.request_head(
            prepared.path,
            request.head,
            extra=prepared.headers,
            request_id=id_.encode(),
            length=len(prepared.body),
        )
        copy = Copy(self, now + self._limit_s)
        self._flying.add(copy)
        copy.send(Attempt(copy, copied, endpoint, prepared), head, now)

    def ended(self, copy: Copy, attempt: Attempt, ending: Ending, usage: TokenUsage) -> None:
        """Give a copy's slot back, and tell how it fared."""
        self._flying.discard(copy)
        now, flight = self._clock(), attempt.flight
        tokens = usage.output_tokens or attempt.content_events
        self.dispatcher.copy_ended(flight, ending, now, output_tokens=tokens or None)
        self._pump(now)
        if self.record is None:
            return
        begun = attempt.in_events and attempt.first_event_at > 0.0
        pace_s = (attempt.last_at - attempt.first_event_at) / (tokens - 1) if tokens > 1 else None
        self.record(
            CopyEnd(
                flight,
                ending,
                now,
                attempt.first_event_at - attempt.asked_at if begun else None,
                pace_s if begun else None,
                now - attempt.asked_at,
                TokenUsage(usage.prompt_tokens, tokens, usage.cached_tokens),
            )
        )

    def sweep(self, now: float) -> None:
        """Give up what has taken too long."""
        for copy in tuple(self._flying):
            copy.check(now)

    def close(self) -> None:
        """Hang up on all."""
        for copy in tuple(self._flying):
            copy.drop()
