"""What an answer tells beyond the engine's own bytes: routing headers, the receipt, the verdict.

On the hot path, so text that repeats (pools, endpoints) is made safe once and kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Final

import orjson

from policies.facts import Reason, SlaClass, Targets

NO_TARGETS = Targets()


# These three are made for every request: frozen, each would cost three times as much.
@dataclass(init=False, slots=True)
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

    def __init__(
        self,
        sla_class: SlaClass,
        pool: str,
        endpoint: str,
        reason: Reason,
        queue_s: float,
        predicted_first_token_s: float | None = None,
    ) -> None:
        self.sla_class = sla_class
        self.pool = pool
        self.endpoint = endpoint
        self.reason = reason
        self.queue_s = queue_s
        self.predicted_first_token_s = predicted_first_token_s


@dataclass(init=False, slots=True)
class Phases:
    """How long the parts of an answer took; None for a part that did not happen or was not seen."""

    connect_s: float | None = None
    """Opening a connection to the engine; None where a kept one was used."""
    first_token_s: float | None = None
    """From arrival to the first token."""
    total_s: float | None = None
    """From arrival to the end; not known when the headers of a stream are written."""

    def __init__(
        self,
        connect_s: float | None = None,
        first_token_s: float | None = None,
        total_s: float | None = None,
    ) -> None:
        self.connect_s = connect_s
        self.first_token_s = first_token_s
        self.total_s = total_s


@dataclass(init=False, slots=True)
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

    def __init__(  # noqa: PLR0913, PLR0917 # one parameter a field
        self,
        router_s: float,
        first_token_s: float | None,
        per_token_s: float | None,
        total_s: float,
        prompt_tokens: int | None,
        output_tokens: int | None,
        targets: Targets = NO_TARGETS,
        attempts: int = 1,
        hedged: bool = False,  # noqa: FBT002 # the field
        seams: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.router_s = router_s
        self.first_token_s = first_token_s
        self.per_token_s = per_token_s
        self.total_s = total_s
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.targets = targets
        self.attempts = attempts
        self.hedged = hedged
        self.seams = seams


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
    return b"x-request-id: %b\r\n%bx-sla-queue-ms: %b\r\n%bserver-timing: %b\r\n" % (
        header_value(request_id),
        _placed(
            placement.sla_class,
            placement.pool if show_routing else None,
            placement.endpoint,
            placement.reason,
        ),
        _tenths_ms(placement.queue_s),
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
    timing = b"queue;dur=" + _tenths_ms(queue_s)
    if phases.connect_s is not None:
        timing += b", connect;dur=" + _tenths_ms(phases.connect_s)
    if phases.first_token_s is not None:
        timing += b", ttft;dur=" + _tenths_ms(phases.first_token_s)
    if phases.total_s is not None:
        timing += b", total;dur=" + _tenths_ms(phases.total_s)
    return timing


_LOOKED_UP_S: Final = 0.1
_TENTHS_MS: Final = [b"%.1f" % (tenths / 10) for tenths in range(1001)]


def _tenths_ms(seconds: float) -> bytes:
    """Return seconds as milliseconds with one decimal; below 100 ms it is looked up."""
    if 0.0 <= seconds < _LOOKED_UP_S:
        return _TENTHS_MS[int(seconds * 1e4 + 0.5)]
    return b"%.1f" % (seconds * 1e3)


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
