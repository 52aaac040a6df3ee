"""What goes on: status, requests, events, promises kept; and what would happen to a request."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from engines.engine import Route
from policies.explaining import Explanation, Goes, Waits
from policies.facts import Refuse, SlaClass
from router import errors
from router.admin.fleet_document import NoSuch
from router.admin.live import Live, endpoint_row
from router.admin.operations import Operation, Query, answer, json_table
from router.admin.recent import Recent, row, story, under_way
from router.admin.versions_api import OBJECT
from router.door import Door
from router.intake import read_asked, read_request

_EXPLAIN: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["body"],
    "properties": {
        "route": {"type": "string", "enum": [*Route], "description": "/v1/chat/completions"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {"type": "object", "description": "The request's body"},
    },
}
_ROWS: Final = {
    "type": "object",
    "required": ["in_flight", "recent"],
    "properties": {
        "in_flight": {"type": "array", "items": {"type": "object"}},
        "recent": {"type": "array", "items": {"type": "object"}},
    },
}
MOST_ROWS: Final = 1000


class TrafficApi:
    """Operations on requests."""

    def __init__(self, door: Door, recent: Recent, live: Live) -> None:
        self._door = door
        self._recent = recent
        self._live = live

    def operations(self) -> list[Operation]:
        """Return what can be asked."""
        limit = Query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 100},
            "How many recent ones",
        )
        endpoint = Query("endpoint", {"type": "string"}, "Only those sent there")
        of_class = Query("class", {"type": "string", "enum": [*SlaClass]}, "Only this class")
        missed = Query("missed", {"type": "boolean"}, "Only those that missed their targets")
        bad = frozenset({400})
        return [
            Operation("POST", "/explain", "The decision that a request would get, step by step",
                      self.explain, OBJECT, body=_EXPLAIN, refusals=bad),
            Operation("GET", "/status", "How everything stands", self.status, OBJECT),
            Operation("GET", "/requests", "Requests under way, and those that ended lately",
                      self.requests, _ROWS, query=(limit, of_class, endpoint, missed),
                      refusals=bad),
            Operation("GET", "/requests/{id}", "One request, and what its time went into",
                      self.request, OBJECT),
            Operation("DELETE", "/requests/{id}", "End a request that is under way",
                      self.cancel, OBJECT),
            Operation("GET", "/events", "A snapshot a second, as server-sent events",
                      self.events, {"type": "string"}, media="text/event-stream",
                      refusals=frozenset({503})),
            Operation("GET", "/slo", "Attainment, goodput and burn rate by class and tenant",
                      self.slo, OBJECT),
        ]  # fmt: skip

    async def status(self, _: Request) -> Response:
        """Show how things stand."""
        self._live.count()
        return answer(self._live.snapshot())

    async def slo(self, _: Request) -> Response:
        """Show which promises are kept."""
        self._live.count()
        return answer(self._live.slo.report(self._door.clock()))

    async def events(self, request: Request) -> Response:
        """Stream what goes on."""
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        watching = self._live.watch()
        first = await anext(watching)

        async def stream() -> Any:
            yield first
            async for event in watching:
                yield event

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def requests(self, request: Request) -> Response:
        """List requests."""
        asked = request.query_params
        limit = _whole(asked.get("limit", "100"))
        wanted = _filter(asked)
        now = self._door.clock()
        recent = (row(each) for each in self._recent.latest(self._recent.count))
        chosen = [each for each in recent if wanted(each)][:limit]
        under = [each for each in under_way(self._door.active, now) if wanted(each)]
        return answer({"in_flight": under, "recent": chosen})

    async def request(self, request: Request) -> Response:
        """Tell of one request."""
        id_ = request.path_params["id"]
        now = self._door.clock()
        for each in under_way(self._door.active, now):
            if each["request_id"] == id_:
                return answer({**each, "story": [f"under way: {each['state']}"]})
        seen = self._recent.find(id_)
        if seen is None:
            raise NoSuch(f"no request {id_!r} is under way or among the last {self._recent.count}")
        return answer({**row(seen), "story": story(seen)})

    async def cancel(self, request: Request) -> Response:
        """End one request."""
        id_ = request.path_params["id"]
        for exchange in tuple(self._door.active):
            if exchange.intake.request_id == id_:
                exchange.stop(errors.problem(503, "an operator ended this request", "cancelled"))
                self._door.pump(self._door.clock())
                return answer({"request_id": id_, "cancelled": True})
        raise NoSuch(f"no request {id_!r} is under way")

    async def explain(self, request: Request) -> Response:
        """Foretell a decision."""
        asked = await json_table(request)
        route, headers, body = _question(asked)
        intake = read_request(route, read_asked(headers), body, new_id=lambda: "explained")
        if isinstance(intake, errors.Problem):
            raise errors.BadRequest(intake)
        door = self._door
        now = door.clock()
        explanation = door.dispatcher.explain(intake.facts, now)
        shown = explained(explanation, now)
        door.pump(now)
        return answer(shown)


def explained(explanation: Explanation, now: float) -> dict[str, Any]:
    """Return an explanation as plain values and sentences."""
    ask = explanation.ask
    asked: dict[str, Any] = {}
    if ask is not None:
        asked = {
            "class": ask.sla_class,
            "class_why": ask.why,
            "variant": ask.part.name if ask.part else None,
            "targets": {
                "first_token_s": ask.targets.first_token_s,
                "per_token_s": ask.targets.per_token_s,
                "deadline_s": ask.targets.deadline_s,
            },
            "on_miss": ask.on_miss,
            "prompt_tokens": ask.prompt_tokens,
            "prompt_samples": ask.prompt_samples,
            "output_p50_tokens": ask.output_p50_tokens,
            "output_p90_tokens": ask.output_p90_tokens,
            "output_samples": ask.output_samples,
            "fits_predictable": ask.fits_predictable,
            "may_wait_s": ask.wait_until - now,
        }
    return {
        "decision": _decision(explanation.decision),
        "asked": asked,
        "candidates": [
            {
                "tier": each.tier,
                "verdict": each.verdict,
                "predicted_first_token_s": each.first_token_s,
                "predicted_per_token_s": each.per_token_s,
                **endpoint_row(each.endpoint, now),
            }
            for each in explanation.candidates
        ],
    }


def _decision(decision: Goes | Waits | Refuse) -> dict[str, Any]:
    match decision:
        case Goes():
            return {
                "action": "send",
                "endpoint": decision.endpoint_id,
                "reason": decision.reason,
                "text": f"sent at once to {decision.endpoint_id!r} ({decision.reason})",
            }
        case Waits():
            text = f"waits behind {decision.ahead} others, for {decision.until_s:.3g} s at most"
            return {"action": "wait", "ahead": decision.ahead, "text": text}
        case Refuse():
            return {
                "action": "refuse",
                "reason": decision.reason,
                "retry_after_s": decision.retry_after_s,
                "text": decision.detail,
            }


def _question(asked: dict[str, Any]) -> tuple[Route, list[tuple[bytes, bytes]], bytes]:
    """Return the route, headers and body that a question is about; raises `BadRequest`."""
    unknown = asked.keys() - {"route", "headers", "body"}
    if unknown:
        raise errors.BadRequest(
            errors.wrong_value(min(unknown), "key", "known: route, headers, body")
        )
    name = asked.get("route", Route.CHAT)
    if name not in [*Route]:
        raise errors.BadRequest(errors.wrong_value("route", name, f"one of {', '.join(Route)}"))
    headers = asked.get("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise errors.BadRequest(errors.wrong_type("headers", "an object of strings", headers))
    if "body" not in asked:
        raise errors.BadRequest(errors.missing_field("body"))
    lines = [
        (key.lower().encode("utf-8", "replace"), value.encode("utf-8", "replace"))
        for key, value in headers.items()
    ]
    return Route(name), lines, orjson.dumps(asked["body"])


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST_ROWS:
        right = f"a whole number from 1 to {MOST_ROWS}"
        raise errors.BadRequest(errors.wrong_value("limit", text, right))
    return int(text)


def _filter(asked: Mapping[str, str]) -> Callable[[dict[str, Any]], bool]:
    of_class, endpoint, missed = asked.get("class"), asked.get("endpoint"), asked.get("missed")
    if of_class is not None and of_class not in [*SlaClass]:
        right = f"one of {', '.join(SlaClass)}"
        raise errors.BadRequest(errors.wrong_value("class", of_class, right))
    if missed not in (None, "true", "false"):
        raise errors.BadRequest(errors.wrong_value("missed", missed, "true or false"))

    def wanted(each: dict[str, Any]) -> bool:
        return (
            of_class in (None, each["class"])
            and endpoint in (None, each["endpoint"])
            and (missed != "true" or each.get("met") is False)
        )

    return wanted
