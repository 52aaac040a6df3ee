import os
import select
import signal
import subprocess
import sys
import textwrap

import pytest

from engines.launch.child import Child, ChildFailed, child, free_port

STARTS_A_CHILD = """
import pathlib, sys
from engines.launch.child import Child

started = Child(sys.argv[1], sys.argv[2:-1], pathlib.Path(sys.argv[-1]))
print(started.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that a child can run, and return its name."""

    def write(source):
        (tmp_path / "a_module.py").write_text(textwrap.dedent(source))
        return "a_module"

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write


def is_over(pid, within_s):
    """Wait for the end of a process, whoever its parent is."""
    handle = os.pidfd_open(pid)
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


def test_a_child_runs_as_long_as_the_block_lasts(tmp_path):
    port = free_port()
    with child("http.server", ["--bind", "127.0.0.1", f"{port}"], tmp_path / "log") as server:
        server.wait_until_ready(f"http://127.0.0.1:{port}/", timeout_s=10)
        assert server.exit_code is None

    assert server.exit_code == -signal.SIGTERM
    assert b"GET / HTTP/1.1" in (tmp_path / "log").read_bytes()


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    port = free_port()
    words = ["http.server", "--bind", "127.0.0.1", f"{port}", str(tmp_path / "log")]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        [sys.executable, "-c", STARTS_A_CHILD, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()

        assert is_over(pid, within_s=10)


def test_a_child_that_will_not_end_is_killed(tmp_path, module):
    port = free_port()
    name = module(f"""
        import http.server, signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind="127.0.0.1")
        """)
    running = Child(name, [], tmp_path / "log")
    try:
        running.wait_until_ready(f"http://127.0.0.1:{port}/", timeout_s=10)
    finally:
        exit_code = running.stop(timeout_s=0.1)

    assert exit_code == -signal.SIGKILL


def test_a_child_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path, module):
    name = module("raise SystemExit('no weights in here')")

    with (
        child(name, [], tmp_path / "log") as running,
        pytest.raises(ChildFailed, match=r"(?s)a_module ended with exit code 1.*no weights"),
    ):
        running.wait_until_ready(f"http://127.0.0.1:{free_port()}/", timeout_s=10)


def test_a_child_that_never_answers_is_given_up(tmp_path, module):
    name = module("import sys; sys.stdout.write('thinking'); sys.stdout.flush(); input()")
    url = f"http://127.0.0.1:{free_port()}/"

    with (
        child(name, [], tmp_path / "log") as running,
        pytest.raises(ChildFailed, match=rf"a_module did not answer {url} within 0.05 s"),
    ):
        running.wait_until_ready(url, timeout_s=0.05)


def test_a_child_sees_its_own_arguments(tmp_path, module):
    name = module("import sys; raise SystemExit(str(sys.argv))")

    with (
        child(name, ["--port", "1"], tmp_path / "log") as running,
        pytest.raises(ChildFailed, match=r"a_module.py', '--port', '1'"),
    ):
        running.wait_until_ready(f"http://127.0.0.1:{free_port()}/", timeout_s=10)
