"""Keys: made, looked at, changed, given another secret, revoked. A secret is shown once, when made."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from policies.keys import Key
from router import errors
from router.access.office import Office
from router.admin.key_document import key_schema, read_key, state_of, write_key
from router.admin.operations import Operation, Query, answer, json_table
from router.admin.versions_api import OBJECT, moment
from router.document import merged

_KEY: Final = "/keys/{id}"
_FRESH: Final = Key(id="", tenant="")
_MADE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["id", "key"],
    "properties": {"id": {"type": "string"}, "key": {"type": "string"}},
}
_OVERLAP: Final = Query(
    "overlap_s",
    {"type": "number", "minimum": 0, "maximum": 604_800},
    "How long the secret before opens still, s; 0 by default",
)
MOST_OVERLAP_S: Final = 604_800.0
_CHANGES: Final = frozenset({409, 422, 503})


class KeysApi:
    """Operations on keys."""

    def __init__(self, office: Office, wall_clock: Callable[[], float]) -> None:
        self._office = office
        self._wall_clock = wall_clock

    def operations(self) -> list[Operation]:
        """Return what can be asked."""
        kept = frozenset({503})
        return [
            Operation("GET", "/keys", "Every key, without its secret, the oldest first", self.list,
                      {"type": "array", "items": {"type": "object"}}, refusals=kept),
            Operation("POST", "/keys", "Make a key; its secret is in the answer and nowhere else",
                      self.issue, _MADE, status=201, body=key_schema(), refusals=_CHANGES),
            Operation("GET", _KEY, "One key, without its secret", self.show, OBJECT,
                      refusals=kept),
            Operation("PATCH", _KEY, "Change what a key is good for by a merge patch",
                      self.change, OBJECT, body=OBJECT, refusals=_CHANGES),
            Operation("DELETE", _KEY, "Revoke a key, for good, on every replica within a second",
                      self.revoke, OBJECT, refusals=kept),
            Operation("POST", _KEY + "/rotate", "Give a key another secret, shown this once",
                      self.rotate, _MADE, query=[_OVERLAP], refusals=frozenset({400, 409, 503})),
        ]  # fmt: skip

    async def list(self, _: Request) -> Response:
        """List keys."""
        return answer([self._shown(each) for each in await self._office.all()])

    async def issue(self, request: Request) -> Response:
        """Make a key."""
        key, text = await self._office.issue(read_key(await json_table(request), _FRESH))
        return answer({**self._shown(key), "key": text}, status=201)

    async def show(self, request: Request) -> Response:
        """Show a key."""
        return answer(self._shown(await self._office.find(request.path_params["id"])))

    async def change(self, request: Request) -> Response:
        """Change a key."""
        patch = await json_table(request)
        key = await self._office.find(request.path_params["id"])
        if key.revoked_at_s is not None:
            raise errors.BadRequest(_is_revoked(key))
        changed = read_key(merged(write_key(key), patch), key)
        return answer(self._shown(await self._office.change(changed)))

    async def revoke(self, request: Request) -> Response:
        """Revoke a key."""
        return answer(self._shown(await self._office.revoke(request.path_params["id"])))

    async def rotate(self, request: Request) -> Response:
        """Give a key another secret."""
        key = await self._office.find(request.path_params["id"])
        if key.revoked_at_s is not None:
            raise errors.BadRequest(_is_revoked(key))
        key, text = await self._office.rotate(key.id, _overlap_s(request))
        return answer({**self._shown(key), "key": text})

    def _shown(self, key: Key) -> dict[str, Any]:
        def when(at_s: float | None) -> str | None:
            return None if at_s is None else moment(at_s)

        return {
            "id": key.id,
            "state": state_of(key, self._wall_clock()),
            **write_key(key),
            "created_at": when(key.created_at_s),
            "expires_at": when(key.expires_at_s),
            "revoked_at": when(key.revoked_at_s),
        }


def _is_revoked(key: Key) -> errors.Problem:
    message = f"key {key.id!r} was revoked, and that is for good; make another"
    return errors.problem(409, message, "conflict")


def _overlap_s(request: Request) -> float:
    text = request.query_params.get("overlap_s", "0")
    try:
        overlap_s = float(text)
    except ValueError:
        overlap_s = -1.0
    if not 0.0 <= overlap_s <= MOST_OVERLAP_S:
        right = f"a number of seconds from 0 to {MOST_OVERLAP_S:g}"
        raise errors.BadRequest(errors.wrong_value("overlap_s", text, right))
    return overlap_s
