"""Requests that were right and are still not served: refused by the dispatcher, failed by an engine.

429 means contended: others are being served, come back. 503 means that nothing can serve. 504 means
too late for the caller. 502 means that an engine answered wrongly.
"""

from collections.abc import Collection, Mapping
from enum import Enum

from engines.engine import Fault, FaultKind, Feature, Route
from policies.facts import RefusalReason, Refuse
from router.errors import TYPES, Problem, listed, problem, shown

SHUTDOWN_RETRY_AFTER_S = 1.0
"""Another replica, or this one's successor, is there by then."""


def unknown_model(model: str, known: Collection[str]) -> Problem:
    """Answer a model that no pool serves; `known` are the names that one does."""
    return refused(
        Refuse(
            RefusalReason.UNKNOWN_MODEL,
            f"no pool serves model {shown(model)}",
            known=tuple(known),
        )
    )


def shutting_down() -> Problem:
    """Answer a request that came after the router began to stop."""
    return refused(Refuse(RefusalReason.SHUTTING_DOWN, "the router is shutting down"))


def refused(refuse: Refuse) -> Problem:
    """Answer a request that the dispatcher would not serve."""
    reason = refuse.reason
    if refuse.missing:
        return unsupported(refuse.missing, refuse.detail)
    status, code = _REFUSALS[reason]
    message = refuse.detail
    if refuse.known:
        message += f"; known: {listed(refuse.known)}"
    retry_after_s = refuse.retry_after_s
    if reason is RefusalReason.SHUTTING_DOWN and retry_after_s is None:
        retry_after_s = SHUTDOWN_RETRY_AFTER_S
    return Problem(
        status=status,
        type=TYPES[status][0],
        message=message,
        code=code,
        param="model" if reason is RefusalReason.UNKNOWN_MODEL else None,
        retry_after_s=retry_after_s,
        should_retry=_should_retry(reason, retry_after_s),
        dropped_reason=reason.value,
    )


_REFUSALS: Mapping[RefusalReason, tuple[int, str]] = {
    RefusalReason.SATURATED: (429, "saturated"),
    RefusalReason.QUEUE_FULL: (429, "queue_full"),
    RefusalReason.NO_QUEUE: (429, "would_queue"),
    RefusalReason.NO_ENDPOINTS: (503, "no_endpoints"),
    RefusalReason.EXPIRED: (429, "queue_time_expired"),
    RefusalReason.DEADLINE: (504, "deadline_unreachable"),
    RefusalReason.RETRIES_SPENT: (503, "retries_spent"),
    RefusalReason.UNKNOWN_MODEL: (404, "model_not_found"),
    RefusalReason.UNSUPPORTED: (501, "unsupported"),
    RefusalReason.TOO_LONG: (400, "context_length_exceeded"),
    RefusalReason.SHUTTING_DOWN: (503, "shutting_down"),
}
_NEVER_REPEATED = frozenset(
    {
        RefusalReason.NO_QUEUE,
        RefusalReason.DEADLINE,
        RefusalReason.UNKNOWN_MODEL,
        RefusalReason.UNSUPPORTED,
        RefusalReason.TOO_LONG,
    }
)
"""A caller who asked not to wait must not be made to wait by its own client library."""


def _should_retry(reason: RefusalReason, retry_after_s: float | None) -> bool:
    return reason not in _NEVER_REPEATED and retry_after_s is not None


def unsupported(missing: Collection[Enum], message: str) -> Problem:
    """Answer needs, at least one, that no engine of a known model offers.

    A missing route is a 501, which the client is told not to repeat; missing features are a 400,
    because leaving them out mends the request.
    """
    reason = RefusalReason.UNSUPPORTED
    routes = [need for need in missing if isinstance(need, Route)]
    params = {_PARAMS[need] for need in missing if isinstance(need, Feature)}
    return Problem(
        status=501 if routes else 400,
        type=TYPES[501 if routes else 400][0],
        message=message,
        code="unsupported_route" if routes else "unsupported_parameter",
        param=params.pop() if len(params) == 1 else None,
        should_retry=False,
        dropped_reason=reason.value,
    )


_PARAMS: Mapping[Feature, str] = {
    Feature.MANY_CHOICES: "n",
    Feature.TOOLS: "tools",
    Feature.TOOL_CHOICE_REQUIRED: "tool_choice",
    Feature.JSON_OBJECT: "response_format",
    Feature.JSON_SCHEMA: "response_format",
    Feature.GUIDED: "structured_outputs",
    Feature.LOGPROBS: "logprobs",
    Feature.MANY_LOGPROBS: "top_logprobs",
    Feature.LOGIT_BIAS: "logit_bias",
    Feature.MANY_STOPS: "stop",
    Feature.IMAGES: "messages",
    Feature.AUDIO: "messages",
    Feature.TOKEN_IDS: "prompt",
    Feature.MANY_PROMPTS: "prompt",
    Feature.SUFFIX: "suffix",
    Feature.ECHO: "echo",
    Feature.BEST_OF: "best_of",
    Feature.PRESENCE_PENALTY: "presence_penalty",
    Feature.PROMPT_LOGPROBS: "prompt_logprobs",
}


def failed(fault: Fault, *, callers_key: bool = False) -> Problem:
    """Answer with the engine's own refusal or failure, where nothing else could be tried.

    `callers_key`: the credentials that the engine refused were the caller's own.
    """
    if callers_key and fault.kind is FaultKind.UNAUTHORIZED:
        return problem(401, fault.message, fault.code or "invalid_api_key")
    status, code, words, should_retry = _FAULTS[fault.kind]
    return Problem(
        status=status,
        type=TYPES[status][0],
        message=words + fault.message,
        code=fault.code or code if fault.kind is FaultKind.INVALID else code,
        param=fault.param,
        retry_after_s=fault.retry_after_s,
        should_retry=should_retry,
    )


_FAULTS: Mapping[FaultKind, tuple[int, str | None, str, bool | None]] = {
    FaultKind.INVALID: (400, None, "", None),
    FaultKind.CONTEXT_TOO_LONG: (400, "context_length_exceeded", "", None),
    FaultKind.NOT_FOUND: (404, "model_not_found", "", None),
    FaultKind.UNAUTHORIZED: (
        502,
        "engine_unauthorized",
        "the engine refused the router's own credentials: ",
        False,
    ),
    FaultKind.UNSUPPORTED: (501, "unsupported", "the engine does not support this: ", False),
    FaultKind.TOO_LARGE: (413, "request_too_large", "", None),
    FaultKind.BUSY: (429, "engine_busy", "the engine is busy: ", True),
    FaultKind.BROKEN: (502, "engine_failed", "the engine failed: ", None),
}
"""Status, code, words before the engine's own, whether to repeat (None: the client's own rules).

An engine that is busy lives and works for others, so it is a 429 whatever status the engine chose.
"""


def engine_lost(detail: str) -> Problem:
    """Answer for an engine whose connection broke, or who did not speak HTTP."""
    return problem(502, f"the engine's answer broke off: {detail}", "engine_lost")


def engine_silent(waited_for: str, limit_s: float) -> Problem:
    """Answer for an engine that was too slow; `waited_for` is a noun, 'the first token'."""
    message = f"the engine did not deliver {waited_for} within {limit_s:g} s"
    return problem(504, message, "engine_timeout")
