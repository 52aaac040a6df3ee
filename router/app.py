"""Builds every object of a router once, and hands each its clock, its randomness and its limits."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

import uvicorn
from starlette.applications import Starlette

from engines.engine import Dialect, Discovery, Engine, EngineLoad, Kind
from policies.dispatcher import Dispatcher
from policies.facts import EndpointPlan
from router.config import Config
from router.credentials import Secrets
from router.door import Door
from router.endpoint import Endpoint
from router.log import AccessLog
from router.metrics import Metrics
from router.settings import Endpoint as EndpointSettings, Pool as PoolSettings, Tls
from router.site import site
from router.wire.inbound import Inbound
from router.wire.upstream import Pool, address

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
        self._rng = rng
        self._plans = {
            endpoint.id: plan(pool, endpoint, engines[endpoint.engine])
            for pool in config.pools
            for endpoint in pool.endpoints
        }
        self.door = Door(
            dispatcher=Dispatcher(self._plans.values(), config.policy, rng),
            endpoints={},
            metrics=self.metrics,
            access_log=access_log,
            limits=config.server.limits,
            timeouts=config.timeouts,
            clock=clock,
            new_id=lambda: os.urandom(16).hex(),
            show_routing=config.server.show_routing,
        )
        self.app = Starlette()
