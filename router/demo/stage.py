"""The servers of the demonstration: two real engines, one a profile, and the router before them."""

import http.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines.engine import Kind
from engines.launch.child import Child, child, free_port, require_free
from engines.launch.llamacpp import MODEL, llamacpp
from engines.launch.profiles import SHAPES, Profile

ROUTER_START_S = 30.0
POLICY = """
# Two CPU cores are slow, so callers wait longer than they would for a GPU; and of two slots a bulk
# answer would take half the engine for half a minute, so it gets none.
[policy.classes.interactive]
max_wait_s = 20.0

[policy.classes.standard]
max_wait_s = 120.0

[policy.classes.bulk]
max_wait_s = 300.0

[policy.profiles.predictable.holds.bulk]
share = 0.0
"""
"""What the demonstration changes in the routing policy."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool with one llama.cpp engine, as the router's configuration has it."""

    name: str
    profile: Profile
    engine_url: str
    slots: int


@dataclass(frozen=True, slots=True)
class Stage:
    """All that runs."""

    url: str
    """The router's, without `/v1`."""
    pools: Sequence[Pool]
    servers: Sequence[Child]
    """Every process, the router last."""


@contextmanager
def stage(folder: Path, port: int, say: Callable[[str], None]) -> Iterator[Stage]:
    """Run the engines and the router for as long as the block lasts; logs go to `folder`.

    Raises `EngineMissing` or `ChildFailed`, whose messages are for the person at the terminal.
    """
    with ExitStack() as running:
        require_free(port)
        pools, servers = [], []
        for profile in Profile:
            slots = SHAPES[Kind.LLAMACPP, profile].slots
            say(f"starting llama.cpp for the {profile} pool, {slots} slots")
            engine = running.enter_context(
                llamacpp(port=free_port(), profile=profile, log_path=folder / f"{profile}.log")
            )
            warm_up(engine.url)
            pools.append(Pool(profile.value, profile, engine.url, slots))
            servers.append(engine.process)
        config_path = folder / "headway.toml"
        config_path.write_text(configuration(port, pools) + POLICY)
        say(f"starting the router with {config_path}")
        router = running.enter_context(router_process(config_path, folder / "router.log"))
        url = f"http://127.0.0.1:{port}"
        router.wait_until_ready(f"{url}/readyz", ROUTER_START_S)
        yield Stage(url, pools, (*servers, router))


def router_process(config_path: Path, log_path: Path) -> AbstractContextManager[Child]:
    """Run `headway serve` with a configuration."""
    return child("router", ["serve", str(config_path)], log_path)


def configuration(port: int, pools: Sequence[Pool]) -> str:
    """Return the router's configuration file for these pools."""
    return f'[server]\nhost = "127.0.0.1"\nport = {port}\n' + "".join(
        f"""
[[pools]]
name = "{pool.name}"
profile = "{pool.profile}"
models = ["{MODEL}"]
endpoints = [
  {{ id = "llamacpp-{pool.name}", engine = "llamacpp", url = "{pool.engine_url}", \
max_in_flight = {pool.slots} }},
]
"""
        for pool in pools
    )


def warm_up(engine_url: str) -> None:
    """Have an engine answer once: its first answer pages the weights in, and takes half a second."""
    connection = http.client.HTTPConnection(engine_url.removeprefix("http://"), timeout=30.0)
    connection.request("POST", "/completion", '{"prompt": "Hello", "n_predict": 2}')
    connection.getresponse().read()
    connection.close()
