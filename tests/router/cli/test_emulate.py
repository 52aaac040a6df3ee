"""`headway emulate`: what a command line means, and that it serves until it is interrupted."""

import argparse
import signal
import subprocess
import sys

import httpx
import pytest

from engines.emulator.spec import LlamaCpp, Policy, Sglang, Tgi, Vllm
from router.cli import emulate


def parsed(*words):
    parser = argparse.ArgumentParser()
    emulate.add_arguments(parser)
    return parser.parse_args(words)


def test_several_engines_listen_at_successive_ports():
    engines = emulate.engines_of(parsed("--port", "9000", "--count", "3", "--kind", "tgi"))

    assert [(one.name, one.port) for one in engines] == [
        ("tgi-0", 9000),
        ("tgi-1", 9001),
        ("tgi-2", 9002),
    ]
    assert all(isinstance(one.spec.knobs, Tgi) for one in engines)


def test_free_ports_are_free_for_all():
    assert {one.port for one in emulate.engines_of(parsed("--port", "0", "--count", "2"))} == {0}


@pytest.mark.parametrize(
    ("kind", "settings", "knobs"),
    [
        (
            Vllm,
            ["max_num_seqs=32", "scheduling-policy=priority", "max_num_queued_reqs=5"],
            Vllm(max_num_seqs=32, scheduling_policy=Policy.PRIORITY, max_num_queued_reqs=5),
        ),
        (Vllm, ["--async-scheduling=off"], Vllm(async_scheduling=False)),
        (Vllm, ["max_num_queued_reqs=none"], Vllm()),
        (
            Tgi,
            ["waiting_served_ratio=1.2", "prefill_chunking=no"],
            Tgi(prefill_chunking=False, waiting_served_ratio=1.2),
        ),
        (Sglang, ["enable_mixed_chunk=true"], Sglang(enable_mixed_chunk=True)),
        (LlamaCpp, ["n_parallel=2"], LlamaCpp(n_parallel=2)),
    ],
)
def test_settings_have_the_engines_own_names(kind, settings, knobs):
    assert emulate.knobs_of(kind, settings) == knobs


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("slots=3", "no setting 'slots'; known: max_num_seqs, "),
        ("max_num_seqs=many", "--set max_num_seqs=many: must be something like 1024"),
        ("async_scheduling=maybe", "must be something like True"),
        ("scheduling_policy=lifo", "must be something like fcfs"),
        ("max_num_queued_reqs=x", "must be a whole number"),
    ],
)
def test_a_wrong_setting_is_told_what_would_be_right(setting, said, capsys):
    assert emulate.run(parsed("--set", setting)) == 2
    assert said in capsys.readouterr().err


def test_time_must_pass(capsys):
    assert emulate.run(parsed("--pace", "0")) == 2
    assert "--pace 0.0: must be above 0" in capsys.readouterr().err


def test_it_serves_until_it_is_interrupted():
    command = [sys.executable, "-m", "router", "emulate", "--port", "0", "--pace", "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (our own command)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            body = {"prompt": "x", "max_tokens": 2}
            answer = httpx.post(f"{url}/v1/completions", json=body)
            process.send_signal(signal.SIGINT)
            assert answer.json()["usage"]["completion_tokens"] == 2
            assert process.wait(10) == 0
        finally:
            process.kill()
