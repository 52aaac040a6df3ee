"""Operations of the interface: one table, from which routes and the OpenAPI document are both made.

Whoever comes without the token is answered 401 before anything else is looked at.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from router import errors
from router.access.office import NoSuchKey
from router.access.store import KeysNotKept, Overtaken
from router.admin.fleet_document import NoSuch, Refused
from router.admin.ledger import Stale, UnknownVersion
from router.admin.live import TooManyWatch
from router.admin.policy_document import flaws_of
from router.admin.revisions import NotStored
from router.document import ConfigError

PREFIX: Final = "/admin/v1"
Handler = Callable[[Request], Awaitable[Response]]
CHANGING: Final = frozenset({"PUT", "PATCH", "POST", "DELETE"})


@dataclass(frozen=True, slots=True)
class Query:
    """One thing that may be asked in the URL."""

    name: str
    schema: Mapping[str, Any]
    about: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """Below the prefix."""
    summary: str
    handle: Handler
    answer: Mapping[str, Any]
    """Schema of what it answers when all is well."""
    status: int = 200
    body: Mapping[str, Any] | None = None
    """Schema of what it takes; None: nothing."""
    query: Sequence[Query] = ()
    if_match: str = ""
    """"required" or "optional": what it changes has versions."""
    refusals: frozenset[int] = frozenset()
    """Statuses that it may answer besides those that any may."""
    media: str = "application/json"


@dataclass(frozen=True, slots=True)
class Token:
    """What proves that somebody may do all this; compared in constant time."""

    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, text: str) -> "Token":
        """Remember a token by its digest."""
        return cls(sha256(text.encode()).digest())

    def opens(self, authorization: str) -> bool:
        """Tell whether an `Authorization` header holds it."""
        scheme, _, given = authorization.partition(" ")
        digest = sha256(given.strip().encode("utf-8", "replace")).digest()
        return hmac.compare_digest(digest, self.digest) and scheme.lower() == "bearer"


class _Path:
    """All operations of one path, behind the token."""

    def __init__(
        self,
        operations: Mapping[str, Operation],
        token: Token,
        audit: Callable[[Request, int], None],
    ) -> None:
        self._operations = operations
        self._token = token
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request = Request(scope, receive)
        answer = await self._answer(request)
        if request.method in CHANGING:
            self._audit(request, answer.status_code)
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if not self._token.opens(request.headers.get("authorization", "")):
            return _unauthorized(request)
        method = "GET" if request.method == "HEAD" else request.method
        operation = self._operations.get(method)
        if operation is None:
            problem = errors.wrong_method(request.method, request.url.path, [*self._operations])
            answer = refusal(problem)
            answer.headers["allow"] = ", ".join(self._operations)
            return answer
        unknown = set(request.query_params) - {each.name for each in operation.query}
        if unknown:
            right = ", ".join(each.name for each in operation.query) or "none"
            return refusal(errors.wrong_value("query", min(unknown), f"known: {right}"))
        try:
            return await operation.handle(request)
        except Exception as error:
            answered = _translated(error)
            if answered is None:
                raise
            return answered


def routes(
    operations: Iterable[Operation], token: Token, audit: Callable[[Request, int], None]
) -> list[BaseRoute]:
    """Return what answers the operations; longer paths first, so that none hides another."""
    by_path: dict[str, dict[str, Operation]] = {}
    for each in operations:
        by_path.setdefault(each.path, {})[each.method] = each
    found: list[BaseRoute] = []
    for path, methods in by_path.items():
        app: ASGIApp = _Path(methods, token, audit)
        found.append(Route(PREFIX + path, app))
    return found


async def json_body(request: Request) -> Any:
    """Return a request's body, parsed; raises `BadRequest`."""
    try:
        return orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise errors.BadRequest(errors.bad_json(error)) from error


async def json_table(request: Request) -> dict[str, Any]:
    """Return a request's body, which must be an object; raises `BadRequest`."""
    document = await json_body(request)
    if not isinstance(document, dict):
        raise errors.BadRequest(errors.wrong_type("", "an object", document))
    return document


def answer(
    document: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON answer that no cache keeps."""
    kept = {"cache-control": "no-store", **(headers or {})}
    body = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status, kept, media_type="application/json")


def refusal(problem: errors.Problem, flaws: Sequence[Mapping[str, str]] = ()) -> Response:
    """Return an error in the shape of all errors; `flaws` are told with their JSON pointers."""
    document = orjson.loads(errors.body(problem))
    if flaws:
        document["error"]["errors"] = flaws
    response = answer(document, status=problem.status)
    if problem.retry_after_s is not None:
        response.headers["retry-after"] = f"{problem.retry_after_s:.0f}"
    return response


def _unauthorized(request: Request) -> Response:
    given = "the token is wrong" if "authorization" in request.headers else "no token was sent"
    message = f"{given}; send 'Authorization: Bearer TOKEN', with the token of [admin]"
    response = refusal(errors.problem(401, message, "invalid_admin_token"))
    response.headers["www-authenticate"] = 'Bearer realm="headway admin"'
    return response


_MEANT: Final[Mapping[type[Exception], tuple[int, str]]] = {
    NoSuch: (404, "not_found"),
    UnknownVersion: (404, "not_found"),
    Refused: (409, "conflict"),
    Stale: (412, "version_mismatch"),
    NotStored: (503, "not_stored"),
    NoSuchKey: (404, "not_found"),
    Overtaken: (409, "conflict"),
    KeysNotKept: (503, "not_stored"),
    TooManyWatch: (503, "too_many_watchers"),
}


def _translated(error: Exception) -> Response | None:
    """Return the answer that an exception means; None for one that is a fault of the router."""
    if isinstance(error, errors.BadRequest):
        return refusal(error.problem)
    if isinstance(error, ConfigError):
        flaws = flaws_of(error)
        message = "; ".join(f"{each['pointer'] or '/'}: {each['message']}" for each in flaws)
        return refusal(errors.problem(422, message, "invalid_document"), flaws)
    if type(error) not in _MEANT:
        return None
    status, code = _MEANT[type(error)]
    return refusal(errors.problem(status, str(error), code))
