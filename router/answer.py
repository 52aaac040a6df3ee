"""What an answer tells beyond the engine's own bytes: routing headers, the receipt, the verdict.

On the hot path, so text that repeats (pools, endpoints) is made safe once and kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

import orjson

from policies.facts import Reason, SlaClass, Targets

NO_TARGETS = Targets()


# These three are made for every request: frozen, each would cost three times as much.
@dataclass(slots=True)
class Placement:
    """Where a request went and why; known when its answer begins."""

    sla_class: SlaClass
    """The class it is served as, which the caller's entitlement may have lowered."""
    pool: str
    endpoint: str
    reason: Reason
    queue_s: float
    """Spent waiting in the router for a slot."""
    predicted_first_token_s: float | None = None
    """Counted from arrival, as predicted when it was sent; None where nothing was predicted."""


@dataclass(slots=True)
class Phases:
    """How long the parts of an answer took; None for a part that did not happen or was not seen."""

    connect_s: float | None = None
    """Opening a connection to the engine; None where a kept one was used."""
    first_token_s: float | None = None
    """From arrival to the first token."""
    total_s: float | None = None
    """From arrival to the end; not known when the headers of a stream are written."""


@dataclass(slots=True)
class Outcome:
    """How a request went; known when its answer has ended. None where it was not seen."""

    router_s: float
    """The router's own work: all the time that was spent neither waiting nor in the engine."""
    first_token_s: float | None
    """From arrival to the first token; infinite where it was due and never came."""
    per_token_s: float | None
    """Mean time per output token after the first; None where there was no second."""
    total_s: float
    prompt_tokens: int | None
    output_tokens: int | None
    targets: Targets = NO_TARGETS
    attempts: int = 1
    hedged: bool = False
    seams: Sequence[tuple[str, int]] = ()
    """Where the answer went on at another endpoint: the one that broke, and the tokens until then."""


def header_value(text: str) -> bytes:
    """Return `text` as the value of one header line: printable ASCII, `?` for everything else."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text).encode()


def routing_lines(
    request_id: str, placement: Placement, phases: Phases, *, show_routing: bool = True
) -> bytes:
    """Return the header lines that say how a request was routed; names in lower case.

    `show_routing=False` leaves out pool, endpoint and reason, for callers who should not see
    the fleet.
    """
    predicted_s = placement.predicted_first_token_s
    return b"x-request-id: %b\r\n%bx-sla-queue-ms: %.1f\r\n%bserver-timing: %b\r\n" % (
        header_value(request_id),
        _placed(
            placement.sla_class,
            placement.pool if show_routing else None,
            placement.endpoint,
            placement.reason,
        ),
        placement.queue_s * 1e3,
        b""
        if predicted_s is None or predicted_s == inf
        else b"x-sla-predicted-ttft-ms: %.1f\r\n" % (predicted_s * 1e3),
        _server_timing(placement.queue_s, phases),
    )


@lru_cache(maxsize=4096)
def _placed(sla_class: SlaClass, pool: str | None, endpoint: str, reason: Reason) -> bytes:
    """Return the lines that repeat; `pool` None leaves out all that tells of the fleet."""
    line = b"x-sla-class: %b\r\n" % sla_class.encode()
    if pool is None:
        return line
    return line + b"x-sla-pool: %b\r\nx-sla-endpoint: %b\r\nx-sla-reason: %b\r\n" % (
        header_value(pool),
        header_value(endpoint),
        reason.encode(),
    )


def _server_timing(queue_s: float, phases: Phases) -> bytes:
    """Render the phases in milliseconds. Source: W3C Server Timing, section 3."""
    timing = b"queue;dur=%.1f" % (queue_s * 1e3)
    if phases.connect_s is not None:
        timing += b", connect;dur=%.1f" % (phases.connect_s * 1e3)
    if phases.first_token_s is not None:
        timing += b", ttft;dur=%.1f" % (phases.first_token_s * 1e3)
    if phases.total_s is not None:
        timing += b", total;dur=%.1f" % (phases.total_s * 1e3)
    return timing


def met(
    targets: Targets, first_token_s: float | None, per_token_s: float | None, total_s: float | None
) -> bool | None:
    """Say whether every target that can be judged was met; None where none can.

    A measure that is None leaves its target unjudged: an answer of one token has no time per
    token, and a plain answer shows no first token. What was due and never came is infinite.
    """
    judged = False
    for took_s, target_s in (
        (first_token_s, targets.first_token_s),
        (per_token_s, targets.per_token_s),
        (total_s, targets.deadline_s),
    ):
        if took_s is not None and target_s is not None:
            if took_s > target_s:
                return False
            judged = True
    return True if judged else None


def receipt(placement: Placement, outcome: Outcome, *, show_routing: bool = True) -> bytes:
    """Return what happened to one request as one line of JSON in ASCII, times in milliseconds.

    Fit for a header and for an SSE comment. A time that was not seen, or never came, is null.
    """
    targets = outcome.targets
    verdict = met(targets, outcome.first_token_s, outcome.per_token_s, outcome.total_s)
    fields: dict[str, object] = {
        "class": placement.sla_class,
        "pool": placement.pool,
        "endpoint": placement.endpoint,
        "reason": placement.reason,
        "queue_ms": _ms(placement.queue_s),
        "router_ms": _ms(outcome.router_s),
        "predicted_ttft_ms": _ms(placement.predicted_first_token_s),
        "ttft_ms": _ms(outcome.first_token_s),
        "tpot_ms": _ms(outcome.per_token_s),
        "total_ms": _ms(outcome.total_s),
        "prompt_tokens": outcome.prompt_tokens,
        "output_tokens": outcome.output_tokens,
        "attempts": outcome.attempts,
        "hedged": outcome.hedged,
        "targets": _targets(targets),
        "sla": "none" if verdict is None else "met" if verdict else "missed",
    }
    if outcome.seams:
        fields["seams"] = [
            {"endpoint": endpoint, "tokens": tokens} if show_routing else {"tokens": tokens}
            for endpoint, tokens in outcome.seams
        ]
    if not show_routing:
        del fields["pool"], fields["endpoint"], fields["reason"]
    line = orjson.dumps(fields)
    if not line.isascii():
        line = json.dumps(orjson.loads(line)).encode()
    return line.replace(b"\x7f", b"\\u007f")


@lru_cache(maxsize=256)
def _targets(targets: Targets) -> orjson.Fragment:
    """Return the targets in JSON; kept, because the same few come again and again."""
    return orjson.Fragment(
        orjson.dumps(
            {
                "ttft_ms": _ms(targets.first_token_s),
                "tpot_ms": _ms(targets.per_token_s),
                "deadline_ms": _ms(targets.deadline_s),
            }
        )
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or seconds == inf else round(seconds * 1e3, 3)
