"""The overhead bench on a small scale: real processes on loopback, a fraction of a second each."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.overhead import __main__ as command
from tests.bench.overhead import tools as toolbox
from tests.bench.overhead.drive import LoadFailed, Rig, load
from tests.bench.overhead.measure import CannotStart, Extent, engine, measured, started
from tests.bench.overhead.processes import cores, cpu_s, rss_mb, running, tree
from tests.bench.overhead.targets import DIRECT, TARGETS, Target, free_port
from tests.bench.overhead.tools import ROOT, CannotCompile, Tools, compiled, compiler, in_c

SMALL = Extent(
    repeats=1,
    seconds=0.05,
    warm_up_s=0.01,
    connections=3,
    streams=4,
    interval_us=2000,
    idle_streams=6,
    large_body_bytes=300_000,
)
CHAT = "/v1/chat/completions"
STAMPED = b"@"


@pytest.fixture(params=["C", "Python"])
def tools(request: pytest.FixtureRequest) -> Tools:
    if request.param == "Python":
        return toolbox.in_python()
    cc = compiler()
    if cc is None:
        pytest.skip("there is no C compiler on PATH")
    return in_c(cc)


@pytest.fixture
def engine_port(tools: Tools) -> Iterator[int]:
    with engine(tools, cores()) as (port, _):
        yield port


@pytest.fixture
def relay_port(engine_port: int) -> Iterator[int]:
    with started(TARGETS["bare"], engine_port, cores()) as subject:
        yield subject.port


@contextlib.contextmanager
def talking_to(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as talk:
        yield talk


def post(body: bytes, *headers: str) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "Host: engine", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_until(talk: socket.socket, end: bytes, times: int = 1) -> bytes:
    read = bytearray()
    seen = 0
    while seen < times:
        more = talk.recv(1 << 20)
        assert more, bytes(read[-1000:])
        looked_at = max(0, len(read) - len(end) + 1)
        read += more
        seen += read.count(end, looked_at)
    return bytes(read)


def ask(port: int, method: str, path: str, body: str = "") -> tuple[int, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as link:
        link.request(method, path, body)
        answer = link.getresponse()
        return answer.status, answer.read()


def streams_running(port: int) -> int:
    text = ask(port, "GET", "/metrics")[1].decode()
    (line,) = (one for one in text.splitlines() if one.startswith("vllm:num_requests_running"))
    return int(line.split()[1])


def test_every_figure_of_a_relay_is_measured_beside_the_direct_way(tools):
    steps: list[str] = []
    targets = [TARGETS[DIRECT], TARGETS["bare"]]

    record = measured(targets, tools, cores(), SMALL, steps.append)

    bare, direct = record.values["bare"], record.values[DIRECT]
    assert set(direct) == {"requests_per_s", "chunk_p50_ms", "p50_ms", "p99_ms"}
    assert set(bare) == {*direct, "request_us", "chunk_us", "large_us"} | {
        "rss_start_mb",
        "rss_streams_mb",
    }
    assert all(len(values) == 1 for values in (*bare.values(), *direct.values()))
    assert all(min(bare[name]) > 0 for name in ("request_us", "large_us", "rss_start_mb"))
    assert len(steps) == 5 * len(targets)
    assert set(record.values) == {DIRECT, "bare"}


def test_repeats_go_forwards_and_backwards_in_turn():
    cc = compiler()
    steps: list[str] = []
    extent = replace(SMALL, repeats=2)
    pair = [TARGETS[DIRECT], replace(TARGETS[DIRECT], name="again")]

    measured(pair, toolbox.in_python() if cc is None else in_c(cc), cores(), extent, steps.append)

    assert [step.rpartition(", ")[2] for step in steps[:2]] == [DIRECT, "again"]
    assert [step.rpartition(", ")[2] for step in steps[-2:]] == ["again", DIRECT]


def test_the_engine_answers_what_a_router_asks(engine_port):
    assert ask(engine_port, "GET", "/health")[0] == 200
    assert json.loads(ask(engine_port, "GET", "/version")[1]) == {"version": "mock"}
    (model,) = json.loads(ask(engine_port, "GET", "/v1/models")[1])["data"]
    assert (model["id"], model["max_model_len"]) == ("mock", 1_000_000)
    assert b"vllm:kv_cache_usage_perc" in ask(engine_port, "GET", "/metrics")[1]
    assert ask(engine_port, "GET", "/nowhere")[0] == 404


def test_an_answer_is_a_chat_completion_of_about_300_bytes(engine_port):
    status, body = ask(engine_port, "POST", CHAT, "{}")

    assert status == 200
    assert json.loads(body)["choices"][0]["finish_reason"] == "stop"
    assert 280 < len(body) < 330


@pytest.mark.parametrize(
    ("body", "headers", "events"),
    [
        ('{"stream":true,"mock_events":3,"mock_interval_us":100}', [], 3),
        ('{"stream": true, "mock_events": 4, "mock_interval_us": 0}', [], 4),
        ('{"stream":true}', ["X-Mock-Events: 5", "X-Mock-Interval-Us: 100"], 5),
        ('{"stream":true,"mock_events":3,"mock_interval_us":100}', ["X-Mock-Events: 2"], 2),
        ('{"stream":true,"mock_interval_us":1}', [], 64),
    ],
    ids=["body", "body with spaces", "headers", "headers win", "default"],
)
def test_a_stream_has_the_events_that_were_asked_for(engine_port, body, headers, events):
    with talking_to(engine_port) as talk:
        talk.sendall(post(body.encode(), *headers))
        read = read_until(talk, b"0\r\n\r\n")

    assert read.count(STAMPED) == events
    assert read.count(b"data: ") == events + 2
    assert b"data: [DONE]\n\n" in read


def test_a_request_in_pieces_and_one_after_a_stream_are_both_answered(engine_port):
    stream = post(b'{"stream":true,"mock_events":2,"mock_interval_us":100}')
    with talking_to(engine_port) as talk:
        talk.sendall(stream[:40])
        talk.sendall(stream[40:-5])
        talk.sendall(stream[-5:])
        read_until(talk, b"0\r\n\r\n")
        talk.sendall(post(b"{}"))

        assert b'"total_tokens":22}}' in read_until(talk, b"}}")


def test_the_relay_passes_an_answer_on_byte_for_byte(engine_port, relay_port):
    asked = post(b'{"messages":[]}', "Connection: keep-alive", "X-Other: kept")
    answers = []
    for port in (engine_port, relay_port):
        with talking_to(port) as talk:
            talk.sendall(asked)
            answers.append(read_until(talk, b'"total_tokens":22}}'))

    assert answers[0] == answers[1]


def test_the_relay_answers_pipelined_requests_one_after_the_other(relay_port):
    stream = post(b'{"stream":true,"mock_events":2,"mock_interval_us":100}')
    with talking_to(relay_port) as talk:
        talk.sendall(stream)
        read = read_until(talk, STAMPED)
        talk.sendall(post(b"{}"))
        talk.sendall(post(b"{}"))
        read += read_until(talk, b'"total_tokens":22}}', times=2)

    assert read.count(b"HTTP/1.1 200 OK") == 3
    assert read.index(b"0\r\n\r\n") < read.rindex(b"HTTP/1.1 200 OK")


def test_a_large_body_comes_through_the_relay_whole(relay_port):
    body = json.dumps({"stream": False, "content": "x" * 3_000_000})

    assert ask(relay_port, "POST", CHAT, body)[0] == 200


def test_when_a_caller_of_the_relay_leaves_the_engines_stream_ends(engine_port, relay_port):
    with talking_to(relay_port) as talk:
        talk.sendall(post(b'{"stream":true,"mock_events":1000000,"mock_interval_us":1000}'))
        read_until(talk, STAMPED, times=3)
        assert streams_running(engine_port) == 1

    while streams_running(engine_port):
        pass


def test_a_caller_who_reads_late_gets_all_and_the_relay_serves_on(relay_port):
    events = 60_000
    body = json.dumps({"stream": True, "mock_events": events, "mock_interval_us": 0})
    with talking_to(relay_port) as talk:
        talk.sendall(post(body.encode()))
        assert ask(relay_port, "POST", CHAT, "{}")[0] == 200
        read = read_until(talk, b"0\r\n\r\n")

    assert read.count(STAMPED) == events
    assert ask(relay_port, "POST", CHAT, "{}")[0] == 200


def test_the_relay_says_400_to_what_is_no_http(relay_port):
    with talking_to(relay_port) as talk:
        talk.sendall(b"nonsense\r\n\r\n")

        assert read_until(talk, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


@contextlib.contextmanager
def relay_without_engine() -> Iterator[int]:
    port = free_port()
    module = "tests.bench.overhead.bare_relay"
    ports = ["--port", str(port), "--engine-port", str(free_port())]
    with running([sys.executable, "-m", module, *ports], cores().proxy, cwd=ROOT) as relay:
        while relay.poll() is None:
            with contextlib.suppress(ConnectionRefusedError), talking_to(port):
                break
        yield port


def test_a_load_that_is_not_answered_with_200_fails_and_says_so(tools):
    with relay_without_engine() as port:
        rig = Rig(tools.load, os.getpid(), cores())

        with pytest.raises(LoadFailed, match="502"), load(rig, None, "closed", port, ()):
            pass


def test_a_load_stops_after_the_requests_it_was_given(tools, engine_port):
    rig = Rig(tools.load, os.getpid(), cores())
    options = ("--requests", 17, "--connections", 3, "--seconds", 10, "--header", "X-A: b")

    with load(rig, None, "closed", engine_port, options) as ready:
        assert ready.go().line.count == 17


def test_a_target_that_ends_at_once_is_reported_with_its_own_words(tmp_path):
    def command_of(place):
        return [sys.executable, "-c", "raise SystemExit('no such thing')"]

    target = Target("broken", "", command_of, lambda: None, str)

    with (
        pytest.raises(CannotStart, match=r"'broken' does not answer.*no such thing"),
        started(target, free_port(), cores()),
    ):
        pass


def test_costs_are_those_of_the_whole_tree():
    child = "import sys; x = sum(range(3_000_000)); print('ready', flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with running([sys.executable, "-c", parent], cores().proxy, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        assert len(tree(process.pid)) == 2
        assert cpu_s(process.pid) > 0.01
        assert rss_mb(process.pid) > 8


def test_a_process_that_will_not_stop_is_made_to(monkeypatch):
    monkeypatch.setattr("tests.bench.overhead.processes.STOP_WITHIN_S", 0.05)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"

    with running([sys.executable, "-c", deaf], cores().proxy) as process:
        assert process.stdout is not None
        process.stdout.readline()

    assert process.returncode == -signal.SIGKILL


def test_a_compiler_that_refuses_is_quoted(tmp_path):
    refusing = tmp_path / "cc"
    refusing.write_text("#!/bin/sh\necho 'it is Sunday' >&2\nexit 1\n")
    refusing.chmod(0o755)

    with pytest.raises(CannotCompile, match="it is Sunday"):
        compiled("load", str(refusing), tmp_path / "build")


def test_without_a_compiler_the_tools_are_in_python(monkeypatch):
    monkeypatch.setenv("PATH", "")

    assert toolbox.tools().language == "Python"


def test_the_command_measures_writes_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "QUICK", SMALL)
    monkeypatch.setattr(command, "BUILD", tmp_path / "build")
    out = tmp_path / "figures.json"

    status = command.main(
        ["--quick", "--targets", "direct,bare", "--repeats", "1", "--json", str(out)]
    )

    assert status == 0
    assert set(json.loads(out.read_text())["targets"]) == {DIRECT, "bare"}
    assert (tmp_path / "build" / "overhead.json").read_text() == out.read_text()
    assert "interleaved" in capsys.readouterr().out


def test_the_command_starts_as_a_module_and_shows_an_example():
    with tempfile.TemporaryFile() as log:
        shown = [sys.executable, "-m", "tests.bench.overhead", "--help"]
        with running(shown, cores().proxy, log=log, cwd=Path(ROOT)) as process:
            assert process.stdout is not None
            text = process.stdout.read()

    assert "example:" in text
    assert "--check" in text
