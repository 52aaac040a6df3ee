"""What spans say: attributes of a request and of each attempt at it, from what was measured anyway.

Names are OpenTelemetry's where it has one (HTTP and generative AI, as in its package
opentelemetry-semantic-conventions 0.66), else `headway.` and the access log's. The fields are
closed: never a prompt, an answer or a key.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Final

from engines.engine import Route
from policies.facts import Ending, RequestFacts
from policies.fleet import Flight
from router.answer import Outcome
from router.proxy import End
from router.trace import Trace, Try

Attributes = dict[str, str | bool | int | float | tuple[str, ...]]

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

Given = Mapping[str, object]


def attributes(given: Given) -> Attributes:
    """Return what can be told: nothing that is None or cannot be encoded, texts cut short.

    One value that cannot be encoded would cost every span that is sent with it.
    """
    told: Attributes = {}
    for name, value in given.items():
        match value:
            case str():
                told[name] = readable(value)
            case float() if isfinite(value):
                told[name] = value
            case int() if abs(value) < MOST_INTEGER:
                told[name] = value
            case tuple() if value:
                told[name] = value
            case _:
                pass
    return told


def readable(text: str) -> str:
    """Return a text that can be told, cut where it is long."""
    cut = text[:LONGEST_TEXT]
    return cut if cut.isascii() else cut.encode(errors="replace").decode()


def span_name(end: End) -> str:
    """Return a request's span name; without the model where it may be anything a caller said."""
    operation = OPERATIONS[end.exchange.route]
    if end.flight is None:
        return operation
    return f"{operation} {readable(end.exchange.intake.facts.model)}"


def of_route(route: Route, status: int) -> dict[str, object]:
    """Return what is told of every request to an inference route."""
    return {
        "gen_ai.operation.name": OPERATIONS[route],
        "http.request.method": "POST",
        "http.route": route,
        "url.path": route,
        "http.response.status_code": status,
    }


def of_one_turned_away(
    route: Route, status: int, outcome: str, request_id: str, facts: RequestFacts | None
) -> dict[str, object]:
    """Return what is told of a request that was answered at the door; `facts` where it was read."""
    told = of_route(route, status) | {"headway.outcome": outcome, "headway.request_id": request_id}
    return told if facts is None else told | _asked(facts)


def of_request(end: End, trace: Trace, verdict: bool | None) -> dict[str, object]:
    """Return what is told of a request that has ended."""
    exchange, flight, outcome, refusal = end.exchange, end.flight, end.outcome, end.refusal
    told = of_route(exchange.route, end.status) | _asked(exchange.intake.facts)
    told |= {
        "gen_ai.response.finish_reasons": trace.reasons,
        "headway.class": end.sla_class,
        "headway.outcome": end.ending or "refused",
        "headway.dropped_reason": None if refusal is None else refusal.reason,
        "headway.attempts": exchange.attempts,
        "headway.overhead_s": exchange.router_s,
        "headway.met": verdict,
        "error.type": error_of(end, trace),
    }
    if flight is not None:
        told |= _placed(flight)
    if trace.tries:
        told["gen_ai.provider.name"] = trace.tries[-1].attempt.endpoint.engine.traits.kind
    if outcome is not None:
        told |= _measured(outcome)
    return told


def error_of(end: End, trace: Trace) -> str | None:
    """Return why a request is a failure of ours; None where it is none."""
    if end.ending is not Ending.FAILED and end.status < FIRST_SERVER_ERROR:
        return None
    if end.refusal is not None:
        return end.refusal.reason
    if trace.tries and trace.tries[-1].failure is not None:
        return trace.tries[-1].failure
    return str(end.status)


def of_try(one: Try, model: str) -> dict[str, object]:
    """Return what is told of an attempt."""
    attempt, flight = one.attempt, one.attempt.flight
    where, path = attempt.endpoint.pool.where, attempt.prepared.path
    scheme = "http" if where.tls is None else "https"
    is_connected = attempt.connected_at > 0.0
    return {
        "http.request.method": "POST",
        "http.request.resend_count": flight.attempt - 1 or None,
        "http.response.status_code": attempt.head.status if attempt.is_answered else None,
        "server.address": where.host,
        "server.port": where.port,
        "url.full": f"{scheme}://{where.authority.decode()}{where.base_path}{path}",
        "error.type": one.failure,
        "headway.model": model,
        "headway.endpoint": attempt.endpoint.id,
        "headway.pool": attempt.endpoint.pool_name,
        "headway.engine": attempt.endpoint.engine.traits.kind,
        "headway.reason": flight.reason,
        "headway.connect_s": attempt.connect_s if is_connected else None,
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
        "headway.first_token_s": outcome.first_token_s,
        "headway.per_token_s": outcome.per_token_s,
    }
