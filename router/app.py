"""Builds every object of a router once, and hands each its clock, its randomness and its limits."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random

import uvicorn
from starlette.applications import Starlette

from engines.engine import Discovery, Engine, EngineLoad, Kind
from policies.dispatcher import Dispatcher
from router.config import Config
from router.credentials import Secrets
from router.door import Door
from router.endpoint import Endpoint
from router.fleet import dialect, discovered, plan, tls_context
from router.log import AccessLog
from router.metrics import Metrics
from router.settings import Endpoint as EndpointSettings, Pool as PoolSettings
from router.wire.inbound import Inbound
from router.wire.upstream import Pool, Spawn, address

SWEEP_S = 0.25
"""How often timeouts are looked at: precise enough for whole seconds, and next to free."""


class Router:
    """One process of the router."""

    def __init__(
        self,
        config: Config,
        secrets: Secrets,
        *,
        engines: Mapping[Kind, Engine],
        clock: Callable[[], float],
        rng: Random,
        access_log: AccessLog | None,
    ) -> None:
        self.config = config
        self.metrics = Metrics(max_models=config.metrics.max_models)
        self._secrets = secrets
        self._engines = engines
        self._clock = clock
        self._members = {
            endpoint.id: (pool, endpoint) for pool in config.pools for endpoint in pool.endpoints
        }
        self._plans = {
            id_: plan(pool, endpoint, engines[endpoint.engine])
            for id_, (pool, endpoint) in self._members.items()
        }
        self.dispatcher = Dispatcher(self._plans.values(), config.policy, rng)
        self.door = Door(
            dispatcher=self.dispatcher,
            endpoints={},
            metrics=self.metrics,
            access_log=access_log,
            limits=config.server.limits,
            timeouts=config.timeouts,
            clock=clock,
            new_id=lambda: os.urandom(16).hex(),
            show_routing=config.server.show_routing,
        )

    # running

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncGenerator[None]:
        """Run what goes on beside the requests, from before the first to after the last."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for id_, (pool, endpoint) in self._members.items():
                self.door.endpoints[id_] = self._endpoint(pool, endpoint, loop, group.create_task)
            sweeping = group.create_task(self._sweep())
            yield
            self.door.stop()
            sweeping.cancel()
            for each in self.door.endpoints.values():
                each.pool.close()

    def _endpoint(
        self,
        pool: PoolSettings,
        endpoint: EndpointSettings,
        loop: asyncio.AbstractEventLoop,
        spawn: Spawn,
    ) -> Endpoint:
        engine = self._engines[endpoint.engine]
        secure = endpoint.url.startswith("https:")
        connections = Pool(
            address(endpoint.url, tls_context(pool.tls) if secure else None),
            loop=loop,
            spawn=spawn,
            clock=self._clock,
            connect_s=self.config.timeouts.connect_s,
            keep_s=engine.traits.keep_alive_s,
        )
        return Endpoint(
            endpoint.id,
            pool_name=pool.name,
            engine=engine,
            dialect=dialect(endpoint, engine),
            pool=connections,
            clock=self._clock,
            api_key=self._secrets.api_keys.get(endpoint.id),
        )

    async def _sweep(self) -> None:
        """Look at timeouts again and again, and at how late the loop lets it do so."""
        lag = self.metrics.loop_lag
        while True:
            due = self._clock() + SWEEP_S
            await asyncio.sleep(SWEEP_S)
            lag.observe(max(0.0, self._clock() - due))
            self.door.sweep()

    # what the prober learns

    def on_discovery(self, endpoint_id: str, discovery: Discovery) -> None:
        """Take in what an engine says of itself."""
        pool, endpoint = self._members[endpoint_id]
        learned = discovered(pool, endpoint, self._engines[endpoint.engine], discovery)
        if learned != self._plans[endpoint_id]:
            self._plans[endpoint_id] = learned
            now = self._clock()
            self.dispatcher.reconfigure(self._plans.values(), self.config.policy, now)
            self.door.pump(now)

    def on_health(self, endpoint_id: str, ok: bool) -> None:
        """Take in a health probe."""
        now = self._clock()
        self.dispatcher.probed(endpoint_id, ok, now)
        self.door.pump(now)

    def on_load(self, endpoint_id: str, load: EngineLoad) -> None:
        """Take in an engine's gauges."""
        self.dispatcher.observed(endpoint_id, load, self._clock())


def server(router: Router, app: Starlette) -> uvicorn.Server:
    """Return the server: the hot routes on the router's own protocol, all else on `app`."""
    settings = router.config.server

    def protocol(**given: object) -> Inbound:
        return Inbound(router.door, **given)  # type: ignore[arg-type] # uvicorn's own call

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol,  # type: ignore[arg-type] # called like a class, with the same arguments
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.limits.drain_s),
        backlog=4096,
    )
    return uvicorn.Server(config)
