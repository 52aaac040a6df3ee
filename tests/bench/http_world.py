"""A fleet over sockets: the router's own process before one process with all emulated engines."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engines.launch.child import child, free_port
from router.config import Config, describe
from router.settings import Endpoint, Level, Pool, Server
from router.simulation.contenders import Contender
from router.simulation.fleet import MODEL, Fleet

START_S = 30.0


@dataclass(slots=True)
class HttpWorld:
    """What runs."""

    url: str
    """The router's."""
    engine_urls: Sequence[str]
    lateness: dict[str, float] = field(default_factory=dict)
    """Of the engines' steps, `emulated_fleet.lateness`; known once everything has stopped."""


def configuration(fleet: Fleet, contender: Contender, port: int, ports: Sequence[int]) -> Config:
    """Return how a contender would have the router run before engines at these ports."""
    plans = contender.plans(fleet)
    urls = {
        plan.id: f"http://127.0.0.1:{engine_port}"
        for plan, engine_port in zip(plans, ports, strict=True)
    }
    pools = []
    for pool in fleet.document.pools:
        here = [plan for plan in plans if plan.pool == pool.name]
        endpoints = tuple(
            Endpoint(
                id=plan.id,
                engine=pool.engine,
                url=urls[plan.id],
                max_in_flight=plan.max_in_flight,
                weight=plan.weight,
                max_context_tokens=plan.max_context_tokens,
            )
            for plan in here
        )
        profile, slots = here[0].profile, here[0].max_in_flight
        pools.append(Pool(pool.name, profile, (MODEL,), endpoints, slots))
    server = Server(port=port, access_log="off", log_level=Level.WARNING)
    return Config(server=server, pools=tuple(pools), policy=contender.policy)


@contextmanager
def http_world(
    fleet_name: str, fleet: Fleet, contender: Contender, seed: int
) -> Iterator[HttpWorld]:
    """Run router and engines for as long as the block lasts; raises `ChildFailed`."""
    ports = [free_port() for _ in fleet.members]
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="headway-") as name:
        folder = Path(name)
        report, config_path = folder / "lateness.json", folder / "headway.toml"
        config_path.write_text(describe(configuration(fleet, contender, port, ports)))
        arguments = [fleet_name, "--seed", str(seed), "--report", str(report)]
        arguments += ["--ports", *map(str, ports)]
        world = HttpWorld(
            f"http://127.0.0.1:{port}", [f"http://127.0.0.1:{each}" for each in ports]
        )
        with child("tests.bench.emulated_fleet", arguments, folder / "engines.log") as engines:
            for engine_url in world.engine_urls:
                engines.wait_until_ready(f"{engine_url}/health", START_S)
            with child("router", ["serve", str(config_path)], folder / "router.log") as router:
                router.wait_until_ready(f"{world.url}/readyz", START_S)
                yield world
                router.must_run()
            engines.must_run()
        if report.exists():
            world.lateness.update(json.loads(report.read_text()))
