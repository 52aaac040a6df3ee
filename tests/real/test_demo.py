"""`headway demo` as a person would run it, but shorter."""

import json
import subprocess
import sys

import pytest


@pytest.mark.timeout(90)
def test_the_demonstration_runs_for_so_long_and_says_what_it_saw():
    finished = subprocess.run(
        [sys.executable, "-m", "router", "demo", "--seconds", "15"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    said = json.loads(finished.stdout.splitlines()[-1])
    interactive = said["classes"]["interactive"]
    assert set(said["classes"]) == {"interactive", "standard", "bulk"}
    assert interactive["answered"] > 0
    assert not interactive["no_answer"]
    assert interactive["pools"].get("predictable", 0) > 0.5
    assert "curl -N" in finished.stdout
