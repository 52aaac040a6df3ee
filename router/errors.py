"""What the router answers when it does not relay: one shape, and the words for a wrong request.

A `Problem` is a value; every case has one function that makes it, here and in
`router.declined`. The status decides the type, so that a client library raises the class that its
user expects, and `body`, `headers` and `event` write it.
Sources: OpenAI's and Anthropic's error objects; the retry rules of openai-python 3.54.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf
from types import NoneType

import orjson

from router.answer import header_value

LONGEST_RETRY_AFTER_S = 120.0
"""openai-python gives up at once when it is told to wait longer."""
MOST_NAMES = 20
"""Names that one message lists."""
MOST_SHOWN = 80
"""Characters of the caller's own value that one message repeats."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that is not relayed from an engine."""

    status: int
    type: str
    message: str
    code: str | None = None
    """What a program should look at."""
    param: str | None = None
    """Path of the field in the body, or name of the header, that is wrong."""
    retry_after_s: float | None = None
    """When to come back; None where coming back cannot help or nobody knows when."""
    should_retry: bool | None = None
    """Said to the client library; None leaves it to the library's own rules for the status."""
    dropped_reason: str | None = None
    """llm-d's word for why a request was shed; None where it was not shed."""
    lines: bytes = b""
    """More header lines, whole ones."""


class BadRequest(Exception):
    """Carries a problem out of the depth of a reader, up to the function that returns it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


TYPES: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    408: ("timeout_error", "timeout_error"),
    409: ("invalid_request_error", "invalid_request_error"),
    412: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "invalid_request_error"),
    417: ("invalid_request_error", "invalid_request_error"),
    422: ("invalid_request_error", "invalid_request_error"),
    428: ("invalid_request_error", "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_error"),
    431: ("invalid_request_error", "request_too_large"),
    500: ("server_error", "api_error"),
    501: ("not_implemented_error", "invalid_request_error"),
    502: ("server_error", "api_error"),
    503: ("service_unavailable_error", "overloaded_error"),
    504: ("timeout_error", "timeout_error"),
}
"""Status to `type`: the word that OpenAI's clients know, and the one that Anthropic's do."""


def too_many_connections(limit: int) -> Problem:
    """Refuse a connection beyond what the router has open files for."""
    return Problem(
        status=503,
        type=TYPES[503][0],
        message=f"the router holds {limit} connections and takes no more; keep connections and use"
        " them again, run more replicas, or raise server.limits.max_connections and the limit on"
        " open files (ulimit -n)",
        code="too_many_connections",
        retry_after_s=1.0,
        should_retry=True,
    )


def problem(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> Problem:
    """Make a problem whose type follows from its status."""
    return Problem(status, TYPES[status][0], message, code, param)


def bad_json(error: orjson.JSONDecodeError) -> Problem:
    """Answer a body that is not JSON; the parser's own words say where."""
    return problem(400, f"could not parse the JSON body of the request: {error}", "invalid_json")


def too_deep(limit: int) -> Problem:
    """Answer a body whose arrays and objects are nested too deeply; `limit` levels are not."""
    return problem(400, f"the JSON body is nested more than {limit} levels deep", "invalid_json")


def bad_header(name: str, value: str, right: str) -> Problem:
    """Answer a malformed header; `right` says what would be right, as a noun phrase."""
    return problem(400, f"header {name}: {shown(value)} is not {right}", "invalid_header", name)


def conflicting_header(name: str, values: Iterable[str]) -> Problem:
    """Answer a header that came more than once and says different things."""
    given = " and ".join(shown(value) for value in values)
    message = f"header {name}: given more than once, as {given}; send it once"
    return problem(400, message, "invalid_header", name)


KINDS: Mapping[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    list: "an array",
    dict: "an object",
    NoneType: "null",
}


def wrong_type(path: str, expected: str, value: object) -> Problem:
    """Answer a field of the wrong type; `expected` is a noun phrase, a `path` of "" the body."""
    got = KINDS[type(value)]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        got += f" ({shown(value)})"
    place = f"'{path}'" if path else "the JSON body"
    message = f"invalid type for {place}: expected {expected}, but got {got} instead"
    return problem(400, message, "invalid_type", path or None)


def wrong_value(path: str, value: object, right: str) -> Problem:
    """Answer a field whose value is none of the known; `right` says what would be right."""
    message = f"invalid value for '{path}': {shown(value)} is not {right}"
    return problem(400, message, "invalid_value", path)


def missing_field(path: str) -> Problem:
    """Answer the lack of a field that the route cannot do without; null is a lack too."""
    message = f"missing required parameter: '{path}'"
    return problem(400, message, "missing_required_parameter", path)


def missing_model() -> Problem:
    """Answer a request that names no model; the words are OpenAI's."""
    message = "you must provide a model parameter"
    return problem(400, message, "missing_required_parameter", "model")


def body_too_large(limit_bytes: int, sent_bytes: int | None = None) -> Problem:
    """Answer a body over the limit; `sent_bytes` is None where no length was given."""
    sent = "" if sent_bytes is None else f" of {sent_bytes} bytes"
    message = f"the request body{sent} is too large: the limit is {limit_bytes} bytes"
    return problem(413, message, "request_too_large")


def headers_too_large(limit_bytes: int) -> Problem:
    """Answer a request line and headers that are over the limit together."""
    message = f"the request's headers are too large: the limit is {limit_bytes} bytes"
    return problem(431, message, "headers_too_large")


def body_too_slow(limit_s: float, received_bytes: int) -> Problem:
    """Answer a body that had not arrived in time."""
    message = f"the request body was not complete after {limit_s:g} s ({received_bytes} bytes came)"
    return problem(408, message, "request_timeout")


def unsupported_media(name: str, value: str, right: str) -> Problem:
    """Answer a header that says the body is in a form that the router does not read."""
    message = f"header {name}: {shown(value)} is not supported; send {right}"
    return problem(415, message, "unsupported_media_type", name)


def no_such_path(method: str, path: str, known: Collection[str]) -> Problem:
    """Answer a path where nothing lives."""
    message = f"no route {shown(method)} {shown(path)}; known routes: {listed(known)}"
    return problem(404, message, "unknown_url")


def wrong_method(method: str, path: str, allowed: Collection[str]) -> Problem:
    """Answer a method that an existing path does not take."""
    message = f"{path} does not take {shown(method)}; it takes {listed(allowed)}"
    return problem(405, message, "method_not_allowed")


def internal(request_id: str) -> Problem:
    """Answer for a fault of the router itself; its log knows the request by this id."""
    return problem(500, f"the router failed on request {shown(request_id)}", "internal_error")


def shown(value: object) -> str:
    """Return a value as a message repeats it: quoted, escaped and not too long."""
    if isinstance(value, str) and len(value) > MOST_SHOWN:
        value = value[:MOST_SHOWN] + "..."
    return repr(value)


def listed(names: Collection[str]) -> str:
    """Return names in order, not too many of them."""
    if not names:
        return "none"
    text = ", ".join(sorted(names)[:MOST_NAMES])
    left = len(names) - MOST_NAMES
    return f"{text} and {left} more" if left > 0 else text


def body(problem: Problem, *, anthropic: bool = False) -> bytes:
    """Return OpenAI's error object; `anthropic` adds what makes it Anthropic's as well."""
    error = {
        "message": _writable(problem.message),
        "type": TYPES[problem.status][1] if anthropic else problem.type,
        "param": _writable(problem.param),
        "code": _writable(problem.code),
    }
    return orjson.dumps({"type": "error", "error": error} if anthropic else {"error": error})


def _writable(text: str | None) -> str | None:
    """Replace what UTF-8 cannot hold: lone surrogates, which a lenient decoder may have let in."""
    return text if text is None else text.encode("utf-8", "replace").decode()


def event(problem: Problem, *, anthropic: bool = False) -> bytes:
    """Return one SSE event, for an answer that has begun; the stream ends after it.

    Anthropic's client passes over events without a name, so there it must have one.
    """
    name = b"event: error\n" if anthropic else b""
    return b"%bdata: %b\n\n" % (name, body(problem, anthropic=anthropic))


def headers(problem: Problem) -> list[tuple[bytes, bytes]]:
    """Return the headers that go with the body: type, when to come back, why it was shed.

    `retry-after-ms` is exact, `retry-after` its whole seconds, rounded up; both are held to what
    client libraries obey.
    """
    answer = [(b"content-type", b"application/json")]
    if problem.retry_after_s is not None:
        # Who is not to come back by itself is told the truth, however long it is.
        longest_s = inf if problem.should_retry is False else LONGEST_RETRY_AFTER_S
        after_ms = ceil(min(max(problem.retry_after_s, 0.001), longest_s) * 1e3)
        answer.append((b"retry-after", b"%d" % -(-after_ms // 1000)))
        answer.append((b"retry-after-ms", b"%d" % after_ms))
    if problem.should_retry is not None:
        answer.append((b"x-should-retry", b"true" if problem.should_retry else b"false"))
    if problem.dropped_reason is not None:
        reason = header_value(problem.dropped_reason)
        answer.append((b"x-sla-dropped-reason", reason))
        answer.append((b"x-llm-d-request-dropped-reason", reason))
    return answer + pairs(problem.lines) if problem.lines else answer


def pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Return whole header lines as names and values."""
    split = [line.partition(b": ") for line in lines.splitlines()]
    return [(name, value) for name, _, value in split]
