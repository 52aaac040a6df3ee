"""The command line: the table of commands, and `headway check`."""

import json
import runpy
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec

import pytest

from router import version
from router.__main__ import COMMANDS, main

RIGHT = """
[[pools]]
name = "fast"
profile = "predictable"
models = ["llama"]
endpoints = [{ engine = "tgi", url = "http://10.0.0.1:8000" }]
"""


def failed(*words: str) -> int:
    """Run a command line that argparse ends; returns its exit status."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def right(tmp_path):
    path = tmp_path / "headway.toml"
    path.write_text(RIGHT)
    return path


@pytest.fixture
def wrong(tmp_path):
    path = tmp_path / "headway.toml"
    path.write_text(RIGHT + "[server]\nprot = 1\nworkers = 0")
    return path


def test_a_right_file_is_shown_with_its_defaults(right, capsys):
    assert main(["check", str(right)]) == 0
    shown = capsys.readouterr().out
    assert 'url = "http://10.0.0.1:8000"' in shown
    assert "port = 8080" in shown


def test_a_script_gets_a_right_file_as_json(right, capsys):
    assert main(["check", str(right), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["valid"], shown["file"]) == (True, str(right))
    assert shown["config"]["pools"][0]["endpoints"][0]["id"] == "fast-0"


def test_every_mistake_is_shown_and_the_status_says_so(wrong, capsys):
    assert main(["check", str(wrong)]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.splitlines() == [
        "headway.toml.server.workers: must be 1 or more, not 0",
        "headway.toml.server: unknown key 'prot'; known: port",
    ]


def test_a_script_gets_every_mistake_with_its_place(wrong, capsys):
    assert main(["check", str(wrong), "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "valid": False,
        "file": str(wrong),
        "errors": [
            {"place": "server.workers", "message": "must be 1 or more, not 0"},
            {"place": "server", "message": "unknown key 'prot'; known: port"},
        ],
    }


def test_help_lists_every_command(capsys):
    assert failed("--help") == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"{name:<10}{command.summary}" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chek"], "unknown command 'chek'; did you mean 'check'?"),
        (["zzz"], f"unknown command 'zzz'; commands: {', '.join(COMMANDS)}"),
        ([], "the following arguments are required: command"),
    ],
)
def test_a_command_that_is_not_there_is_told_which_are(words, said, capsys):
    assert failed(*words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", [name for name, command in COMMANDS.items() if find_spec(command.module)]
)
def test_the_help_of_a_command_shows_a_worked_example(name, capsys):
    assert failed(name, "--help") == 0
    assert f"  headway {name} " in capsys.readouterr().out


def test_the_package_runs_as_a_command(monkeypatch, right, capsys):
    monkeypatch.setattr("sys.argv", ["headway", "check", str(right)])
    monkeypatch.delitem(sys.modules, "router.__main__")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("router", run_name="__main__")

    assert caught.value.code == 0
    assert "port = 8080" in capsys.readouterr().out


def test_the_version_is_said(capsys):
    assert failed("--version") == 0
    assert capsys.readouterr().out == f"headway {version.headway_version()}\n"


def test_a_checkout_that_was_not_installed_has_no_version(monkeypatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    assert version.headway_version() == "unknown"
