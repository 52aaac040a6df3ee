"""Says what an engine's refusal or failure means, in the terms that a retry decision needs."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from engines.engine import Fault, FaultKind
from engines.words import Words

LONGEST_MESSAGE = 2000
"""Characters kept of a message: some engines quote the caller's whole input back."""

Telltales = Sequence[tuple[str, FaultKind]]
"""Pieces of a message, type or code, in lower case, and what they give away; the first that fits."""

TOO_LONG: Telltales = (
    ("context length", FaultKind.CONTEXT_TOO_LONG),
    ("context size", FaultKind.CONTEXT_TOO_LONG),
    ("context window", FaultKind.CONTEXT_TOO_LONG),
    ("context_length", FaultKind.CONTEXT_TOO_LONG),
    ("max_model_len", FaultKind.CONTEXT_TOO_LONG),
    ("prompt is too long", FaultKind.CONTEXT_TOO_LONG),
)

_OF_STATUS: Mapping[int, FaultKind] = {
    401: FaultKind.UNAUTHORIZED,
    403: FaultKind.UNAUTHORIZED,
    404: FaultKind.NOT_FOUND,
    405: FaultKind.UNSUPPORTED,
    408: FaultKind.BROKEN,
    413: FaultKind.TOO_LARGE,
    424: FaultKind.BROKEN,
    429: FaultKind.BUSY,
    501: FaultKind.UNSUPPORTED,
    503: FaultKind.BUSY,
    529: FaultKind.BUSY,
}

_PHRASES: Mapping[int, str] = {status.value: status.phrase for status in HTTPStatus}

# What servers say of a path that they do not have, as opposed to a model.
_NO_SUCH_ROUTE = frozenset({"not found", "file not found", "404 page not found"})


def usual_kind(words: Words, telltales: Telltales = ()) -> FaultKind:
    """Return what most engines mean: the status decides, and where it is vague, the telltales."""
    if words.status == HTTPStatus.NOT_FOUND and _names_no_route(words.message):
        return FaultKind.UNSUPPORTED
    if words.status in _OF_STATUS:
        return _OF_STATUS[words.status]
    is_callers = words.status in range(400, 500)
    said = " ".join(part for part in (words.message, words.type, words.code) if part).lower()
    for piece, kind in (*telltales, *(TOO_LONG if is_callers else ())):
        if piece in said:
            return kind
    return FaultKind.INVALID if is_callers else FaultKind.BROKEN


def fault(words: Words, kind: FaultKind) -> Fault:
    """Return the fault that `words` describe; it has a message even where they have none."""
    return Fault(kind, _shortened(words.message or _silence(words)), words.param, words.code)


def _names_no_route(message: str | None) -> bool:
    return message is None or message.strip().lower() in _NO_SUCH_ROUTE


def _silence(words: Words) -> str:
    answered = " ".join(filter(None, (str(words.status), _PHRASES.get(words.status))))
    return f"the engine answered {answered} without saying why"


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"
