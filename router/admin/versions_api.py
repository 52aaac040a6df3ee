"""What every versioned document offers: its history, a way back, and who changed it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from router import errors
from router.admin.ledger import Author, Ledger
from router.admin.operations import Operation, answer
from router.admin.pointers import Difference
from router.admin.revisions import Revision

DIFFERENCE: Final[Mapping[str, Any]] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["pointer", "before", "after"],
        "properties": {"pointer": {"type": "string"}, "before": {}, "after": {}},
    },
}
CHANGE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["version", "etag", "difference"],
    "properties": {
        "version": {"type": "integer"},
        "etag": {"type": "string"},
        "difference": DIFFERENCE,
    },
}
HISTORY: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["present", "versions"],
    "properties": {
        "present": {"type": "integer"},
        "versions": {"type": "array", "items": {"type": "object"}},
    },
}
OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
MOST_CHARACTERS: Final = 512
"""Of a name or a reason that is kept."""


def author_of(request: Request) -> Author:
    """Return who asks, as the caller says, and from where."""
    return Author(
        who=_text(request, "x-change-by") or "unnamed",
        origin=request.client.host if request.client else "unknown",
        reason=_text(request, "x-change-reason"),
    )


def _text(request: Request, name: str) -> str:
    """Return a header that may hold UTF-8."""
    raw = request.headers.get(name, "").encode("latin-1")
    return raw.decode("utf-8", "replace")[:MOST_CHARACTERS]


def if_match(request: Request) -> str | None:
    """Return the version that a change was made for; None: any."""
    return request.headers.get("if-match")


def required_if_match(request: Request) -> str:
    """Return the same where it must be said; raises `BadRequest` where it is not."""
    tag = if_match(request)
    if tag is None:
        message = (
            "header If-Match is missing: send the ETag of the version that the change was made"
            " for, or * to change whatever there is"
        )
        raise errors.BadRequest(errors.problem(428, message, "if_match_required", "if-match"))
    return tag


def changed(ledger: Ledger[Any], revision: Revision, **more: object) -> Response:
    """Return what a change came to."""
    document = {
        "version": revision.version,
        "etag": ledger.etag,
        "difference": shown(ledger.difference_of(revision)),
        **more,
    }
    return answer(document, headers={"etag": ledger.etag})


def shown(differences: list[Difference]) -> list[dict[str, Any]]:
    """Return differences as plain values."""
    return [asdict(each) for each in differences]


def moment(at_s: float) -> str:
    """Return a time since 1970 as people and programs write it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


class VersionsApi:
    """History and rollback of one document."""

    def __init__(self, ledger: Ledger[Any], path: str, what: str) -> None:
        self._ledger = ledger
        self._path = path
        self._what = what

    def operations(self) -> list[Operation]:
        """Return what can be asked."""
        path, what = self._path, self._what
        return [
            Operation(
                "GET",
                f"{path}/history",
                f"Every kept version of {what}, newest first: who, when, from where, why, what",
                self.history,
                HISTORY,
            ),
            Operation(
                "GET",
                f"{path}/history/{{version:int}}",
                f"One version of {what}, whole",
                self.version,
                OBJECT,
            ),
            Operation(
                "POST",
                f"{path}/rollback/{{version:int}}",
                f"Make a kept version of {what} the present one again; 0 is the file's",
                self.roll_back,
                CHANGE,
                if_match="optional",
                refusals=frozenset({422}),
            ),
        ]

    async def history(self, _: Request) -> Response:
        """Tell of every version."""
        ledger = self._ledger
        versions = [
            {
                "version": each.version,
                "at": moment(each.at_s),
                "who": each.who,
                "origin": each.origin,
                "reason": each.reason,
                "action": each.action,
                "difference": shown(ledger.difference_of(each)),
            }
            for each in reversed(ledger.history)
        ]
        first = {"version": 0, "at": None, "who": "configuration file", "origin": "", "reason": ""}
        versions.append({**first, "action": "start", "difference": []})
        document = {"present": ledger.version, "versions": versions}
        return answer(document, headers={"etag": ledger.etag})

    async def version(self, request: Request) -> Response:
        """Show one version."""
        return answer(self._ledger.document_of(request.path_params["version"]))

    async def roll_back(self, request: Request) -> Response:
        """Go back."""
        version = request.path_params["version"]
        revision = await self._ledger.roll_back(
            version, author_of(request), if_match=if_match(request)
        )
        return changed(self._ledger, revision)
