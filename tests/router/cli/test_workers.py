"""`headway serve` with several workers, and `headway replicas`, as processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from router.__main__ import main
from tests.fakes.redis_server import RedisServer, free_port, redis_server

pytestmark = pytest.mark.timeout(60)
PATIENCE_S = 30.0
CONFIG = """
[server]
port = {port}
workers = 2
access_log = "off"
[redis]
url = "{redis}"
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
endpoints = [{{ id = "e", engine = "openai", url = "http://127.0.0.1:9" }}]
"""


@pytest.fixture
def redis(tmp_path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def file(tmp_path, redis):
    path = tmp_path / "headway.toml"
    path.write_text(CONFIG.format(port=free_port(), redis=redis.url))
    return path


@contextmanager
def serving(file: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "router", "serve", str(file)]
    with subprocess.Popen(  # noqa: S603 - ourselves
        command, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def url(file: Path) -> str:
    port = re.search(r"port = (\d+)", file.read_text())
    assert port is not None
    return f"http://127.0.0.1:{port[1]}"


def wait_for(holds) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def fleet_of_two(file: Path):
    """Return whether both know of both: any one of them answers."""
    knowing = set()

    def holds():
        try:
            shown = httpx.get(f"{url(file)}/readyz", trust_env=False).json()["replicas"]
        except (httpx.HTTPError, KeyError):
            return False
        if shown["mode"] == "shared" and shown["count"] == 2:
            knowing.add(shown["replica"])
        return len(knowing) == 2

    return holds


def children(process: subprocess.Popen[str]) -> list[int]:
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_workers_are_replicas_and_stop_together(file, capsys):
    with serving(file) as process:
        wait_for(fleet_of_two(file))
        assert main(["replicas", url(file), "--json"]) == 0
        seen = json.loads(capsys.readouterr().out)
        assert main(["replicas", url(file)]) == 0
        table = capsys.readouterr().out
        assert main(["replicas", str(file), "--json"]) == 0
        on_board = json.loads(capsys.readouterr().out)
        assert main(["replicas", str(file)]) == 0
        process.terminate()
        assert process.wait(PATIENCE_S) == 0

    assert seen["count"] == 2
    assert set(on_board["replicas"]) == set(seen["replicas"])
    assert "shared, 2 replicas, share 1/2" in table


def test_a_worker_that_dies_is_replaced(file):
    with serving(file) as process:
        wait_for(fleet_of_two(file))
        before = children(process)
        time.sleep(2.0)  # one that dies at once is not
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: len(children(process)) == 2 and children(process) != before)
        wait_for(fleet_of_two(file))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        assert "worker 0 ended with status -9" in process.stderr.read()


def test_workers_that_cannot_live_end_the_command(file):
    file.write_text(file.read_text().replace('"off"', '"/nowhere/access.log"'))
    with serving(file) as process:
        assert process.wait(PATIENCE_S) == 1


def test_a_router_that_shares_nothing_says_so(file, redis, capsys):
    assert main(["replicas", "http://127.0.0.1:9"]) == 1
    redis.kill()
    assert main(["replicas", str(file)]) == 1
    alone = re.sub(r"(?s)workers = 2|\[redis\]\nurl = \"[^\"]*\"", "", file.read_text())
    file.write_text(alone)
    assert main(["replicas", str(file)]) == 1
    file.write_text("nonsense")
    assert main(["replicas", str(file)]) == 2

    assert "has no [redis] section" in capsys.readouterr().err
