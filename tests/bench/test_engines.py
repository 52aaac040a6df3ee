"""The order of the parts, and what becomes of one that falls short."""

import importlib.util

import pytest

from tests.bench import engines
from tests.bench.engines import PARTS, run


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.module)
def test_every_part_is_a_module(part):
    assert importlib.util.find_spec(f"tests.bench.{part.module}") is not None


def test_all_parts_are_run_in_order_whatever_comes_of_the_first():
    commands: list[list[str]] = []

    def status_of(command: list[str]) -> int:
        commands.append(command)
        return int("tests.bench.calibration" in command)

    short = run(PARTS, quick=False, status_of=status_of)

    assert [command[1:] for command in commands] == [
        ["-m", "tests.bench.calibration", "--runs", "9", "--jobs", "2"],
        ["-m", "tests.bench.simulation_speed"],
        ["-m", "tests.bench.anchors"],
        ["-m", "tests.bench.generator"],
    ]
    assert short == ["The emulated H100 against the measured one: ended with 1"]


def test_a_look_is_asked_for_part_by_part():
    commands: list[list[str]] = []

    def status_of(command: list[str]) -> int:
        commands.append(command)
        return 0

    assert run(PARTS, quick=True, status_of=status_of) == []
    assert [command[3:] for command in commands] == [["--runs", "3"], [], ["--quick"], ["--quick"]]


@pytest.mark.parametrize(("status", "ends_with"), [(0, 0), (2, 1)])
def test_the_command_fails_where_a_part_does(status, ends_with, monkeypatch, capsys):
    monkeypatch.setattr(engines, "_status", lambda _command: status)

    assert engines.main(["--quick"]) == ends_with
    assert ("Everything holds." in capsys.readouterr().out) is (not ends_with)


def test_single_parts_can_be_asked_for(monkeypatch):
    commands: list[list[str]] = []

    def status_of(command: list[str]) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(engines, "_status", status_of)

    assert engines.main(["--only", "anchors"]) == 0
    assert [command[2] for command in commands] == ["tests.bench.anchors"]
