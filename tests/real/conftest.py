"""A real llama.cpp with two slots, and the router before it, both for the whole session."""

from pathlib import Path

import openai
import pytest

from engines.launch.child import child, free_port
from engines.launch.llamacpp import MODEL, llamacpp
from engines.launch.profiles import Profile
from router.demo.stage import ROUTER_START_S, Pool, configuration, warm_up

SLOTS = 2


@pytest.fixture(scope="session")
def engine_url(tmp_path_factory):
    """Where the engine is; it has 2 slots, computes on one core, and can call tools."""
    log_path = tmp_path_factory.mktemp("engine") / "log"
    with llamacpp(
        port=free_port(),
        profile=Profile.PREDICTABLE,
        slots=SLOTS,
        log_path=log_path,
        more=["--chat-template-file", str(Path(__file__).with_name("tools.jinja"))],
    ) as engine:
        warm_up(engine.url)
        yield engine.url


@pytest.fixture(scope="session")
def router_url(engine_url, tmp_path_factory):
    """Where the router is: a process of its own with one pool, and that engine in it."""
    folder = tmp_path_factory.mktemp("router")
    port = free_port()
    pool = Pool("real", Profile.PREDICTABLE, engine_url, SLOTS)
    config_path = folder / "headway.toml"
    config_path.write_text(configuration(port, [pool]))
    with child("router", ["serve", str(config_path)], folder / "log") as router:
        url = f"http://127.0.0.1:{port}"
        router.wait_until_ready(f"{url}/readyz", ROUTER_START_S)
        yield url


@pytest.fixture(scope="session")
def model():
    """Return the public name of what the engine serves."""
    return MODEL


@pytest.fixture
def client(router_url):
    """Use the SDK as people do, but see a refusal at once."""
    with openai.OpenAI(base_url=f"{router_url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk
