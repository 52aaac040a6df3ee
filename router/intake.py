"""Bytes into facts: what one request asks for, read once, or the problem that answers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from engines.engine import Route
from policies.facts import ANYTHING, NO_TARGETS, OnMiss, RequestFacts, SlaClass, Targets, Wish
from router.beginnings import beginnings_of
from router.errors import BadRequest, Problem, bad_json, too_deep, wrong_type
from router.intake_body import Contents, max_tokens_of, read_body
from router.intake_features import needs_of
from router.intake_headers import INTERNAL_HEADERS, Asked, read_headers, urgency_of

__all__ = ["INTERNAL_HEADERS", "Intake", "read_asked", "read_request"]


MAX_DEPTH = 254
"""Levels of nesting that orjson writes; it reads four times as many."""


@dataclass(init=False, slots=True)
class Intake:
    """One request, read; not frozen, because that would double what it costs to make."""

    facts: RequestFacts
    document: dict[str, object]
    """The body, parsed; not to be changed."""
    stream: bool
    wants_receipt: bool
    wants_continuation: bool | None = None
    """A stream that breaks may go on at another endpoint; None leaves it to the policy."""

    def __init__(
        self,
        facts: RequestFacts,
        document: dict[str, object],
        stream: bool,
        wants_receipt: bool,
        wants_continuation: bool | None = None,
    ) -> None:
        self.facts = facts
        self.document = document
        self.stream = stream
        self.wants_receipt = wants_receipt
        self.wants_continuation = wants_continuation

    @property
    def request_id(self) -> str:
        """The caller's own id for the request, or the one that was made for it."""
        return self.facts.id


def read_asked(headers: Sequence[tuple[bytes, bytes]]) -> Asked | Problem:
    """Read what the headers ask for, names in lower case. Never raises."""
    try:
        return read_headers(headers)
    except BadRequest as bad:
        return bad.problem


def read_request(
    route: Route, asked: Asked | Problem, body: bytes, *, new_id: Callable[[], str]
) -> Intake | Problem:
    """Read one request: what its headers asked for, the whole body.

    Never raises, whatever the bytes. `new_id` is called where the caller sent no `X-Request-Id`.
    """
    if isinstance(asked, Problem):
        return asked
    try:
        document = _parse(body)
        contents = read_body(route, document)
    except BadRequest as bad:
        return bad.problem
    prompt = contents.prompt
    facts = RequestFacts(
        id=asked.request_id or new_id(),
        model=contents.model,
        needs=needs_of(route, contents.features),
        streams=contents.stream,
        prompt_bytes=prompt.text_bytes,
        known_prompt_tokens=prompt.token_ids,
        max_tokens=max_tokens_of(route, contents),
        choices=contents.choices,
        wish=_wish(asked, contents),
        tenant=asked.tenant or "",
        session=asked.session,
        beginnings=beginnings_of(body),
    )
    return Intake(facts, document, contents.stream, asked.wants_receipt, asked.wants_continuation)


def _parse(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(bad_json(error)) from error
    if type(document) is not dict:
        raise BadRequest(wrong_type("", "an object", document))
    if _may_be_deep(body):
        _require_writable(document)
    return document


def _may_be_deep(body: bytes) -> bool:
    """Return whether there are brackets enough for more than `MAX_DEPTH` levels.

    `bytes.count` looks at byte after byte; to a long prompt `find` is a hundred times faster.
    """
    left = MAX_DEPTH
    for bracket in (b"[", b"{"):
        at = body.find(bracket)
        while at >= 0:
            left -= 1
            if left < 0:
                return True
            at = body.find(bracket, at + 1)
    return False


def _require_writable(document: dict[str, object]) -> None:
    """Raise `BadRequest` for a body that is nested deeper than it could be written anew."""
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise BadRequest(too_deep(MAX_DEPTH)) from error


def _wish(asked: Asked, contents: Contents) -> Wish:
    """Join headers and body.

    Precedence of the class: `X-SLA-Class`, the body's `service_tier`, headers of other routers.
    Precedence of the urgency: headers, the body's `priority`.
    """
    if contents.tier is None and contents.priority is None:
        wish = asked.wish
        if wish is None:
            wish = asked.wish = _joined(asked, contents)
        return wish
    return _joined(asked, contents)


def _joined(asked: Asked, contents: Contents) -> Wish:
    urgency = asked.urgency
    if urgency is None:
        urgency = ANYTHING.urgency if contents.priority is None else urgency_of(contents.priority)
    return _shared_wish(
        asked.sla_class or contents.tier or asked.class_hint,
        asked.first_token_s,
        asked.per_token_s,
        asked.deadline_s,
        asked.patience_s,
        asked.on_miss,
        asked.may_wait,
        urgency,
    )


@lru_cache(maxsize=4096)
def _shared_wish(  # noqa: PLR0913, PLR0917 - one parameter for each thing that can be wished
    sla_class: SlaClass | None,
    first_token_s: float | None,
    per_token_s: float | None,
    deadline_s: float | None,
    patience_s: float | None,
    on_miss: OnMiss | None,
    may_wait: bool,
    urgency: int,
) -> Wish:
    """Return one object for equal wishes, `ANYTHING` for none: callers wish for the same few."""
    targets = Targets(first_token_s, per_token_s, deadline_s)
    wish = Wish(
        sla_class,
        NO_TARGETS if targets == NO_TARGETS else targets,
        patience_s=patience_s,
        on_miss=on_miss,
        may_wait=may_wait,
        urgency=urgency,
    )
    return ANYTHING if wish == ANYTHING else wish
