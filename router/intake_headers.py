"""What a caller asks for in headers: one table from header name to reader.

The table's order is the precedence: where several headers say the same thing, the one lowest in
the table wins. The deadline is the exception, the smallest of all given. One header given twice
must say the same thing twice.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter

from policies.facts import OnMiss, SlaClass, Wish
from router.errors import BadRequest, conflicting_header, unsupported_media
from router.header_values import (
    grpc_timeout,
    integer,
    milliseconds,
    number,
    opaque,
    preferred_wait,
    request_id,
    text,
    urgency,
    word,
)

SDK_DEFAULT_READ_TIMEOUT_S = 600.0
"""What openai-python sends where its user set no timeout: nobody's wish."""


class Asked:
    """What the headers of one request ask for; None where they do not say."""

    sla_class: SlaClass | None = None
    class_hint: SlaClass | None = None
    """The class by a header of another router; weaker than what the body says."""
    first_token_s: float | None = None
    per_token_s: float | None = None
    deadline_s: float | None = None
    patience_s: float | None = None
    """When a client library or a proxy in between will have given up: sent with every request,
    whoever waits for it, so no sign of urgency or of the lack of it."""
    on_miss: OnMiss | None = None
    may_wait: bool = True
    wants_receipt: bool = False
    wants_continuation: bool | None = None
    urgency: int | None = None
    session: str | None = None
    tenant: str | None = None
    request_id: str | None = None
    wish: Wish | None = None
    """What it amounts to where the body wishes for nothing; kept, because heads are kept."""


def read_headers(headers: Sequence[tuple[bytes, bytes]]) -> Asked:
    """Read all headers that are known here, names in lower case; raise `BadRequest`."""
    found = [(_ORDER[name], value) for name, value in headers if name in _ORDER]
    found.sort(key=_by_order)
    values = dict(found)
    if len(values) < len(found):
        values = _merged(found)
    asked = Asked()
    for order, value in values.items():
        name, read = _HEADERS[order]
        read(asked, name, value.strip())
    return asked


_by_order = itemgetter(0)


def _merged(found: list[tuple[int, bytes]]) -> dict[int, bytes]:
    """Join the lines of lists; refuse other headers whose lines differ."""
    values: dict[int, bytes] = {}
    for order, value in found:
        name = _HEADERS[order][0]
        if order not in values:
            values[order] = value
        elif name in _LISTS:
            values[order] += b"," + value
        elif values[order] != value:
            raise BadRequest(conflicting_header(name.decode(), [text(values[order]), text(value)]))
    return values


def read_request_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return the caller's id for its request; None where there is none that is fit to repeat.

    For answers to requests that cannot be read.
    """
    for name, value in headers:
        if name == b"x-request-id":
            try:
                return request_id(name, value.strip())
            except BadRequest:
                return None
    return None


def urgency_of(priority: int) -> int:
    """Turn vLLM's priority (any integer, 0 by default, lower first) into an urgency 0..7.

    Its default becomes RFC 9218's default, 3, and both ends are clamped.
    """
    return min(max(3 + priority, 0), 7)


_CLASSES = {sla_class.encode(): sla_class for sla_class in SlaClass}
_SMG_CLASSES = {b"system": SlaClass.INTERACTIVE} | _CLASSES
"""What smg calls its classes; its `default` leaves the choice to the policy."""
_ON_MISS = {on_miss.encode(): on_miss for on_miss in OnMiss}
_QUEUE = {b"allow": True, b"never": False}
_YES_NO = {b"1": True, b"true": True, b"0": False, b"false": False}


def _class(asked: Asked, name: bytes, value: bytes) -> None:
    asked.sla_class = word(name, value, _CLASSES)


def _objective(asked: Asked, _name: bytes, value: bytes) -> None:
    """Read an objective that names a class; others are llm-d's business."""
    asked.class_hint = _CLASSES.get(value.lower(), asked.class_hint)


def _smg_priority(asked: Asked, _name: bytes, value: bytes) -> None:
    """Read smg's class; as there, an unknown one asks for nothing."""
    asked.class_hint = _SMG_CLASSES.get(value.lower(), asked.class_hint)


def _first_token(asked: Asked, name: bytes, value: bytes) -> None:
    asked.first_token_s = milliseconds(name, value)


def _per_token(asked: Asked, name: bytes, value: bytes) -> None:
    asked.per_token_s = milliseconds(name, value)


def _deadline(asked: Asked, name: bytes, value: bytes) -> None:
    _by(asked, milliseconds(name, value))


def _envoy_timeout(asked: Asked, name: bytes, value: bytes) -> None:
    """Read Envoy's route timeout, which is 0 where there is none."""
    if value != b"0":
        _patience(asked, milliseconds(name, value))


def _grpc_timeout(asked: Asked, name: bytes, value: bytes) -> None:
    _by(asked, grpc_timeout(name, value))


def _prefer(asked: Asked, name: bytes, value: bytes) -> None:
    wait_s = preferred_wait(name, value)
    if wait_s is not None:
        _by(asked, wait_s)


def _by(asked: Asked, deadline_s: float) -> None:
    """Hold the deadline to the smallest of all given."""
    if asked.deadline_s is None or deadline_s < asked.deadline_s:
        asked.deadline_s = deadline_s


def _patience(asked: Asked, limit_s: float) -> None:
    """Hold the patience to the smallest of all given."""
    if asked.patience_s is None or limit_s < asked.patience_s:
        asked.patience_s = limit_s


def _read_timeout(asked: Asked, name: bytes, value: bytes) -> None:
    """Read the client library's own timeout; it writes `inf` for none."""
    if value != b"inf":
        seconds = number(name, value, "seconds")
        if seconds < SDK_DEFAULT_READ_TIMEOUT_S:
            _patience(asked, seconds)


def _on_miss(asked: Asked, name: bytes, value: bytes) -> None:
    asked.on_miss = word(name, value, _ON_MISS)


def _queue(asked: Asked, name: bytes, value: bytes) -> None:
    asked.may_wait = word(name, value, _QUEUE)


def _receipt(asked: Asked, name: bytes, value: bytes) -> None:
    asked.wants_receipt = word(name, value, _YES_NO)


def _continue(asked: Asked, name: bytes, value: bytes) -> None:
    asked.wants_continuation = word(name, value, _YES_NO)


def _vllm_priority(asked: Asked, name: bytes, value: bytes) -> None:
    asked.urgency = urgency_of(integer(name, value))


def _priority(asked: Asked, name: bytes, value: bytes) -> None:
    given = urgency(name, value)
    if given is not None:
        asked.urgency = given


def _session(asked: Asked, name: bytes, value: bytes) -> None:
    asked.session = opaque(name, value) or asked.session


def _tenant(asked: Asked, name: bytes, value: bytes) -> None:
    asked.tenant = opaque(name, value) or asked.tenant


def _request_id(asked: Asked, name: bytes, value: bytes) -> None:
    asked.request_id = request_id(name, value)


_NOT_JSON = (
    b"multipart/",
    b"application/x-www-form-urlencoded",
    b"application/xml",
    b"text/xml",
    b"text/html",
    b"image/",
    b"audio/",
    b"video/",
)


def _content_type(_asked: Asked, name: bytes, value: bytes) -> None:
    """Refuse what is clearly not JSON; a type that is missing or vague is taken for JSON."""
    if value != b"application/json" and value.lower().startswith(_NOT_JSON):
        raise BadRequest(unsupported_media(name.decode(), text(value), "application/json"))


def _content_encoding(_asked: Asked, name: bytes, value: bytes) -> None:
    if value.lower() not in (b"", b"identity"):
        raise BadRequest(unsupported_media(name.decode(), text(value), "the body unencoded"))


_Read = Callable[[Asked, bytes, bytes], None]
_HEADERS: tuple[tuple[bytes, _Read], ...] = (
    (b"content-type", _content_type),
    (b"content-encoding", _content_encoding),
    (b"x-request-id", _request_id),
    (b"x-smg-priority", _smg_priority),
    (b"x-gateway-inference-objective", _objective),
    (b"x-llm-d-inference-objective", _objective),
    (b"x-sla-class", _class),
    (b"x-llm-d-slo-ttft-ms", _first_token),
    (b"x-slo-ttft-ms", _first_token),
    (b"x-sla-ttft-ms", _first_token),
    (b"x-llm-d-slo-tpot-ms", _per_token),
    (b"x-slo-tpot-ms", _per_token),
    (b"x-sla-tpot-ms", _per_token),
    (b"x-stainless-read-timeout", _read_timeout),
    (b"prefer", _prefer),
    (b"grpc-timeout", _grpc_timeout),
    (b"x-envoy-expected-rq-timeout-ms", _envoy_timeout),
    (b"x-slo-e2e-ms", _deadline),
    (b"x-sla-deadline-ms", _deadline),
    (b"x-sla-on-miss", _on_miss),
    (b"x-sla-queue", _queue),
    (b"x-sla-receipt", _receipt),
    (b"x-sla-continue", _continue),
    (b"x-vllm-priority", _vllm_priority),
    (b"priority", _priority),
    (b"x-session-token", _session),
    (b"x-session-id", _session),
    (b"x-gateway-inference-fairness-id", _tenant),
    (b"x-llm-d-inference-fairness-id", _tenant),
    (b"x-tenant-id", _tenant),
)
_ORDER = {name: order for order, (name, _) in enumerate(_HEADERS)}
_LISTS = frozenset({b"prefer", b"priority"})
"""Headers whose lines, where there are several, are one list."""

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Source: RFC 9110, section 7.6.1."""
_WRITTEN_BY_THE_ROUTER = frozenset({b"host", b"content-length", b"expect", b"accept-encoding"})
"""`accept-encoding`: the router reads the first and last event, so no engine may compress."""
_JUMPS_AN_ENGINES_QUEUE = frozenset({b"x-override-priority"})
"""SGLang's; the router alone sets an engine's priority."""
INTERNAL_HEADERS = (
    _HOP_BY_HOP
    | _WRITTEN_BY_THE_ROUTER
    | _JUMPS_AN_ENGINES_QUEUE
    | (frozenset(_ORDER) - {b"x-request-id", b"content-type"})
)
"""Names, in lower case, that are never passed on to an engine."""
