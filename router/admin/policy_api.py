"""The policy: looked at, changed, judged beforehand, tried on what was recorded."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from policies.facts import EndpointPlan
from policies.policy import Policy
from router import errors
from router.admin import dry_run
from router.admin.dry_run import Broken, DryRuns, GivenRequest
from router.admin.ledger import Ledger
from router.admin.operations import Operation, answer, json_table
from router.admin.pointers import differences, patched
from router.admin.policy_document import flaws_of, policy_schema, read_policy, write_policy
from router.admin.recent import Recent
from router.admin.replaying import Job, Replayed
from router.admin.versions_api import (
    CHANGE,
    DIFFERENCE,
    OBJECT,
    author_of,
    changed,
    required_if_match,
    shown,
)
from router.document import ConfigError
from router.settings import Pool

_POLICY: Final = {"$ref": "#/components/schemas/Policy"}
_DRY_RUN: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "policy": {"type": "object", "description": "The whole proposed policy"},
        "patch": {"type": "object", "description": "Or a merge patch to the present one"},
        "last": {
            "type": "integer",
            "minimum": 1,
            "description": "How many of the recorded requests, the latest; all by default",
        },
        "model": {"type": "string", "description": "The model of given requests"},
        "requests": {
            "type": "array",
            "description": "Or a trace, instead of recorded requests",
            "items": {"type": "object"},
        },
    },
}
_VERDICT: Final = {
    "type": "object",
    "required": ["valid", "errors", "difference"],
    "properties": {
        "valid": {"type": "boolean"},
        "errors": {"type": "array", "items": {"type": "object"}},
        "difference": DIFFERENCE,
    },
}
_GIVEN: Final = TypeAdapter(list[GivenRequest])
MOST_GIVEN: Final = 200_000


class PolicyApi:
    """Operations on the policy."""

    def __init__(
        self,
        ledger: Ledger[Policy],
        recent: Recent,
        fleet: Callable[[], tuple[Sequence[Pool], dict[str, EndpointPlan]]],
    ) -> None:
        self._ledger = ledger
        self._recent = recent
        self._fleet = fleet
        self._dry_runs = DryRuns()

    async def close(self) -> None:
        """Let go of what dry runs keep."""
        await self._dry_runs.close()

    def operations(self) -> list[Operation]:
        """Return what can be asked."""
        wrong = frozenset({422})
        return [
            Operation("GET", "/policy", "The whole policy", self.get, _POLICY),
            Operation(
                "PUT",
                "/policy",
                "Replace the policy; what is left out is the default",
                self.put,
                CHANGE,
                body=OBJECT,
                if_match="required",
                refusals=wrong,
            ),
            Operation(
                "PATCH",
                "/policy",
                'Change parts of it by a merge patch; "none" where a field may have no value',
                self.patch,
                CHANGE,
                body=OBJECT,
                if_match="required",
                refusals=wrong,
            ),
            Operation(
                "GET",
                "/policy/schema",
                "JSON schema: every field with its default, bounds and meaning",
                self.schema,
                OBJECT,
            ),
            Operation(
                "POST",
                "/policy/validate",
                "Say all that is wrong with a policy, and what it would change",
                self.validate,
                _VERDICT,
                body=OBJECT,
            ),
            Operation(
                "POST",
                "/policy/dry-run",
                "Replay requests under the present and a proposed policy, in virtual time",
                self.dry_run,
                OBJECT,
                body=_DRY_RUN,
                refusals=frozenset({409, 422, 503}),
            ),
        ]

    async def get(self, _: Request) -> Response:
        """Show it."""
        return answer(self._ledger.document, headers={"etag": self._ledger.etag})

    async def schema(self, _: Request) -> Response:
        """Explain it."""
        return answer(policy_schema())

    async def put(self, request: Request) -> Response:
        """Replace it."""
        tag = required_if_match(request)
        document = await json_table(request)
        revision = await self._ledger.change(
            lambda _: self._checked(document), author_of(request), "put", if_match=tag
        )
        return changed(self._ledger, revision, policy=self._ledger.document)

    async def patch(self, request: Request) -> Response:
        """Change it."""
        tag = required_if_match(request)
        patch = await json_table(request)
        revision = await self._ledger.change(
            lambda document: self._checked(patched(document, patch)),
            author_of(request),
            "patch",
            if_match=tag,
        )
        return changed(self._ledger, revision, policy=self._ledger.document)

    async def validate(self, request: Request) -> Response:
        """Judge one."""
        document = await json_table(request)
        try:
            proposed = write_policy(self._read(document))
        except ConfigError as error:
            return answer({"valid": False, "errors": flaws_of(error), "difference": []})
        difference = shown(differences(self._ledger.document, proposed))
        return answer({"valid": True, "errors": [], "difference": difference})

    async def dry_run(self, request: Request) -> Response:
        """Try one."""
        asked = await json_table(request)
        unknown = asked.keys() - _DRY_RUN["properties"].keys()  # type: ignore[attr-defined] # a table
        if unknown:
            known = ", ".join(_DRY_RUN["properties"])  # type: ignore[arg-type] # a table
            raise errors.BadRequest(errors.wrong_value(min(unknown), "key", f"known: {known}"))
        proposed = self._proposed(asked)
        pools, plans = self._fleet()
        members, notes = dry_run.members(pools, plans)
        requests = self._requests(asked)
        present = self._ledger.value
        job = Job(members, (("present", present), ("proposed", proposed)))
        try:
            found = await self._dry_runs.run(requests, job)
        except Broken:
            message = "the process that replays ended; see the router's standard error"
            raise errors.BadRequest(errors.problem(503, message, "dry_run_broken")) from None
        except TimeoutError:
            message = f"no result within {dry_run.TIMEOUT_S:g} s; ask for fewer with 'last'"
            raise errors.BadRequest(errors.problem(503, message, "dry_run_timeout")) from None
        before, after = write_policy(present), write_policy(proposed)
        return answer({**found, "notes": notes, "difference": shown(differences(before, after))})

    def _proposed(self, asked: dict[str, Any]) -> Policy:
        if "policy" in asked and "patch" in asked:
            message = "give either 'policy' or 'patch', not both"
            raise errors.BadRequest(errors.problem(400, message, "invalid_value", "patch"))
        if "policy" in asked:
            return self._read(asked["policy"])
        patch = asked.get("patch", {})
        if not isinstance(patch, dict):
            raise errors.BadRequest(errors.wrong_type("patch", "an object", patch))
        return self._read(patched(self._ledger.document, patch))

    def _checked(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a document that names nothing that is not there; raises `ConfigError`."""
        self._read(document)
        return document

    def _read(self, document: Any) -> Policy:
        pools, _ = self._fleet()
        return read_policy(document, pools)

    def _requests(self, asked: dict[str, Any]) -> Iterator[Replayed]:
        if "requests" in asked:
            return self._given(asked)
        last = asked.get("last", 1 << 30)
        if not isinstance(last, int) or isinstance(last, bool) or last < 1:
            raise errors.BadRequest(errors.wrong_value("last", last, "a whole number from 1"))
        seen = self._recent.latest(last)
        if all(each.status == dry_run.MALFORMED for each in seen):
            message = "no request was recorded yet; send some, or give 'requests'"
            raise errors.BadRequest(errors.problem(409, message, "nothing_recorded"))
        return dry_run.recorded(seen)

    def _given(self, asked: dict[str, Any]) -> Iterator[Replayed]:
        try:
            rows = _GIVEN.validate_python(asked["requests"])
        except ValidationError as error:
            first = error.errors()[0]
            where = "/".join(map(str, ("requests", *first["loc"])))
            raise errors.BadRequest(
                errors.wrong_value(where, first["input"], first["msg"].lower())
            ) from None
        if not 1 <= len(rows) <= MOST_GIVEN:
            right = f"between 1 and {MOST_GIVEN} of them"
            raise errors.BadRequest(errors.wrong_value("requests", len(rows), right))
        pools, _ = self._fleet()
        model = asked.get("model", pools[0].models[0])
        known = {name for pool in pools for name in pool.models}
        if model not in known:
            raise errors.BadRequest(errors.wrong_value("model", model, f"one of {sorted(known)}"))
        return dry_run.given(rows, model, self._ledger.value)
