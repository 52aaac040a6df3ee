"""What dashboards and alerts ask for is in a scrape of a router that had something to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engines.engine import Kind
from policies.policy import ModelPolicy, Policy, Shadow, Variant
from router.settings import Probes, Redis
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool, until
from tests.fakes.redis_server import redis_server
from tests.fakes.scripted import scripted_engine, streaming
from tests.router.admin.asking import administered

FOLDER = Path(__file__).parents[3] / "deploy" / "observability"
CHUNK = b'{"choices":[{"delta":{"content":"a"}}]}'
USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
GAUGES = (
    b"vllm:num_requests_running 1\nvllm:num_requests_waiting 2\nvllm:gpu_cache_usage_perc 0.5\n"
    b"vllm:kv_cache_usage_perc 0.5\n"
)


def asked_for() -> set[str]:
    """Return every metric that is named in an expression."""
    board = json.loads((FOLDER / "grafana.json").read_text())
    texts = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    texts.append((FOLDER / "alerts.yml").read_text())
    return {name for text in texts for name in re.findall(r"(?<![\w:])headway_\w+", text)}


@pytest.mark.timeout(60)
async def test_each_metric_of_the_dashboard_and_the_alerts_exists_in_a_scrape(tmp_path):
    policy = Policy(
        models={
            "m": ModelPolicy(
                variants={"new": Variant(0.5, endpoints=("bulk-0",))},
                shadow=Shadow(1.0, endpoints=("bulk-1",)),
            )
        }
    )
    async with scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as engine:
        engine.probed["/metrics"] = GAUGES
        with redis_server(tmp_path) as redis:
            async with administered(
                pool("bulk", engine, engine, engine, kind=Kind.VLLM),
                probes=Probes(health_s=0.05, load_s=0.05),
                policy=policy,
                redis=Redis(redis.url),
                within_s=50,
            ) as admin:
                for _ in range(4):
                    await ask(admin.router.port, chat(stream=True))
                await ask(admin.router.port, {**chat(), "model": "unknown"})
                states = admin.router.router.dispatcher.endpoints
                await until(lambda: states["bulk-0"].load is not None)
                admin.router.router._transitions.look(states)
                await admin.send("POST", "/pools/bulk/endpoints/bulk-2/drain")
                admin.router.router._transitions.look(states)
                await admin.send("POST", "/pools/bulk/endpoints/bulk-2/undrain")
                admin.router.router._transitions.look(states)
                scrape = (await admin.client.get("/metrics")).text

    present = set(re.findall(r"^(headway_\w+?)(?:\{| )", scrape, flags=re.MULTILINE))
    assert asked_for() - present == set()
    assert re.search(
        r'^headway_health_transitions_total\{endpoint="bulk-2",state="draining"\} 1',
        scrape,
        re.MULTILINE,
    )
    counted = re.findall(
        r'^headway_decisions_total\{.*class="standard"\} (\d+)', scrape, re.MULTILINE
    )
    assert sum(map(int, counted)) == 4
    assert re.search(
        r'^headway_endpoint_state\{.*endpoint="bulk-2",state="up"\} 1', scrape, re.MULTILINE
    )


async def test_an_endpoint_that_is_taken_out_is_forgotten():
    async with (
        scripted_engine(streaming(CHUNK, USAGE)) as engine,
        administered(pool("bulk", engine, engine)) as admin,
    ):
        router = admin.router.router
        await admin.send("POST", "/pools/bulk/endpoints/bulk-1/drain")
        router._transitions.look(router.dispatcher.endpoints)
        await admin.send("DELETE", "/pools/bulk/endpoints/bulk-1")
        scrape = (await admin.client.get("/metrics")).text

    assert [line for line in scrape.splitlines() if "bulk-1" in line] == []


@pytest.mark.parametrize(
    "words", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_finds_nothing_wrong_with_the_alerts(words):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: it comes with Prometheus")

    done = subprocess.run(  # noqa: S603 # a tool of the system
        [promtool, *words], cwd=FOLDER, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
