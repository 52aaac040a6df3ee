"""Reads what an engine says when it refuses or fails, in every form that engines use.

Forms: OpenAI's `{"error": {…}}` (vLLM, llama.cpp), a string `{"error": "…"}` (TGI, vLLM's 401), the
flat `{"object": "error", …}` (SGLang), Anthropic's `{"type": "error", "error": {…}}`, FastAPI's
`{"detail": …}`, plain text (axum, proxies), HTML, nothing at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from engines.fields import as_list, as_object, as_text, parsed

LONGEST_BYTES = 8192
"""Bytes looked at of a body that is not JSON."""


@dataclass(frozen=True, slots=True)
class Words:
    """What an engine said, whatever the form; None where it did not say."""

    status: int
    """HTTP status; for an in-stream event, the one that it stands for."""
    message: str | None = None
    param: str | None = None
    code: str | None = None
    type: str | None = None
    """The sort of error in the engine's own vocabulary."""


# The status that an in-stream error stands for, by its type or code, in lower case.
# Sources: Anthropic's and OpenAI's error pages; vLLM and SGLang name theirs after HTTP.
_STATUS_OF: Mapping[str, int] = {
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "request_too_large": 413,
    "unprocessableentityerror": 422,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "not_supported_error": 501,
    "notimplementederror": 501,
    "service unavailable": 503,
    "service_unavailable": 503,
    "serviceunavailableerror": 503,
    "unavailable_error": 503,
    "overloaded_error": 529,
}


def of_answer(status: int, body: bytes) -> Words:
    """Read a non-2xx answer."""
    document = parsed(body)
    if isinstance(document, str):
        return Words(status, message=as_text(document))
    if not isinstance(document, dict):
        return Words(status, message=_plain(body))
    if "detail" in document:
        return _of_detail(status, document["detail"])
    words = _of_error(status, _error_in(document) or document)
    return words if words.message else replace(words, message=_plain(body))


def of_event(payload: bytes) -> Words | None:
    """Read an event's data inside a 200; None where it is no error.

    Nearly every event is no error, and one search tells so: a quote inside a text is escaped, so
    text about an error does not look like one. The few others are parsed.
    """
    if b'"error"' not in payload and b'"response.failed"' not in payload:
        return None
    error = _error_in(as_object(parsed(payload)))
    return None if error is None else _of_error(_status_of(error), error)


def _error_in(document: Mapping[str, object]) -> Mapping[str, object] | None:
    """Return the object that describes the error; None where `document` is no error."""
    if document.get("type") == "response.failed":
        return as_object(as_object(document.get("response")).get("error"))
    error = document.get("error")
    if isinstance(error, dict) and error:
        return error
    if error:
        return {"message": str(error), "type": document.get("error_type")}
    is_flat = document.get("object") == "error" or document.get("type") == "error"
    return document if is_flat else None


def _status_of(error: Mapping[str, object]) -> int:
    for named in (error.get("code"), error.get("type")):
        if isinstance(named, int) and named in range(400, 600):
            return named
        if isinstance(named, str) and named.lower() in _STATUS_OF:
            return _STATUS_OF[named.lower()]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _of_error(status: int, error: Mapping[str, object]) -> Words:
    return Words(
        status,
        message=as_text(error.get("message")),
        param=as_text(error.get("param")),
        code=as_text(error.get("code")),
        type=as_text(error.get("type")),
    )


def _of_detail(status: int, detail: object) -> Words:
    """Read FastAPI's `detail`: a sentence, an object, or a list of what is wrong where."""
    if isinstance(detail, str):
        return Words(status, message=as_text(detail))
    if isinstance(detail, dict):
        return _of_error(status, detail)
    found = [as_object(item) for item in as_list(detail)]
    places = [".".join(str(step) for step in as_list(item.get("loc"))) for item in found]
    sentences = [f"{place}: {item.get('msg')}" for place, item in zip(places, found, strict=True)]
    return Words(status, "; ".join(sentences) or None, param=places[0] if places else None)


def _plain(body: bytes) -> str | None:
    """Return a plain-text body fit to be shown; None for HTML, which is for browsers."""
    text = body[:LONGEST_BYTES].decode(errors="replace").strip()
    if text.startswith("<"):
        return None
    return as_text("".join(letter for letter in text if letter.isprintable() or letter == "\n"))
