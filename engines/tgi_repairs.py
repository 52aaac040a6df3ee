"""Makes TGI's answers what OpenAI's clients expect: ids, the model's name, finish reasons.

Source: TGI's router/src/lib.rs (`ChatCompletionChunk`, `Chunk`, `FinishReason`), server.rs.
"""

from collections.abc import Mapping

import orjson

from engines.engine import Question, Route
from engines.fields import as_list, as_object, parsed

_FINISH: Mapping[object, str | None] = {
    "": None,
    "eos_token": "stop",
    "stop_sequence": "stop",
}

_ID_PREFIX: Mapping[Route, str] = {Route.CHAT: "chatcmpl-", Route.COMPLETIONS: "cmpl-"}


def repaired(answer: bytes, question: Question) -> bytes:
    """Return a whole answer or one event's data, repaired; unchanged where it is not an answer."""
    document = parsed(answer)
    if not isinstance(document, dict) or "choices" not in document:
        return answer
    document["model"] = question.model
    if not document.get("id"):
        document["id"] = _ID_PREFIX.get(question.route, "") + (question.id or "0")
    for choice in as_list(document["choices"]):
        if isinstance(choice, dict):
            _repair_choice(choice)
    return orjson.dumps(document)


def _repair_choice(choice: dict[str, object]) -> None:
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason in _FINISH:
        choice["finish_reason"] = _FINISH[reason]
    called = as_object(choice.get("message")).get("tool_calls")
    if called and choice.get("finish_reason") == "stop":
        choice["finish_reason"] = "tool_calls"
