"""Builds every object of a router once, and hands each its clock, its randomness and its limits."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from random import Random

import uvicorn
from starlette.applications import Starlette

from engines.engine import Discovery, Engine, EngineLoad, Kind
from policies.dispatcher import Dispatcher
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
from router.replicas import redis
from router.replicas import status as replica_status
from router.replicas.member import LIMIT_S, Member
from router.replicas.redis import RedisBoard
from router.settings import Endpoint as EndpointSettings
from router.site import site
from router.tls import client_context
from router.wire.heads import HeadReader
from router.wire.inbound import Inbound
from router.wire.upstream import Pool, Spawn, address

logger = logging.getLogger("headway")
SWEEP_S = 0.25
"""How often timeouts are looked at: precise enough for whole seconds, and next to free."""


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
        self.dispatcher = Dispatcher(self._plans.values(), config.policy, rng)
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

        self.overview = Overview(self.dispatcher, config.models)
        self._rng = rng
        self._heads = HeadReader()
        read_at_scrape(self.metrics, self.door, logs)
        self.member = self._member()

    def _member(self) -> Member | None:
        """Return this router as one of several; None where it shares nothing."""
        settings = self.config.redis
        if settings is None:
            return None
        client = redis.connect(settings.url, self._secrets.redis_password, limit_s=LIMIT_S)
        member = Member(
            RedisBoard(client, settings.prefix),
            self.dispatcher,
            replica=f"{self._rng.getrandbits(48):012x}",
            host=socket.gethostname(),
            clock=self._clock,
            pump=self.door.pump,
            expected=max(settings.replicas, self.config.server.workers),
        )
        self.overview.replicas = lambda: replica_status.brief(member)
        replica_status.read_at_scrape(self.metrics, member)
        return member

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncGenerator[None]:
        """Run what goes on beside the requests, from before the first to after the last."""
        member = self.member
        report = Report(self._discovered, self._probed, self._observed)
        if member is not None:
            report = replace(report, reads=member.reads)
        async with asyncio.TaskGroup() as group:
            prober = Prober(group, self._engines, report, self.config.probes, self._rng)
            for pool in self.config.pools:
                certificates = client_context(pool.tls)
                for endpoint in pool.endpoints:
                    self._join(endpoint, pool.name, certificates, group.create_task)
                    prober.watch(self._target(endpoint), certificates)
            beside = [
                group.create_task(self._sweep()),
                group.create_task(watch_loop(self.metrics.loop_lag.observe, self._clock)),
            ]
            if member is not None:
                beside.append(group.create_task(member.run()))
            yield
            prober.close()
            for task in beside:
                task.cancel()
            if member is not None:
                await member.leave()
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

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                self.door.sweep()
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
        now = self._clock()
        self.dispatcher.observed(endpoint_id, load, now)
        if self.member is not None:
            self.member.observed(endpoint_id, load, now)


class _Server(uvicorn.Server):
    """uvicorn, but a signal that ended it in good order is no failure of the process."""

    def __init__(self, config: uvicorn.Config, overview: Overview) -> None:
        super().__init__(config)
        self._overview = overview

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running answers end, for as long as they may."""
        self._overview.draining = True
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
    app = site(
        router.overview,
        router.metrics,
        started_at_s=started_at_s,
        more=() if router.member is None else (replica_status.status_page(router.member),),
        lifespan=router.running,
    )

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
    return _Server(config, router.overview)
