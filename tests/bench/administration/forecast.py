"""What a dry-run foretells of a change, and what then happens over sockets.

Real requests go through the router before emulated engines under one policy; a dry-run of what was
recorded foretells another; that one is applied, and the same requests go through again.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx

from engines.launch.child import child, free_port
from policies.facts import SlaClass
from router.bench.question import Target
from router.bench.run import Plan, measure
from router.config import Config, describe
from router.measure.tally import Tally
from router.settings import Admin
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import MODEL, Fleet, load_fleet
from tests.bench.administration.fleet import START_S, TOKEN
from tests.bench.anchors import CAPACITY, FLEET, SEED, workload
from tests.bench.http_world import configuration

LOAD: Final = 1.0
SECONDS: Final = 40.0
MOST_OFF: Final = 0.03
PATCH: Final = {"spill": {"to_throughput": False, "to_predictable": False}}


async def forecast(folder: Path, say: Callable[[str], None]) -> list[str]:
    """Compare a forecast with what happens; returns what falls short."""
    return await asyncio.to_thread(_forecast, folder, say)


def _forecast(folder: Path, say: Callable[[str], None]) -> list[str]:
    with _world(folder) as url, _client(url) as client:
        before = _run(url)
        told = client.post("/policy/dry-run", json={"patch": PATCH})
        told.raise_for_status()
        foretold = told.json()["outcomes"]["proposed"]["classes"]
        replayed = told.json()["outcomes"]["present"]["classes"]
        client.patch("/policy", json=PATCH, headers={"if-match": "*"}).raise_for_status()
        after = _run(url)
    short = []
    for sla_class in (SlaClass.INTERACTIVE, SlaClass.BULK):
        was, happens = (tally.classes[sla_class].attainment for tally in (before, after))
        said = foretold[sla_class]["attainment"]["mean"]
        again = replayed[sla_class]["attainment"]["mean"]
        say(
            f"{sla_class}: attained {100 * was:.1f} % before the change (replayed:"
            f" {100 * again:.1f} %); foretold {100 * said:.1f} %, then {100 * happens:.1f} %:"
            f" off by {100 * abs(said - happens):.1f} points (goal {100 * MOST_OFF:g})"
        )
        if abs(said - happens) > MOST_OFF:
            short.append(f"forecast: {sla_class} is off by {100 * abs(said - happens):.1f} points")
    return short


def _run(url: str) -> Tally:
    offered = replace(workload(LOAD, SECONDS), warm_up_s=0.0)
    plan = Plan([Target("router", url, MODEL)], offered, [LOAD * CAPACITY], [SEED])
    (run,) = measure(plan)
    return run.tally


def _client(url: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"{url}/admin/v1",
        headers={"authorization": f"Bearer {TOKEN}"},
        trust_env=False,
        timeout=120.0,
    )


@contextmanager
def _world(folder: Path) -> Iterator[str]:
    """Run the router with administration before emulated engines; yields its URL."""
    fleet = load_fleet(FLEET)
    ports, port = [free_port() for _ in fleet.members], free_port()
    (folder / "token").write_text(TOKEN)
    path = folder / "headway.toml"
    path.write_text(describe(_configuration(fleet, port, ports, folder)))
    arguments = [FLEET, "--seed", str(SEED), "--report", str(folder / "lateness.json")]
    arguments += ["--ports", *map(str, ports)]
    with child("tests.bench.emulated_fleet", arguments, folder / "engines.log") as engines:
        for each in ports:
            engines.wait_until_ready(f"http://127.0.0.1:{each}/health", START_S)
        with child("router", ["serve", str(path)], folder / "router.log") as router:
            url = f"http://127.0.0.1:{port}"
            router.wait_until_ready(f"{url}/readyz", START_S)
            yield url


def _configuration(fleet: Fleet, port: int, ports: list[int], folder: Path) -> Config:
    """Return how the router runs: its endpoints' labels say what engines they are."""
    config = configuration(fleet, CONTENDERS["headway"], port, ports)
    pools = []
    for pool in config.pools:
        document = next(each for each in fleet.document.pools if each.name == pool.name)
        flags = {name: str(value) for name, value in document.flags.items()}
        labels = {"timing": document.timing, **flags}
        endpoints = tuple(replace(each, labels=labels) for each in pool.endpoints)
        pools.append(replace(pool, endpoints=endpoints))
    return replace(config, pools=tuple(pools), admin=Admin(token_file=folder / "token"))
