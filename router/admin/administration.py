"""Puts administration together: what is kept where, who may ask, what is written down of it."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from policies.facts import EndpointPlan
from policies.policy import Policy
from router.access.desk import Desk
from router.admin.audit import Audit
from router.admin.dry_run import price_of
from router.admin.file_store import FileStore
from router.admin.fleet_api import FleetApi
from router.admin.fleet_document import FleetPlan, out_of_bounds, read_fleet, write_fleet
from router.admin.keys_api import KeysApi
from router.admin.ledger import Ledger
from router.admin.live import Live, tell_metrics
from router.admin.openapi import openapi
from router.admin.operations import PREFIX, Operation, Token, answer, routes
from router.admin.page import page_routes
from router.admin.pointers import Difference
from router.admin.policy_api import PolicyApi
from router.admin.policy_document import read_policy, write_policy
from router.admin.recent import Recent
from router.admin.redis_store import RedisStore
from router.admin.revisions import MemoryStore, NotStored, Revision, Store
from router.admin.traffic_api import TrafficApi
from router.admin.variants_api import VariantsApi
from router.admin.versions_api import OBJECT, VersionsApi, author_of, moment, shown
from router.config import Config, unusable_certificates
from router.credentials import SecretReader, Secrets
from router.document import ConfigError
from router.door import Door
from router.overview import Overview
from router.replicas.ending import end
from router.replicas.redis import connect
from router.settings import Admin, Pool
from router.tls import Certificates

logger = logging.getLogger("headway.admin")
LAST_ANSWERS_S: Final = 1
"""How long an own port's answers may go on once the router is told to stop."""
FOLLOW_S: Final = 0.2
"""How often another replica's change is looked for; the promise is a second."""
LISTENS_S: Final = 0.01
REDIS_LIMIT_S: Final = 2.0
"""How long Redis may take to store a change."""


class Subject(Protocol):
    """The router that is administered."""

    config: Config
    door: Door
    overview: Overview
    certificates: Certificates | None
    access: Desk

    def adopt_policy(self, policy: Policy) -> None:
        """Route by another policy from here on."""

    def adopt_fleet(
        self, pools: Sequence[Pool], draining: Collection[str], api_keys: Mapping[str, str]
    ) -> None:
        """Serve from other endpoints."""

    def probe(self, endpoint_id: str) -> None:
        """Ask an endpoint at once how it is."""


class Administration:
    """The administration of one router."""

    def __init__(
        self,
        subject: Subject,
        settings: Admin,
        secrets: Secrets,
        *,
        wall_clock: Callable[[], float],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`secrets` must hold the token."""
        if secrets.admin_token is None:
            raise ValueError("administration is never open: it needs a token")
        self.settings = settings
        self._subject = subject
        self._environ = environ
        self._wall_clock = wall_clock
        config, door = subject.config, subject.door
        self._written = Audit(settings.audit_file, lambda: moment(wall_clock()))
        self._redis = (
            None
            if config.redis is None
            else connect(config.redis.url, secrets.redis_password, limit_s=REDIS_LIMIT_S)
        )
        self.policy: Ledger[Policy] = Ledger(
            self._store("policy"),
            config.policy,
            read=self._read_policy,
            write=write_policy,
            adopt=self._adopt_policy,
            wall_clock=wall_clock,
            changed=partial(self._note, "policy"),
        )
        self.fleet: Ledger[FleetPlan] = Ledger(
            self._store("fleet"),
            FleetPlan(config.pools),
            read=self._read_fleet,
            write=write_fleet,
            adopt=self._adopt_fleet,
            wall_clock=wall_clock,
            changed=partial(self._note, "fleet"),
        )
        self.recent = Recent(settings.recorded_requests, door.clock)
        door.record = self.recent.record
        self.live = Live(
            door, subject.overview, self.recent, settings.objective, self._versions, self._prices
        )
        tell_metrics(door.metrics, self.live, door.clock)
        self._policy_api = PolicyApi(self.policy, self.recent, self._fleet_as_it_is)
        self.operations = self._operations(door)
        self.routes: list[BaseRoute] = [
            *routes(self.operations, Token.of(secrets.admin_token), self._audit),
            *page_routes(),
        ]
        self._listening: _Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def has_own_port(self) -> bool:
        """Whether it listens apart from the callers."""
        return self.settings.port is not None or self.settings.host is not None

    async def port(self) -> int:
        """Return the port of its own, once it listens there; raises RuntimeError for none."""
        if self._listening is None:
            raise RuntimeError("administration has no port of its own")
        return await self._listening.port()

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Take up what was stored, and begin to count and to follow."""
        for ledger in (self.fleet, self.policy):
            await self._take_up(ledger)
        if isinstance(self._store("policy"), MemoryStore):
            logger.warning("changes are lost at a restart: there is no [state] and no [redis]")
        self._tasks = [group.create_task(self.live.run())]
        if self._redis is not None:
            self._tasks.append(group.create_task(self._follow()))
        if self.has_own_port:
            self._listening = _Listener(self._app(), self.settings, self._subject)
            group.create_task(self._listening.serve())

    async def _take_up(self, ledger: Ledger[Any]) -> None:
        """Take up what is stored; a Redis that is away must not keep a router from starting."""
        try:
            await ledger.start()
        except NotStored as error:
            if self._redis is None:
                raise
            fields = {"reason": str(error)}
            logger.warning("changes are taken up once Redis answers", extra=fields)

    async def stop(self) -> None:
        """Let go of everything."""
        self.live.close()
        await self._policy_api.close()
        if self._listening is not None:
            # Not cancelled: it has to close what it listens on.
            self._listening.should_exit = True
        for task in self._tasks:
            await end(task)
        if self._redis is not None:
            await self._redis.aclose()
        self._written.close()

    def _operations(self, door: Door) -> list[Operation]:
        fleet = FleetApi(
            self.fleet, lambda: door.dispatcher.endpoints, self._subject.probe, door.clock
        )
        return [
            *self._policy_api.operations(),
            *VersionsApi(self.policy, "/policy", "the policy").operations(),
            *fleet.operations(),
            *VersionsApi(self.fleet, "/fleet", "the fleet").operations(),
            *KeysApi(self._subject.access.office, self._wall_clock).operations(),
            *TrafficApi(door, self.recent, self.live).operations(),
            *VariantsApi(self.live).operations(),
            Operation("GET", "/openapi.json", "This interface, as OpenAPI", self._openapi, OBJECT),
        ]

    async def _openapi(self, _: Request) -> Response:
        return answer(openapi(self.operations))

    # documents

    def _store(self, name: str) -> Store:
        config = self._subject.config
        if self._redis is not None and config.redis is not None:
            return RedisStore(self._redis, config.redis.prefix, name)
        if config.state is not None:
            return FileStore(config.state.directory / f"{name}.jsonl")
        return MemoryStore()

    def _read_policy(self, document: dict[str, Any]) -> Policy:
        # The fleet may have changed since: a variant that is gone is served by the others.
        return read_policy(document)

    def _read_fleet(self, document: dict[str, Any]) -> FleetPlan:
        plan = read_fleet(document)
        secrets = SecretReader(self._environ)
        secrets.read(plan.pools, None, None)
        flaws = [
            *secrets.flaws,
            *out_of_bounds(plan, self._subject.config),
            *unusable_certificates(plan.pools),
        ]
        if flaws:
            raise ConfigError("", flaws)
        return plan

    def _adopt_policy(self, policy: Policy) -> None:
        self.live.count()
        self._subject.adopt_policy(policy)
        self.live.compared.follow()

    def _adopt_fleet(self, plan: FleetPlan) -> None:
        keys = SecretReader(self._environ).read(plan.pools, None, None).api_keys
        self._subject.adopt_fleet(plan.pools, plan.draining, keys)

    def _fleet_as_it_is(self) -> tuple[Sequence[Pool], dict[str, EndpointPlan]]:
        endpoints = self._subject.door.dispatcher.endpoints
        return self.fleet.value.pools, {id_: each.plan for id_, each in endpoints.items()}

    def _prices(self) -> dict[str, float]:
        """Return what endpoints cost an hour, where their labels say so."""
        endpoints = (each for pool in self.fleet.value.pools for each in pool.endpoints)
        prices = ((each.id, price_of(each)) for each in endpoints)
        return {id_: price for id_, price in prices if price is not None}

    def _versions(self) -> dict[str, Any]:
        return {
            "at": moment(self._wall_clock()),
            "policy_version": self.policy.version,
            "policy_etag": self.policy.etag,
            "fleet_version": self.fleet.version,
        }

    async def _follow(self) -> None:
        """Take up what other replicas change."""
        failing = False
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                for ledger in (self.fleet, self.policy):
                    if await ledger.follow():
                        logger.info("change of another replica taken up")
                failing = False
            except (NotStored, ConfigError) as error:
                if not failing:
                    logger.warning("changes cannot be followed", extra={"reason": str(error)})
                failing = True

    # what is written down

    def _audit(self, request: Request, status: int) -> None:
        author = author_of(request)
        self._written.write(
            "administration",
            {
                "method": request.method,
                "path": request.url.path.removeprefix(PREFIX),
                "status": status,
                "who": author.who,
                "origin": author.origin,
                "reason": author.reason,
                "policy_version": self.policy.version,
                "fleet_version": self.fleet.version,
            },
        )

    def _note(self, document: str, revision: Revision, differences: list[Difference]) -> None:
        self._written.write(
            "changed",
            {
                "document": document,
                "version": revision.version,
                "who": revision.who,
                "origin": revision.origin,
                "reason": revision.reason,
                "action": revision.action,
                "difference": shown(differences),
            },
        )

    def _app(self) -> Starlette:
        app = Starlette(routes=self.routes)
        app.router.redirect_slashes = False
        return app


class _Listener(uvicorn.Server):
    """Administration's own port."""

    def __init__(self, app: Starlette, settings: Admin, subject: Subject) -> None:
        certificates = subject.certificates
        context = None if certificates is None else certificates.context
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host or subject.config.server.host,
                ssl_context_factory=None if context is None else lambda *_: context,
                port=settings.port or 0,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=LAST_ANSWERS_S,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the server that callers are heard by."""
        yield

    async def port(self) -> int:
        """Return the port, once it listens."""
        while not self.started:  # noqa: ASYNC110 # uvicorn has no event that tells of it
            await asyncio.sleep(LISTENS_S)
        listening: int = self.servers[0].sockets[0].getsockname()[1]
        return listening
