"""The requests that ended lately, and those that are under way: facts and figures, never a prompt."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from engines.engine import Route
from policies.facts import Ending, Refuse, RequestFacts, SlaClass
from policies.flight import Flight
from router.answer import Outcome
from router.proxy import End, Exchange


@dataclass(slots=True)
class Seen:
    """One request that ended."""

    number: int
    """Ascending, from 1."""
    ended_at: float
    """On the router's clock, as is the next."""
    arrived: float
    route: Route
    facts: RequestFacts
    stream: bool
    sla_class: SlaClass
    status: int
    attempts: int
    router_s: float
    ending: Ending | None
    flight: Flight | None
    outcome: Outcome | None
    refusal: Refuse | None
    met: bool | None
    """Whether it met its targets; None where there were none that could be judged."""


class Recent:
    """A ring of them: the oldest make room."""

    def __init__(self, most: int, clock: Any) -> None:
        self.count = 0
        """All there ever were."""
        self._ring: deque[Seen] = deque(maxlen=most)
        self._clock = clock

    def record(self, end: End, met: bool | None) -> None:
        """Remember one: called for every request."""
        exchange = end.exchange
        self.count += 1
        self._ring.append(
            Seen(
                self.count,
                self._clock(),
                exchange.request.arrived,
                exchange.route,
                exchange.intake.facts,
                exchange.intake.stream,
                end.sla_class,
                end.status,
                exchange.attempts,
                exchange.router_s,
                end.ending,
                end.flight,
                end.outcome,
                end.refusal,
                met,
            )
        )

    def since(self, number: int) -> list[Seen]:
        """Return those after a number that are still remembered, oldest first."""
        fresh = min(self.count - number, len(self._ring))
        return list(islice(reversed(self._ring), fresh))[::-1]

    def latest(self, most: int) -> list[Seen]:
        """Return the last ones, newest first."""
        return list(islice(reversed(self._ring), most))

    def find(self, request_id: str) -> Seen | None:
        """Return the latest with an id."""
        return next((each for each in reversed(self._ring) if each.facts.id == request_id), None)


def row(seen: Seen) -> dict[str, Any]:
    """Return what lists say of one that ended; times in seconds."""
    flight, outcome = seen.flight, seen.outcome
    return {
        "number": seen.number,
        "request_id": seen.facts.id,
        "route": seen.route,
        "model": seen.facts.model,
        "class": seen.sla_class,
        "tenant": seen.facts.tenant,
        "status": seen.status,
        "outcome": seen.ending or "refused",
        "dropped_reason": seen.refusal.reason if seen.refusal else None,
        "pool": flight.endpoint.plan.pool if flight else None,
        "endpoint": flight.endpoint.id if flight else None,
        "reason": flight.reason if flight else None,
        "variant": flight.ask.part.name if flight and flight.ask.part else None,
        "attempts": seen.attempts,
        "queue_s": flight.queued_s if flight else seen.ended_at - seen.arrived,
        "first_token_s": outcome.first_token_s if outcome else None,
        "per_token_s": outcome.per_token_s if outcome else None,
        "total_s": seen.ended_at - seen.arrived,
        "prompt_tokens": outcome.prompt_tokens if outcome else None,
        "output_tokens": outcome.output_tokens if outcome else None,
        "met": seen.met,
    }


def under_way(exchanges: Iterable[Exchange], now: float) -> Iterator[dict[str, Any]]:
    """Yield what lists say of requests that have not ended, oldest first."""
    for exchange in sorted(exchanges, key=lambda each: each.request.arrived):
        facts, flight = exchange.intake.facts, exchange.flight
        ask = flight.ask if flight else None
        yield {
            "request_id": facts.id,
            "route": exchange.route,
            "model": facts.model,
            "class": ask.sla_class if ask else facts.wish.sla_class,
            "tenant": facts.tenant,
            "state": "waiting" if flight is None else _phase(flight),
            "pool": flight.endpoint.plan.pool if flight else None,
            "endpoint": flight.endpoint.id if flight else None,
            "reason": flight.reason if flight else None,
            "attempts": exchange.attempts,
            "since_s": now - exchange.request.arrived,
            "output_tokens": flight.output_tokens if flight else 0,
        }


def _phase(flight: Flight) -> str:
    return "answering" if flight.first_token_at is not None else "reading the prompt"


def story(seen: Seen) -> list[str]:
    """Return in sentences what a request's time went into, and what was promised."""
    return list(_story(seen))


def _story(seen: Seen) -> Iterator[str]:
    flight, outcome, facts = seen.flight, seen.outcome, seen.facts
    if seen.refusal is not None:
        yield f"refused ({seen.refusal.reason}): {seen.refusal.detail}"
    if flight is None:
        return
    ask, place = flight.ask, flight.endpoint
    yield f"served as {ask.sla_class}, decided by: {ask.why}"
    about = "sent as token ids" if facts.known_prompt_tokens else f"{facts.prompt_bytes} bytes"
    yield (
        f"prompt taken for {ask.prompt_tokens} tokens ({about}, {ask.prompt_samples} samples);"
        f" answer expected to have {ask.output_p50_tokens:.0f} tokens, {ask.output_p90_tokens:.0f}"
        f" at the 90th percentile ({ask.output_samples} samples)"
    )
    if ask.part is not None:
        how = "which could not serve it: others did" if ask.part.elsewhere else "by its share"
        yield f"belongs to variant {ask.part.name!r}, {how}"
    yield f"sent to {place.id!r} of pool {place.plan.pool!r} ({flight.reason})"
    if flight.queued_s > 0.0:
        yield f"waited {flight.queued_s:.3f} s in the router, for a slot that its class may have"
    if seen.attempts > 1:
        yield f"took {seen.attempts} attempts; failed before at: {', '.join(sorted(flight.tried))}"
    if outcome is not None and outcome.first_token_s is not None:
        engine_s = outcome.first_token_s - flight.queued_s - seen.router_s
        yield (
            f"first token after {outcome.first_token_s:.3f} s: {seen.router_s * 1e3:.1f} ms the"
            f" router, {flight.queued_s:.3f} s waiting, {max(0.0, engine_s):.3f} s the engine and"
            " attempts before"
        )
    if outcome is not None:
        yield _whole(seen, flight, outcome)
        yield from _verdicts(outcome)


def _whole(seen: Seen, flight: Flight, outcome: Outcome) -> str:
    """Say what all of the answer took: an answer that is no stream has no first token to time."""
    length = "" if outcome.output_tokens is None else f" for {outcome.output_tokens} tokens"
    if outcome.per_token_s is not None:
        return (
            f"whole answer after {outcome.total_s:.3f} s{length}, {outcome.per_token_s:.4f} s each"
        )
    if outcome.first_token_s is not None:
        return f"whole answer after {outcome.total_s:.3f} s{length}"
    engine_s = max(0.0, outcome.total_s - flight.queued_s - seen.router_s)
    return (
        f"whole answer, not streamed, after {outcome.total_s:.3f} s{length}:"
        f" {seen.router_s * 1e3:.1f} ms the router, {flight.queued_s:.3f} s waiting,"
        f" {engine_s:.3f} s the engine and attempts before"
    )


def _verdicts(outcome: Outcome) -> Iterator[str]:
    targets = outcome.targets
    for what, took_s, target_s in (
        ("first token", outcome.first_token_s, targets.first_token_s),
        ("time per token", outcome.per_token_s, targets.per_token_s),
        ("whole answer", outcome.total_s, targets.deadline_s),
    ):
        if took_s is not None and target_s is not None:
            verdict = "met" if took_s <= target_s else "MISSED"
            yield f"{what}: {took_s:.3f} s, target {target_s:.3f} s: {verdict}"
