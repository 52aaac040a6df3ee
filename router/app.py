"""Builds every object of a router once, and hands each its clock, its randomness and its limits."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from math import inf
from random import Random

import uvicorn
from starlette.applications import Starlette

from engines.engine import Discovery, Engine, EngineLoad, Kind
from policies.dispatcher import Dispatcher
from router.canary import Canaries
from router.config import Config
from router.credentials import Secrets
from router.door import Door
from router.endpoint import Endpoint
from router.fleet import dialect, discovered, plan
from router.lag import watch_loop
from router.lines import LineWriter
from router.log import AccessLog
from router.metrics import Metrics
from router.overview import Overview, read_at_scrape
from router.probe import Prober, Report, Target
from router.settings import Endpoint as EndpointSettings
from router.site import site
from router.tls import client_context
from router.wire.heads import HeadReader
from router.wire.inbound import Inbound
from router.wire.upstream import Pool, Spawn, address

logger = logging.getLogger("headway")
SWEEP_S = 0.25
"""How often timeouts are looked at: precise enough for whole seconds, and next to free."""
STILL_S = 0.5
"""A sweep that is so late is left out once."""
UNREADY_LOOK_S = 0.1
"""How soon a second signal ends the wait before the listeners close."""


class Router:
    """One process of the router."""

    def __init__(  # noqa: PLR0913 # the place where everything is put together
        self,
        config: Config,
        secrets: Secrets,
        *,
        engines: Mapping[Kind, Engine],
        clock: Callable[[], float],
        rng: Random,
        access_log: AccessLog | None,
        logs: Mapping[str, LineWriter],
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
        self.dispatcher = Dispatcher(
            self._plans.values(), config.policy, rng, watched=config.probes.canary_s is not None
        )
        self.door = Door(
            dispatcher=self.dispatcher,
            endpoints={},
            metrics=self.metrics,
            access_log=access_log,
            limits=config.server.limits,
            timeouts=config.timeouts,
            clock=clock,
            new_id=lambda: f"{rng.getrandbits(128):032x}",
            show_routing=config.server.show_routing,
        )
        self._canaries = Canaries(
            self.dispatcher,
            self.door.endpoints,
            clock=clock,
            idle_s=config.probes.canary_s or inf,
            limit_s=config.probes.canary_timeout_s,
            ended=self.door.pump,
        )
        self.overview = Overview(self.dispatcher, config.models)
        self._rng = rng
        self._heads = HeadReader()
        read_at_scrape(self.metrics, self.door, logs)

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncGenerator[None]:
        """Run what goes on beside the requests, from before the first to after the last."""
        report = Report(self._discovered, self._probed, self._observed)
        async with asyncio.TaskGroup() as group:
            prober = Prober(group, self._engines, report, self.config.probes, self._rng)
            for pool in self.config.pools:
                certificates = client_context(pool.tls)
                for endpoint in pool.endpoints:
                    self._join(endpoint, pool.name, certificates, group.create_task)
                    prober.watch(self._target(endpoint), certificates)
            beside = [
                group.create_task(self._sweep()),
                group.create_task(watch_loop(self._lagged, self._clock)),
            ]
            yield
            prober.close()
            for task in beside:
                task.cancel()
            self._canaries.close()
            self.door.stop()
            for each in self.door.endpoints.values():
                each.pool.close()

    def _join(
        self, endpoint: EndpointSettings, pool: str, certificates: ssl.SSLContext, spawn: Spawn
    ) -> None:
        """Make an endpoint reachable."""
        engine = self._engines[endpoint.engine]
        connections = Pool(
            address(endpoint.url, certificates),
            loop=asyncio.get_running_loop(),
            spawn=spawn,
            clock=self._clock,
            heads=self._heads,
            connect_s=self.config.timeouts.connect_s,
            keep_s=engine.traits.keep_alive_s,
        )
        self.door.endpoints[endpoint.id] = Endpoint(
            endpoint.id,
            pool_name=pool,
            engine=engine,
            dialect=dialect(endpoint, engine),
            pool=connections,
            clock=self._clock,
            api_key=self._secrets.api_keys.get(endpoint.id),
        )

    def _target(self, endpoint: EndpointSettings) -> Target:
        key = self._secrets.api_keys.get(endpoint.id)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return Target(endpoint.id, endpoint.engine, endpoint.url.rstrip("/"), headers)

    def _lagged(self, lag_s: float) -> None:
        """Take in how late the loop is."""
        self.metrics.loop_lag.observe(lag_s)
        self.door.overload.observe(lag_s)

    async def _sweep(self) -> None:
        stood_still = False
        while True:
            due_at = self._clock() + SWEEP_S
            await asyncio.sleep(SWEEP_S)
            # What came while the process stood still is read first: else it would be called late.
            stood_still = not stood_still and self._clock() - due_at > STILL_S
            if stood_still:
                continue
            try:
                self.door.sweep()
                if self.config.probes.canary_s is not None:
                    self.dispatcher.watch(self._clock())
                    self._canaries.sweep()
                    self.door.pump(self._clock())
            except Exception:  # whatever broke one exchange, the others' time passes as well
                logger.exception("sweep broke")

    # what the prober learns

    def _discovered(self, endpoint_id: str, discovery: Discovery) -> None:
        """Take in what an engine says of itself."""
        pool, endpoint = self._members[endpoint_id]
        learned = discovered(pool, endpoint, self._engines[endpoint.engine], discovery)
        if learned != self._plans[endpoint_id]:
            self._plans[endpoint_id] = learned
            now = self._clock()
            self.dispatcher.reconfigure(self._plans.values(), self.config.policy, now)
            self.door.pump(now)

    def _probed(self, endpoint_id: str, ok: bool) -> None:
        """Take in a health probe."""
        now = self._clock()
        self.dispatcher.probed(endpoint_id, ok, now)
        self.door.pump(now)

    def _observed(self, endpoint_id: str, load: EngineLoad) -> None:
        """Take in an engine's gauges."""
        self.dispatcher.observed(endpoint_id, load, self._clock())


class _Server(uvicorn.Server):
    """uvicorn, but a signal that ended it in good order is no failure of the process."""

    def __init__(self, config: uvicorn.Config, overview: Overview, unready_s: float) -> None:
        super().__init__(config)
        self._overview = overview
        self._unready_s = unready_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it is not ready, take what comes still, then let running answers end."""
        self._overview.draining = True
        for _ in range(round(self._unready_s / UNREADY_LOOK_S)):
            if self.force_exit:
                break
            await asyncio.sleep(UNREADY_LOOK_S)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take signals as a wish to stop, and do not raise them again once that is done."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def server(router: Router, *, started_at_s: int) -> uvicorn.Server:
    """Return the server: the hot routes on the router's own protocol, all else on the site."""
    settings = router.config.server
    app = site(router.overview, router.metrics, started_at_s=started_at_s, lifespan=router.running)

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
        timeout_graceful_shutdown=settings.limits.drain_s,  # type: ignore[arg-type] # any number
        backlog=4096,
    )
    return _Server(config, router.overview, settings.limits.unready_s)
