"""How things stand: what the site tells of the fleet, and what a scrape reads of it."""

import asyncio
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from policies.dispatcher import Dispatcher
from policies.facts import Load, SlaClass
from policies.latency import LatencyModel
from router import metrics as families
from router.door import Door
from router.lines import LineWriter
from router.metrics import Metrics, Rows
from router.site import Model, PoolState, Readiness
from router.version import headway_version


class Overview:
    """The site's view of a running router."""

    def __init__(self, dispatcher: Dispatcher, models: Sequence[str]) -> None:
        self._dispatcher = dispatcher
        self.names = models
        """The public names, in the order of the configuration."""
        self.draining = False
        """The router is on its way out."""
        self.replicas: Callable[[], Mapping[str, object]] | None = None
        """Tells how the router stands with others; None: it is the only one."""

    def models(self) -> list[Model]:
        """See `site.Fleet`."""
        return [self._model(name) for name in self.names]

    def _model(self, name: str) -> Model:
        plans = [each.plan for each in self._dispatcher.endpoints.values()]
        serving = [plan for plan in plans if name in plan.models]
        lengths = [plan.max_context_tokens for plan in serving if plan.max_context_tokens]
        pools = tuple(dict.fromkeys(plan.pool for plan in serving))
        return Model(name, pools, max(lengths, default=None))

    def readiness(self) -> Readiness:
        """See `site.Fleet`."""
        pools: dict[str, PoolState] = {}
        for endpoint in self._dispatcher.endpoints.values():
            known = pools.get(endpoint.plan.pool, PoolState(0, 0))
            serving = known.serving + endpoint.health.hopeful
            pools[endpoint.plan.pool] = PoolState(known.endpoints + 1, serving)
        replicas = None if self.replicas is None else self.replicas()
        return Readiness(self.draining, pools, replicas)


def read_at_scrape(metrics: Metrics, door: Door, logs: Mapping[str, LineWriter]) -> None:
    """Have `metrics` read the gauges of a running router."""
    metrics.read(families.IN_FLIGHT, lambda: _in_flight(door))
    metrics.read(families.WAITING, lambda: _waiting(door))
    metrics.read(
        families.ENDPOINT_UP,
        lambda: [
            ((each.plan.pool, each.id), float(each.health.hopeful))
            for each in list(door.dispatcher.endpoints.values())
        ],
    )
    metrics.read(families.ENGINE_RUNNING, _gauge(door, lambda load: load.running))
    metrics.read(families.ENGINE_WAITING, _gauge(door, lambda load: load.waiting))
    metrics.read(families.ENGINE_KV_USAGE, _gauge(door, lambda load: load.kv_usage))
    metrics.read(families.PREDICTION_BOUND, lambda: _prediction_bounds(door))
    metrics.read(
        families.PREDICTED_PREFILL,
        lambda: [((pool,), model.prefill_s_per_token) for pool, model in _models(door).items()],
    )
    metrics.read(
        families.PREDICTED_STEP,
        lambda: [((pool,), model.step_s) for pool, model in _models(door).items()],
    )
    metrics.read(
        families.ENDPOINT_STATE,
        lambda: [
            ((each.plan.pool, each.id, each.health.state), 1.0)
            for each in list(door.dispatcher.endpoints.values())
        ],
    )
    metrics.read(
        families.COPIES,
        lambda: [((m,), float(each.in_flight)) for m, each in door.dispatcher.copies.items()],
    )
    metrics.read(
        families.COPIES_DROPPED,
        lambda: [((m,), float(each.dropped)) for m, each in door.dispatcher.copies.items()],
    )
    metrics.read(families.CONNECTIONS, lambda: _connections(door))
    metrics.read(families.TASKS, lambda: [((), float(len(asyncio.all_tasks())))])
    metrics.read(families.BUILD, lambda: [((headway_version(), platform.python_version()), 1.0)])
    metrics.read(
        families.LOG_LINES_LOST,
        lambda: [((name,), float(log.dropped + log.failed)) for name, log in logs.items()],
    )


def _in_flight(door: Door) -> Iterator[tuple[tuple[str, ...], float]]:
    for endpoint in list(door.dispatcher.endpoints.values()):
        for sla_class, count in zip(SlaClass, endpoint.held, strict=True):
            yield (endpoint.id, sla_class), float(count)


def _waiting(door: Door) -> Rows:
    waiting = door.dispatcher.waiting_by_rank
    return [((each,), float(count)) for each, count in zip(SlaClass, waiting, strict=True)]


def _models(door: Door) -> dict[str, LatencyModel]:
    """Return what is known of the speed of each pool; of unlike weights in one, the last."""
    return {each.plan.pool: each.model for each in door.dispatcher.endpoints.values()}


def _prediction_bounds(door: Door) -> Iterator[tuple[tuple[str, ...], float]]:
    for pool, model in _models(door).items():
        yield (pool, "first_token"), model.first_token_bound.factor
        yield (pool, "per_token"), model.per_token_bound.factor


def _gauge(door: Door, read: Callable[[Load], float | None]) -> Callable[[], Rows]:
    """Return what reads one of the engines' own gauges, of those that have it."""

    def rows() -> Iterable[tuple[tuple[str, ...], float]]:
        for endpoint in list(door.dispatcher.endpoints.values()):
            value = read(endpoint.load) if endpoint.load is not None else None
            if value is not None:
                yield (endpoint.id,), float(value)

    return rows


def _connections(door: Door) -> Rows:
    engines = sum(each.pool.open_connections for each in door.endpoints.values())
    return [(("callers",), float(len(door.connections))), (("engines",), float(engines))]
