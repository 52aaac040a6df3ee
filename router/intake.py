"""Bytes into facts: what one request asks for, read once, or the problem that answers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from engines.engine import Route
from policies.facts import ANYTHING, RequestFacts, Targets, Wish
from router.errors import BadRequest, Problem, bad_json, wrong_type
from router.intake_body import Contents, choices_of, max_tokens_of, read_body
from router.intake_features import needs_of
from router.intake_headers import INTERNAL_HEADERS, Asked, read_headers, urgency_of

__all__ = ["INTERNAL_HEADERS", "Intake", "read_request"]


@dataclass(slots=True)
class Intake:
    """One request, read; not frozen, because that would double what it costs to make."""

    facts: RequestFacts
    document: dict[str, object]
    """The body, parsed; not to be changed."""
    stream: bool
    wants_receipt: bool

    @property
    def request_id(self) -> str:
        """The caller's own id for the request, or the one that was made for it."""
        return self.facts.id


def read_request(
    route: Route,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    new_id: Callable[[], str],
) -> Intake | Problem:
    """Read one request: header names in lower case, the whole body.

    Never raises, whatever the bytes. `new_id` is called where the caller sent no `X-Request-Id`.
    """
    try:
        asked = read_headers(headers)
        document = _parse(body)
        contents = read_body(route, document)
    except BadRequest as bad:
        return bad.problem
    prompt = contents.prompt
    facts = RequestFacts(
        id=asked.request_id or new_id(),
        model=contents.model,
        needs=needs_of(route, contents.features),
        prompt_bytes=prompt.text_bytes,
        known_prompt_tokens=prompt.token_ids,
        max_tokens=max_tokens_of(route, contents),
        choices=choices_of(route, contents),
        wish=_wish(asked, contents),
        tenant=asked.tenant or "",
        session=asked.session,
    )
    return Intake(facts, document, contents.stream, asked.wants_receipt)


def _parse(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(bad_json(error)) from error
    if type(document) is not dict:
        raise BadRequest(wrong_type("", "an object", document))
    return document


def _wish(asked: Asked, contents: Contents) -> Wish:
    """Join headers and body; the shared `ANYTHING` where nobody asked for anything.

    Precedence of the class: `X-SLA-Class`, the body's `service_tier`, headers of other routers.
    Precedence of the urgency: headers, the body's `priority`.
    """
    sla_class = asked.sla_class or contents.tier or asked.class_hint
    urgency = asked.urgency
    if urgency is None:
        urgency = 3 if contents.priority is None else urgency_of(contents.priority)
    targets = _targets(asked)
    if (
        sla_class is None
        and targets is ANYTHING.targets
        and asked.read_timeout_s is None
        and asked.on_miss is None
        and asked.may_wait
        and urgency == ANYTHING.urgency
    ):
        return ANYTHING
    return Wish(
        sla_class,
        targets,
        patience_s=asked.read_timeout_s,
        on_miss=asked.on_miss,
        may_wait=asked.may_wait,
        urgency=urgency,
    )


def _targets(asked: Asked) -> Targets:
    if asked.first_token_s is None and asked.per_token_s is None and asked.deadline_s is None:
        return ANYTHING.targets
    return Targets(asked.first_token_s, asked.per_token_s, asked.deadline_s)
