"""Pools and endpoints at run time: added, changed, taken out, drained, probed."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from policies.fleet import EndpointState
from router.admin import fleet_document as fleet
from router.admin.fleet_document import FleetPlan
from router.admin.ledger import Ledger
from router.admin.live import endpoint_row
from router.admin.operations import Operation, answer, json_table
from router.admin.versions_api import CHANGE, OBJECT, author_of, changed, if_match

_LIST: Final = {"type": "array", "items": {"type": "object"}}
Edit = Callable[[dict[str, Any]], dict[str, Any]]
_POOL: Final = "/pools/{name}"
_ENDPOINTS: Final = "/pools/{name}/endpoints"
_ENDPOINT: Final = "/pools/{name}/endpoints/{id}"


class FleetApi:
    """Operations on the fleet."""

    def __init__(
        self,
        ledger: Ledger[FleetPlan],
        states: Callable[[], Mapping[str, EndpointState]],
        probe: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._states = states
        self._probe = probe
        self._clock = clock

    def operations(self) -> list[Operation]:
        """Return what can be asked."""
        return [
            Operation("GET", "/pools", "Every pool, with its endpoints and their state",
                      self.pools, _LIST),
            _change("POST", "/pools", "Add a pool with its endpoints", self.add_pool, takes=True),
            Operation("GET", _POOL, "One pool", self.pool, OBJECT),
            _change("PATCH", _POOL, "Change a pool by a merge patch", self.patch_pool, takes=True),
            _change("DELETE", _POOL, "Take a pool out; what runs there ends in peace",
                    self.delete_pool),
            Operation("GET", _ENDPOINTS, "The endpoints of a pool", self.endpoints, _LIST),
            _change("POST", _ENDPOINTS, "Add an endpoint: id, engine, url", self.add_endpoint,
                    takes=True),
            Operation("GET", _ENDPOINT, "One endpoint, with its state and why", self.endpoint,
                      OBJECT),
            _change("PATCH", _ENDPOINT, "Change weight, labels, slots and such by a merge patch",
                    self.patch_endpoint, takes=True),
            _change("DELETE", _ENDPOINT, "Take an endpoint out; what runs there ends in peace",
                    self.delete_endpoint),
            _change("POST", _ENDPOINT + "/drain", "Send it nothing more; what runs there goes on",
                    self.drain),
            _change("POST", _ENDPOINT + "/undrain", "Send it requests again", self.undrain),
            Operation("POST", _ENDPOINT + "/probe", "Ask at once how it is, and what it is",
                      self.probe, OBJECT),
        ]  # fmt: skip

    # looking

    async def pools(self, _: Request) -> Response:
        """List pools."""
        pools = [self._shown_pool(each) for each in self._ledger.document["pools"]]
        return answer(pools, headers={"etag": self._ledger.etag})

    async def pool(self, request: Request) -> Response:
        """Show a pool."""
        found = fleet.pool_of(self._ledger.document, request.path_params["name"])
        return answer(self._shown_pool(found), headers={"etag": self._ledger.etag})

    async def endpoints(self, request: Request) -> Response:
        """List a pool's endpoints."""
        found = fleet.pool_of(self._ledger.document, request.path_params["name"])
        endpoints = [self._shown(each) for each in found["endpoints"]]
        return answer(endpoints, headers={"etag": self._ledger.etag})

    async def endpoint(self, request: Request) -> Response:
        """Show an endpoint."""
        pool, id_ = _place(request)
        found = fleet.endpoint_of(self._ledger.document, pool, id_)
        return answer(self._shown(found), headers={"etag": self._ledger.etag})

    def _shown_pool(self, pool: dict[str, Any]) -> dict[str, Any]:
        return {**pool, "endpoints": [self._shown(each) for each in pool["endpoints"]]}

    def _shown(self, endpoint: dict[str, Any]) -> dict[str, Any]:
        state = self._states().get(endpoint["id"])
        return {**endpoint, "now": endpoint_row(state, self._clock()) if state else None}

    # changing

    async def add_pool(self, request: Request) -> Response:
        """Add a pool."""
        pool = await json_table(request)
        return await self._changed(
            request, lambda document: fleet.with_pool(document, pool), "pool added"
        )

    async def patch_pool(self, request: Request) -> Response:
        """Change a pool."""
        patch, name = await json_table(request), request.path_params["name"]
        return await self._changed(
            request,
            lambda document: fleet.with_pool_changed(document, name, patch),
            f"pool {name} changed",
        )

    async def delete_pool(self, request: Request) -> Response:
        """Take a pool out."""
        name = request.path_params["name"]
        return await self._changed(
            request, lambda document: fleet.without_pool(document, name), f"pool {name} deleted"
        )

    async def add_endpoint(self, request: Request) -> Response:
        """Add an endpoint."""
        endpoint, name = await json_table(request), request.path_params["name"]
        return await self._changed(
            request,
            lambda document: fleet.with_endpoint(document, name, endpoint),
            f"endpoint {endpoint.get('id')} added",
        )

    async def patch_endpoint(self, request: Request) -> Response:
        """Change an endpoint."""
        patch = await json_table(request)
        pool, id_ = _place(request)
        return await self._changed(
            request,
            lambda document: fleet.with_endpoint_changed(document, pool, id_, patch),
            f"endpoint {id_} changed",
        )

    async def delete_endpoint(self, request: Request) -> Response:
        """Take an endpoint out."""
        pool, id_ = _place(request)
        return await self._changed(
            request,
            lambda document: fleet.without_endpoint(document, pool, id_),
            f"endpoint {id_} deleted",
        )

    async def drain(self, request: Request) -> Response:
        """Let an endpoint run empty."""
        pool, id_ = _place(request)
        return await self._changed(
            request,
            lambda document: fleet.with_drain(document, pool, id_, on=True),
            f"endpoint {id_} drained",
        )

    async def undrain(self, request: Request) -> Response:
        """Use an endpoint again."""
        pool, id_ = _place(request)
        return await self._changed(
            request,
            lambda document: fleet.with_drain(document, pool, id_, on=False),
            f"endpoint {id_} undrained",
        )

    async def probe(self, request: Request) -> Response:
        """Have an endpoint probed."""
        pool, id_ = _place(request)
        found = fleet.endpoint_of(self._ledger.document, pool, id_)
        self._probe(id_)
        return answer(self._shown(found))

    async def _changed(self, request: Request, edit: Edit, action: str) -> Response:
        revision = await self._ledger.change(
            edit, author_of(request), action, if_match=if_match(request)
        )
        return changed(self._ledger, revision)


def _place(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params["id"]


def _change(method: str, path: str, summary: str, handle: Any, *, takes: bool = False) -> Operation:
    return Operation(
        method,
        path,
        summary,
        handle,
        CHANGE,
        body=OBJECT if takes else None,
        if_match="optional",
        refusals=frozenset({409, 422}),
    )
