"""Changes as little as possible of what a caller sent and of what an engine answered."""

import re
from collections.abc import Mapping

import orjson

from engines.engine import Prepared, Question

UNCHANGED: Mapping[str, object] = {}

_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


def prepare(
    question: Question,
    upstream_model: str | None,
    changes: Mapping[str, object] = UNCHANGED,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Prepared:
    """Return the caller's own bytes, unless the engine's name for the model or `changes` differ.

    Only top-level members are replaced or added. Where the model was renamed, the answer needs the
    public name back.
    """
    is_renamed = upstream_model is not None and question.document.get("model") != upstream_model
    if not is_renamed and not changes:
        return Prepared(question.route, question.body, headers)
    document = {**question.document, **changes}
    if is_renamed:
        document["model"] = upstream_model
    return Prepared(question.route, orjson.dumps(document), headers, repairs=is_renamed)


def with_public_model(answer: bytes, question: Question) -> bytes:
    """Return an answer or an event with the name that the caller knows the model by.

    The bytes around the name stay as they are. The first member called `model` is taken: engines
    nest none before their own, and inside a text the quotes would be escaped.
    """
    match = _MODEL.search(answer)
    if match is None:
        return answer
    return answer[: match.start(1)] + orjson.dumps(question.model) + answer[match.end(1) :]


def probe(path: str, document: Mapping[str, object]) -> Prepared:
    """Return a request of the router's own."""
    return Prepared(path, orjson.dumps(document))
