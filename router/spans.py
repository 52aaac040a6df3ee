"""What spans say: of a request, each wait and each attempt, from what was measured anyway.

Names are OpenTelemetry's where it has one (HTTP and generative AI, as in its package
opentelemetry-semantic-conventions 0.66), else `headway.` and the access log's. The fields are
closed: never a prompt, an answer or a key. Times are the router's clock's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import isfinite
from typing import Final

from engines.engine import Route
from policies.facts import Ending, FailureKind, RequestFacts
from policies.flight import Flight
from router.answer import Outcome
from router.proxy import End
from router.trace import Trace, Try

Told = Mapping[str, object]
Attributes = dict[str, str | bool | int | float | tuple[str, ...]]
Moment = tuple[str, float, Told]
"""The name of an event, when it was, and what is told of it."""

OPERATIONS: Final[Mapping[Route, str]] = {
    Route.CHAT: "chat",
    Route.COMPLETIONS: "text_completion",
    Route.EMBEDDINGS: "embeddings",
    Route.RESPONSES: "chat",
    Route.MESSAGES: "chat",
    Route.COUNT_TOKENS: "count_tokens",
    Route.RERANK: "rerank",
    Route.SCORE: "score",
    Route.TOKENIZE: "tokenize",
    Route.DETOKENIZE: "detokenize",
}
"""`gen_ai.operation.name`; those without a usual name have one of their own."""
LONGEST_TEXT: Final = 256
"""Callers choose some of what is told: their ids, models and tenants."""
MOST_INTEGER: Final = 1 << 63
FIRST_SERVER_ERROR: Final = 500
FIRST_TOKEN: Final = "headway.first_token"  # noqa: S105 # a token of text


class Kind(Enum):
    """Whose side of a call a span is."""

    SERVER = auto()
    CLIENT = auto()
    INTERNAL = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """One span."""

    name: str
    kind: Kind
    span_id: str | None
    """None: one is to be drawn."""
    began_at: float
    ended_at: float
    told: Attributes
    moments: tuple[Moment, ...] = ()
    is_failure: bool = False


def turned_away(  # noqa: PLR0913 # all that is known of it
    trace: Trace,
    route: Route,
    times: tuple[float, float],
    *,
    status: int,
    outcome: str,
    request_id: str,
    facts: RequestFacts | None,
) -> Part:
    """Return the span of a request that was answered at the door; `facts` where it was read."""
    told = _of_route(route, status)
    told |= {"headway.outcome": outcome, "headway.request_id": request_id}
    if facts is not None:
        told |= _asked(facts)
    return Part(OPERATIONS[route], Kind.SERVER, trace.span_id, *times, attributes(told))


def whole(end: End, trace: Trace, verdict: bool | None, now: float) -> Part:
    """Return the span of a request that has ended."""
    exchange, flight, refusal = end.exchange, end.flight, end.refusal
    error = _error(end, trace)
    told = _of_route(exchange.route, end.status)
    told |= _asked(exchange.intake.facts)
    told |= {
        "gen_ai.response.finish_reasons": trace.reasons,
        "headway.class": end.sla_class,
        "headway.outcome": end.ending or "refused",
        "headway.dropped_reason": None if refusal is None else refusal.reason,
        "headway.attempts": exchange.attempts,
        "headway.overhead_s": exchange.router_s,
        "headway.met": verdict,
        "error.type": error,
    }
    # What a caller calls a model that there is none of is no name of a kind of span.
    name = OPERATIONS[exchange.route]
    if flight is not None:
        name = f"{name} {readable(exchange.intake.facts.model)}"
        told |= _placed(flight)
    if trace.tries:
        told["gen_ai.provider.name"] = trace.tries[-1].attempt.endpoint.engine.traits.kind
    if end.outcome is not None:
        told |= _measured(end.outcome)
    return Part(
        name,
        Kind.SERVER,
        trace.span_id,
        exchange.request.arrived,
        now,
        attributes(told),
        tuple(_moments(trace)),
        error is not None,
    )


def inside(end: End, trace: Trace, now: float) -> Iterator[Part]:
    """Yield the spans of a request's waits and attempts."""
    for since, until in trace.waits:
        told = attributes({"headway.class": end.sla_class})
        yield Part("queue", Kind.INTERNAL, None, since, now if until is None else until, told)
    for one in trace.tries:
        yield _attempted(end, one, now)


def attributes(given: Told) -> Attributes:
    """Return what can be told: nothing that is None or cannot be encoded, texts cut short.

    One value that cannot be encoded would cost every span that is sent with it.
    """
    told: Attributes = {}
    for name, value in given.items():
        if isinstance(value, str):
            told[name] = readable(value)
        elif isinstance(value, float):
            if isfinite(value):
                told[name] = value
        elif isinstance(value, int):
            if abs(value) < MOST_INTEGER:
                told[name] = value
        elif isinstance(value, tuple) and value:
            told[name] = value
    return told


def readable(text: str) -> str:
    """Return a text that can be told, cut where it is long."""
    cut = text[:LONGEST_TEXT]
    return cut if cut.isascii() else cut.encode(errors="replace").decode()


def _attempted(end: End, one: Try, now: float) -> Part:
    attempt = one.attempt
    ended_at, told = now, _of_try(one)
    if one.failure is not None:
        ended_at = one.ended_at
    elif end.ending is Ending.COMPLETED:
        ended_at = attempt.last_at
    else:
        told["headway.outcome"] = end.ending
    moments: list[Moment] = []
    if attempt.connected_at > 0.0:
        moments.append(("headway.sent", attempt.connected_at, {}))
    if attempt.in_events:
        moments.append((FIRST_TOKEN, attempt.first_event_at, {}))
    return Part(
        f"POST {end.exchange.route}",
        Kind.CLIENT,
        one.span_id,
        attempt.asked_at,
        ended_at,
        attributes(told),
        tuple(moments),
        one.failure is not None,
    )


def _moments(trace: Trace) -> Iterator[Moment]:
    """Yield what the caller saw happen, in order: its first token, and where another went on."""
    first = [each.attempt.first_event_at for each in trace.tries if each.attempt.in_events]
    if first:
        yield FIRST_TOKEN, first[0], {}
    for one in trace.tries:
        if one.sent_tokens is not None:
            told = {
                "headway.endpoint": one.attempt.endpoint.id,
                "headway.output_tokens": one.sent_tokens,
            }
            yield "headway.seam", one.ended_at, told


def _error(end: End, trace: Trace) -> str | None:
    """Return why a request is a failure of ours; None where it is none."""
    if end.ending is not Ending.FAILED and end.status < FIRST_SERVER_ERROR:
        return None
    if end.refusal is not None:
        return end.refusal.reason
    failure: FailureKind | None = trace.tries[-1].failure if trace.tries else None
    return str(end.status) if failure is None else failure


def _of_route(route: Route, status: int) -> dict[str, object]:
    return {
        "gen_ai.operation.name": OPERATIONS[route],
        "http.request.method": "POST",
        "http.route": route,
        "url.path": route,
        "http.response.status_code": status,
    }


def _of_try(one: Try) -> dict[str, object]:
    attempt, flight = one.attempt, one.attempt.flight
    where = attempt.endpoint.pool.where
    scheme = "http" if where.tls is None else "https"
    path = f"{where.base_path}{attempt.prepared.path}"
    return {
        "http.request.method": "POST",
        "http.request.resend_count": flight.attempt - 1 or None,
        "http.response.status_code": attempt.head.status if attempt.is_answered else None,
        "server.address": where.host,
        "server.port": where.port,
        "url.full": f"{scheme}://{where.authority.decode()}{path}",
        "error.type": one.failure,
        "headway.endpoint": attempt.endpoint.id,
        "headway.pool": attempt.endpoint.pool_name,
        "headway.reason": flight.reason,
        "headway.connect_s": attempt.connect_s if attempt.connected_at > 0.0 else None,
        "headway.predicted_first_token_s": flight.predicted_first_token_s,
    }


def _asked(facts: RequestFacts) -> dict[str, object]:
    return {
        "gen_ai.request.model": facts.model,
        "gen_ai.request.max_tokens": facts.max_tokens,
        "gen_ai.request.choice.count": facts.choices if facts.choices != 1 else None,
        "gen_ai.request.stream": facts.streams,
        "headway.request_id": facts.id,
        "headway.tenant": facts.tenant or None,
    }


def _placed(flight: Flight) -> dict[str, object]:
    plan, ask = flight.endpoint.plan, flight.ask
    waited_s = flight.sent_at - ask.arrived_at
    return {
        "headway.class_reason": ask.why,
        "headway.pool": plan.pool,
        "headway.endpoint": plan.id,
        "headway.reason": flight.reason,
        "headway.variant": None if ask.part is None else ask.part.name,
        "headway.queue_s": flight.queued_s,
        "headway.predicted_first_token_s": waited_s + flight.predicted_first_token_s,
        "headway.target.first_token_s": ask.targets.first_token_s,
        "headway.target.per_token_s": ask.targets.per_token_s,
        "headway.target.deadline_s": ask.targets.deadline_s,
    }


def _measured(outcome: Outcome) -> dict[str, object]:
    return {
        "gen_ai.usage.input_tokens": outcome.prompt_tokens,
        "gen_ai.usage.output_tokens": outcome.output_tokens,
        "gen_ai.response.time_to_first_chunk": outcome.first_token_s,
        "headway.per_token_s": outcome.per_token_s,
    }
