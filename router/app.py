"""Builds every object of a router once, and hands each its clock, its randomness and its limits."""

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from math import inf
from random import Random
from time import time as wall_clock  # noqa: TID251 # for what people and other systems read
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from engines.engine import Discovery, Engine, EngineLoad, Kind
from policies.dispatcher import Dispatcher
from policies.facts import EndpointPlan
from policies.policy import Policy
from router import metrics as families
from router.access.desk import Desk, Shared
from router.access_log import AccessLog
from router.canary import Canaries
from router.config import Config
from router.credentials import Secrets
from router.door import Door
from router.endpoint import Endpoint
from router.fleet import dialect, discovered, plan
from router.lag import watch_loop
from router.lines import LineWriter
from router.metrics import Metrics
from router.networks import Networks
from router.overview import Overview, read_at_scrape
from router.probe import Prober, Report, Target
from router.replicas import status as replica_status
from router.replicas.ending import end
from router.replicas.member import LIMIT_S, Member
from router.settings import Endpoint as EndpointSettings
from router.settings import Limits, Pool, Tls
from router.site import site
from router.tls import Certificates, callers_certificates, engines_certificates
from router.transitions import Transitions
from router.wire.heads import HeadReader
from router.wire.inbound import Inbound
from router.wire.upstream import Pool as Connections
from router.wire.upstream import Spawn, address

if TYPE_CHECKING:
    # Loaded only where it is switched on: it brings the simulation with it, 10 MB.
    from router.admin.administration import Administration
    from router.tracing import Tracing

logger = logging.getLogger("headway")
SWEEP_S = 0.25
"""How often timeouts are looked at: precise enough for whole seconds, and next to free."""
RENEW_S = 2.0
"""How often certificates are looked at."""
STILL_S = 0.5
"""A sweep that is so late is left out once."""
NO_START = 3
"""What uvicorn exits with where it cannot listen."""
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
        wall_clock: Callable[[], float] = wall_clock,
    ) -> None:
        self.config = config
        self.metrics = Metrics(max_models=config.metrics.max_models)
        self._api_keys = dict(secrets.api_keys)
        self._redis_password = secrets.redis_password
        self._engines = engines
        self._clock = clock
        self._rng = rng
        self._discoveries: dict[str, Discovery] = {}
        self._members = _members(config.pools)
        self._plans = {id_: self._plan(id_) for id_ in self._members}
        self._prober: Prober | None = None
        self._networks = None if config.admin is None else Networks(config.admin.allowed_networks)
        self._of_the_file = {
            (each.id, each.url) for pool in config.pools for each in pool.endpoints
        }
        tls = config.server.tls
        self.certificates = None if tls is None else callers_certificates(tls)
        """What callers are shown; None: they are served without."""
        self._engines_certificates: dict[Tls, Certificates] = {}
        self._leaving: list[Endpoint] = []
        """Endpoints that were taken out, until the last answer from there has ended."""
        self.policy = config.policy
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
        self.door.tracing = self._tracing(secrets.tracing_headers, wall_clock)
        self._canaries = Canaries(
            self.dispatcher,
            self.door.endpoints,
            clock=clock,
            idle_s=config.probes.canary_s or inf,
            limit_s=config.probes.canary_timeout_s,
            ended=self.door.pump,
        )
        self.overview = Overview(self.dispatcher, config.models)
        self.administration: Administration | None = None
        """Set before the router runs, where there is any."""
        self._heads = HeadReader()
        self._spawn: Spawn | None = None
        read_at_scrape(self.metrics, self.door, logs)
        self._transitions = Transitions(self.metrics)
        self.member = self._member()
        self.access = self._access(secrets.pepper, wall_clock)
        self.door.gate, self.door.trusts = self.access.gate, self.access.trusts

    def _tracing(
        self, headers: Mapping[str, str] | None, wall_clock: Callable[[], float]
    ) -> "Tracing | None":
        """Return what makes spans; None where nothing is traced."""
        settings = self.config.tracing
        if settings is None:
            return None
        # Only here: what it needs is an extra, and takes 10 MB.
        from router.tracing import Tracing  # noqa: PLC0415 # see above

        tracing = Tracing(
            settings,
            headers,
            server=self.config.server,
            clock=self._clock,
            wall_clock=wall_clock,
            draw=self._rng.getrandbits,
        )
        self.metrics.read(families.SPANS, tracing.counts)
        return tracing

    def _access(self, pepper: str | None, wall_clock: Callable[[], float]) -> Desk:
        """Return who may do what."""
        config, member = self.config, self.member
        shared: Shared | None = None
        if config.redis is not None and member is not None:
            # Only here: see `_member`.
            from router.replicas.redis import connect  # noqa: PLC0415 # see above

            client = connect(config.redis.url, self._redis_password, limit_s=LIMIT_S)
            shared = Shared(client, config.redis, member.replica, lambda: member.count)
        return Desk(
            config.access,
            pepper,
            state=config.state,
            shared=shared,
            clock=self._clock,
            wall_clock=wall_clock,
            class_of=self.dispatcher.class_of,
            metrics=self.metrics,
        )

    def _member(self) -> Member | None:
        """Return this router as one of several; None where it shares nothing."""
        settings = self.config.redis
        if settings is None:
            return None
        # Only here: its client takes 7 MB, and most routers share nothing.
        from router.replicas import redis  # noqa: PLC0415 # see above

        client = redis.connect(settings.url, self._redis_password, limit_s=LIMIT_S)
        member = Member(
            redis.RedisBoard(client, settings.prefix),
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

    # what an operator changes

    def adopt_policy(self, policy: Policy) -> None:
        """Route by another policy from here on; what is in flight ends under the one before."""
        now = self._clock()
        self.policy = policy
        self.dispatcher.reconfigure(self._plans.values(), policy, now)
        self.door.pump(now)

    def adopt_fleet(
        self, pools: Sequence[Pool], draining: Collection[str], api_keys: Mapping[str, str]
    ) -> None:
        """Serve from other endpoints, or the same ones otherwise; an id keeps engine and URL.

        What is in flight at an endpoint that goes ends there, in peace.
        """
        now = self._clock()
        before, self._members = self._members, _members(pools)
        self.overview.names = tuple(dict.fromkeys(name for pool in pools for name in pool.models))
        self._api_keys = dict(api_keys)
        self._plans = {id_: self._plan(id_) for id_ in self._members}
        self.dispatcher.reconfigure(self._plans.values(), self.policy, now)
        for id_, endpoint in self.dispatcher.endpoints.items():
            if (id_ in draining) is not endpoint.health.draining:
                self.dispatcher.drain(id_, id_ in draining)
        if self._prober is not None:
            self._enter([id_ for id_ in self._members if id_ not in before])
        self.door.pump(now)
        for id_ in before.keys() - self._members.keys():
            self._retire(id_)

    def probe(self, endpoint_id: str) -> None:
        """Ask an endpoint at once how it is, and afresh what it is."""
        self._enter([endpoint_id])

    def _plan(self, id_: str) -> EndpointPlan:
        pool, endpoint = self._members[id_]
        engine, discovery = self._engines[endpoint.engine], self._discoveries.get(id_)
        if discovery is None:
            return plan(pool, endpoint, engine)
        return discovered(pool, endpoint, engine, discovery)

    def _enter(self, ids: Iterable[str]) -> None:
        """Make endpoints reachable that are not yet, and probe them."""
        if self._prober is None or self._spawn is None:
            raise RuntimeError("endpoints are entered while the router runs")
        for id_ in ids:
            pool, endpoint = self._members[id_]
            tls = endpoint.tls or pool.tls
            certificates = self._engines_certificates.get(tls) or engines_certificates(tls)
            self._engines_certificates[tls] = certificates
            context = certificates.context
            if id_ not in self.door.endpoints:
                self._join(endpoint, pool, context, self._spawn)
            self._prober.watch(self._target(endpoint, tls), context)

    def _retire(self, id_: str) -> None:
        """Let go of an endpoint that is no longer a member."""
        self._discoveries.pop(id_, None)
        self.metrics.forget(id_)
        self._transitions.forget(id_)
        if self._prober is not None:
            self._prober.forget(id_)
        endpoint = self.door.endpoints.pop(id_, None)
        if endpoint is not None:
            self._leaving.append(endpoint)

    def _see_off(self) -> None:
        """Close the connections of endpoints that went, once nothing runs there."""
        for endpoint in self._leaving:
            if endpoint.pool.open_connections == endpoint.pool.idle_connections:
                endpoint.pool.close()
        self._leaving = [each for each in self._leaving if each.pool.open_connections]

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncGenerator[None]:
        """Run what goes on beside the requests, from before the first to after the last."""
        member = self.member
        report = Report(self._discovered, self._probed, self._observed)
        if member is not None:
            report = replace(report, reads=member.reads)
        async with asyncio.TaskGroup() as group:
            self._spawn = group.create_task
            beside = await self.access.start(group)
            if self.administration is not None:
                await self.administration.start(group)
            prober = Prober(group, self._engines, report, self.config.probes, self._rng)
            self._prober = prober
            self._enter(self._members)
            beside += [
                group.create_task(self._sweep()),
                group.create_task(watch_loop(self._lagged, self._clock)),
                group.create_task(self._renew()),
            ]
            shares = None if member is None else group.create_task(member.run())
            yield
            prober.close()
            self._prober = None
            for task in beside:
                task.cancel()
            if self.administration is not None:
                await self.administration.stop()
            if member is not None and shares is not None:
                await end(shares)
                await member.leave()
            await self.access.stop()
            self._canaries.close()
            self.door.stop()
            if self.door.tracing is not None:
                await asyncio.to_thread(self.door.tracing.close)
            for each in (*self.door.endpoints.values(), *self._leaving):
                each.pool.close()

    def _join(
        self, endpoint: EndpointSettings, pool: Pool, context: ssl.SSLContext, spawn: Spawn
    ) -> None:
        """Make an endpoint reachable."""
        engine = self._engines[endpoint.engine]
        connections = Connections(
            address(
                endpoint.url,
                context,
                self._bounds(endpoint),
                (endpoint.tls or pool.tls).server_name,
            ),
            loop=asyncio.get_running_loop(),
            spawn=spawn,
            clock=self._clock,
            heads=self._heads,
            connect_s=self.config.timeouts.connect_s,
            keep_s=engine.traits.keep_alive_s,
        )
        self.door.endpoints[endpoint.id] = Endpoint(
            endpoint.id,
            pool_name=pool.name,
            engine=engine,
            dialect=dialect(endpoint, engine),
            pool=connections,
            clock=self._clock,
            api_key=self._api_keys.get(endpoint.id),
            passes_credentials=self.door.gate is None,
            traces=self.config.tracing is not None,
        )

    def _target(self, endpoint: EndpointSettings, tls: Tls) -> Target:
        key = self._api_keys.get(endpoint.id)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return Target(
            endpoint.id,
            endpoint.engine,
            endpoint.url.rstrip("/"),
            headers,
            self._bounds(endpoint),
            tls.server_name,
        )

    def _bounds(self, endpoint: EndpointSettings) -> Networks | None:
        """Return where an endpoint has to be: one of the configuration file's may be anywhere."""
        return None if (endpoint.id, endpoint.url) in self._of_the_file else self._networks

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
                self._transitions.look(self.dispatcher.endpoints)
                self._see_off()
                if self.config.probes.canary_s is not None:
                    self.dispatcher.watch(self._clock())
                    self._canaries.sweep()
                    self.door.pump(self._clock())
            except Exception:  # whatever broke one exchange, the others' time passes as well
                logger.exception("sweep broke")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            self.renew_certificates()

    def renew_certificates(self) -> None:
        """Load the certificates whose files changed; connections that are made have their own."""
        ours = () if self.certificates is None else (self.certificates,)
        for each in (*ours, *self._engines_certificates.values()):
            try:
                if each.renew():
                    logger.info("certificates renewed", extra={"files": each.files})
            except OSError as error:
                reason = {"files": each.files, "reason": str(error)}
                logger.warning("certificates cannot be renewed", extra=reason)

    # what the prober learns

    def _discovered(self, endpoint_id: str, discovery: Discovery) -> None:
        """Take in what an engine says of itself."""
        self._discoveries[endpoint_id] = discovery
        learned = self._plan(endpoint_id)
        if learned != self._plans[endpoint_id]:
            self._plans[endpoint_id] = learned
            now = self._clock()
            self.dispatcher.reconfigure(self._plans.values(), self.policy, now)
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


def _members(pools: Iterable[Pool]) -> dict[str, tuple[Pool, EndpointSettings]]:
    return {endpoint.id: (pool, endpoint) for pool in pools for endpoint in pool.endpoints}


class _Server(uvicorn.Server):
    """uvicorn, but a signal that ended it in good order is no failure of the process."""

    def __init__(self, config: uvicorn.Config, overview: Overview, limits: Limits) -> None:
        super().__init__(config)
        self._overview = overview
        self._limits = limits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; callers have as long for a handshake as for a head, not uvicorn's minute."""
        if self.config.ssl is None:
            return await super().startup(sockets)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(NO_START)
        try:
            made = sockets or [_listener(self.config)]
        except OSError as error:
            logger.error("cannot listen", extra={"reason": str(error)})  # noqa: TRY400 # no fault
            await self.lifespan.shutdown()
            sys.exit(NO_START)
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                self._protocol,
                sock=each,
                ssl=self.config.ssl,
                ssl_handshake_timeout=self._limits.header_timeout_s,
                backlog=self.config.backlog,
            )
            for each in made
        ]
        self.started = True
        return None

    def _protocol(self) -> asyncio.Protocol:
        """Return what uvicorn would have made for a connection."""
        return self.config.http_protocol_class(  # type: ignore[call-arg] # as uvicorn calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that it is not ready, take what comes still, then let running answers end."""
        self._overview.draining = True
        for _ in range(round(self._limits.unready_s / UNREADY_LOOK_S)):
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


def _listener(config: uvicorn.Config) -> socket.socket:
    """Return what uvicorn would listen on; raises OSError."""
    family, *_ = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
    made = socket.create_server((config.host, config.port), family=family, backlog=config.backlog)
    made.setblocking(False)  # noqa: FBT003 # the socket's own signature
    return made


def server(router: Router, *, started_at_s: int) -> uvicorn.Server:
    """Return the server: the hot routes on the router's own protocol, all else on the site."""
    settings = router.config.server
    admin, member = router.administration, router.member
    more = [] if admin is None or admin.has_own_port else [*admin.routes]
    if member is not None:
        more.append(replica_status.status_page(member))
    app = site(
        router.overview,
        router.metrics,
        started_at_s=started_at_s,
        gate=router.door.gate,
        clock=router.door.clock,
        more=more,
        lifespan=router.running,
    )

    def protocol(**given: object) -> Inbound:
        return Inbound(router.door, **given)  # type: ignore[arg-type] # uvicorn's own call

    certificates = router.certificates
    context = None if certificates is None else certificates.context
    config = uvicorn.Config(
        app,
        ssl_context_factory=None if context is None else lambda *_: context,
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
    return _Server(config, router.overview, settings.limits)
