"""The fleet as one document that is changed at run time: pools, endpoints, who is being drained.

Every change is a function from one document to the next; what comes out is read, and so judged, as
the configuration file would be.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from router.admin.pointers import patched
from router.config import Config, read_pools, write_pools
from router.document import ConfigError, Flaw, unknown
from router.document import place as path_of
from router.networks import Networks
from router.settings import Pool

FIXED: Final = frozenset({"id", "engine", "url"})
"""What an endpoint keeps for life: another server is another endpoint."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Where requests may go."""

    pools: tuple[Pool, ...]
    draining: frozenset[str] = frozenset()
    """Ids of endpoints that are sent nothing more."""


class NoSuch(Exception):
    """There is no pool or endpoint of a name; the text names those that come near."""


class Refused(Exception):
    """A change that makes no sense as things are; the text says why and what would."""


def read_fleet(document: Mapping[str, Any]) -> FleetPlan:
    """Return what a document means; raises `ConfigError`."""
    pools = read_pools(document["pools"])
    ids = {endpoint.id for pool in pools for endpoint in pool.endpoints}
    return FleetPlan(pools, frozenset(document["draining"]) & ids)


def out_of_bounds(plan: FleetPlan, config: Config) -> Iterator[Flaw]:
    """Yield the endpoints that are where only the configuration file may put one."""
    if config.admin is None:
        return
    networks = Networks(config.admin.allowed_networks)
    own = {(each.id, each.url) for pool in config.pools for each in pool.endpoints}
    for number, pool in enumerate(plan.pools):
        for index, endpoint in enumerate(pool.endpoints):
            why = networks.literal_refusal(urlsplit(endpoint.url).hostname or "")
            if why is not None and (endpoint.id, endpoint.url) not in own:
                yield Flaw(path_of(("pools", number, "endpoints", index, "url")), why)


def write_fleet(plan: FleetPlan) -> dict[str, Any]:
    """Return the document of a fleet, every default visible."""
    return {"pools": write_pools(plan.pools), "draining": sorted(plan.draining)}


def with_pool(document: dict[str, Any], pool: Any) -> dict[str, Any]:
    """Add a pool."""
    fleet = deepcopy(document)
    fleet["pools"].append(_table(pool, "a pool"))
    return fleet


def with_pool_changed(document: dict[str, Any], name: str, patch: Any) -> dict[str, Any]:
    """Change a pool by a merge patch; its endpoints are changed by themselves."""
    changes = _table(patch, "a pool")
    _keep(changes, {"name", "endpoints"}, "a pool")
    fleet = deepcopy(document)
    place = _index(fleet["pools"], "name", name, "pool")
    fleet["pools"][place] = patched(fleet["pools"][place], changes)
    return fleet


def without_pool(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a pool out."""
    fleet = deepcopy(document)
    place = _index(fleet["pools"], "name", name, "pool")
    if len(fleet["pools"]) == 1:
        raise Refused(f"{name!r} is the only pool; add another before this one goes")
    del fleet["pools"][place]
    return fleet


def with_endpoint(document: dict[str, Any], pool: str, endpoint: Any) -> dict[str, Any]:
    """Add an endpoint to a pool; what it leaves out is the pool's.

    With `"draining": true` it is sent nothing until it is undrained.
    """
    fleet = deepcopy(document)
    there = fleet["pools"][_index(fleet["pools"], "name", pool, "pool")]
    added = {"max_in_flight": there["max_in_flight"], **_table(endpoint, "an endpoint")}
    if "id" not in added:
        raise ConfigError("", [Flaw("id", "is missing; it names the endpoint for good")])
    draining = added.pop("draining", False)
    if not isinstance(draining, bool):
        raise ConfigError("", [Flaw("draining", f"must be true or false, not {draining!r}")])
    there["endpoints"].append(added)
    if draining:
        fleet["draining"] = sorted({*fleet["draining"], str(added["id"])})
    return fleet


def with_endpoint_changed(
    document: dict[str, Any], pool: str, id_: str, patch: Any
) -> dict[str, Any]:
    """Change an endpoint by a merge patch."""
    changes = _table(patch, "an endpoint")
    _keep(changes, FIXED, "an endpoint")
    fleet = deepcopy(document)
    endpoints, place = _endpoint(fleet, pool, id_)
    endpoints[place] = patched(endpoints[place], changes)
    return fleet


def without_endpoint(document: dict[str, Any], pool: str, id_: str) -> dict[str, Any]:
    """Take an endpoint out."""
    fleet = deepcopy(document)
    endpoints, place = _endpoint(fleet, pool, id_)
    if len(endpoints) == 1:
        raise Refused(f"{id_!r} is the only endpoint of pool {pool!r}; delete the pool instead")
    del endpoints[place]
    return fleet


def with_drain(document: dict[str, Any], pool: str, id_: str, *, on: bool) -> dict[str, Any]:
    """Send an endpoint nothing more, or again."""
    _endpoint(document, pool, id_)
    draining = {*document["draining"], id_} if on else {*document["draining"]} - {id_}
    return {**document, "draining": sorted(draining)}


def pool_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a pool's part of the document; raises `NoSuch`."""
    pool: dict[str, Any] = document["pools"][_index(document["pools"], "name", name, "pool")]
    return pool


def endpoint_of(document: Mapping[str, Any], pool: str, id_: str) -> dict[str, Any]:
    """Return an endpoint's part of the document; raises `NoSuch`."""
    endpoints, place = _endpoint(document, pool, id_)
    return endpoints[place]


def _endpoint(document: Mapping[str, Any], pool: str, id_: str) -> tuple[list[dict[str, Any]], int]:
    there = document["pools"][_index(document["pools"], "name", pool, "pool")]
    return there["endpoints"], _index(there["endpoints"], "id", id_, "endpoint")


def _index(documents: list[dict[str, Any]], key: str, name: str, what: str) -> int:
    names = [each[key] for each in documents]
    if name not in names:
        raise NoSuch(unknown(what, name, names))
    return names.index(name)


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError("", [Flaw("", f"{what} is a table")])
    return value


def _keep(changes: Mapping[str, Any], fixed: frozenset[str] | set[str], what: str) -> None:
    flaws = [
        Flaw(key, f"cannot be changed: add {what} beside this one, then delete this one")
        for key in sorted(fixed & changes.keys())
    ]
    if flaws:
        raise ConfigError("", flaws)
