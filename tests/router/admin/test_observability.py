"""What dashboards and alerts ask for is in a scrape of a router that had something to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engines.engine import Kind
from router.settings import Probes
from tests.e2e.caller import ask, chat
from tests.e2e.running import pool, until
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


async def test_each_metric_of_the_dashboard_and_the_alerts_exists_in_a_scrape():
    async with scripted_engine(streaming(CHUNK, CHUNK, USAGE)) as engine:
        engine.probed["/metrics"] = GAUGES
        async with administered(
            pool("bulk", engine, kind=Kind.VLLM), probes=Probes(health_s=0.05, load_s=0.05)
        ) as admin:
            await ask(admin.router.port, chat(stream=True))
            await ask(admin.router.port, {**chat(), "model": "unknown"})
            states = admin.router.router.dispatcher.endpoints
            await until(lambda: states["bulk-0"].load is not None)
            scrape = (await admin.client.get("/metrics")).text

    present = set(re.findall(r"^(headway_\w+?)(?:\{| )", scrape, flags=re.MULTILINE))
    assert asked_for() <= present


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
