"""`headway bench` as a person would run it."""

import json

import pytest

from router.__main__ import main
from tests.router.bench.emulated import emulated_engine

WORKLOAD = """\
about = "A few short questions."
duration_s = 1.0
warm_up_s = 0.1

[[traffic]]
name = "chat"
sla_class = "interactive"
rate = 30
prompt = "exp(50)"
output = "exp(10)"

[[traffic]]
name = "batch"
sla_class = "bulk"
rate = 5
prompt = "exp(50)"
output = "exp(10)"
"""


@pytest.fixture
def workload(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text(WORKLOAD)
    return str(path)


def test_two_targets_are_compared_on_the_same_requests(workload, tmp_path, capsys):
    page = tmp_path / "page.html"
    with emulated_engine() as url:
        status = main(
            ["bench", f"a={url}", f"b={url}", "--workload", workload, "--json", "--html", str(page)]
        )

    found = json.loads(capsys.readouterr().out)
    first, second = found["rows"]
    assert (first["name"], second["name"]) == ("a", "b")
    assert first["all"]["fates"] == second["all"]["fates"] == {"served": first["all"]["offered"]}
    assert first["all"]["output_tokens"] == second["all"]["output_tokens"]
    assert first["generator"]["lag_s"]["p99"] > 0
    valid = first["generator"]["valid"] and second["generator"]["valid"]
    assert status == (0 if valid else 1)
    assert "A few short questions." in page.read_text()


def test_the_table_and_the_validity_of_the_load_are_shown(workload, capsys):
    with emulated_engine() as url:
        main(["bench", f"a={url}", "--workload", workload, "--rate", "20,40"])

    shown = capsys.readouterr().out
    assert "A few short questions." in shown
    assert "Highest rate at an attainment" in shown
    assert "a at 20/s: " in shown


def test_troubles_are_told_in_words(workload, capsys):
    with emulated_engine() as url:
        main(["bench", f"a={url}", "--workload", workload, "--model", "other", "--seeds", "2"])

    assert "The model `other` does not exist" in capsys.readouterr().out


def test_a_generator_that_was_on_time_is_believed(workload, capsys, monkeypatch):
    monkeypatch.setattr("router.bench.drive.MOST_LAG_S", float("inf"))
    with emulated_engine() as url:
        status = main(["bench", f"a={url}", "--workload", workload])

    assert status == 0
    assert "a at 35/s: requests left on time" in capsys.readouterr().out


def test_a_generator_that_was_late_fails_the_command(workload, capsys, monkeypatch):
    monkeypatch.setattr("router.bench.drive.MOST_LAG_S", 0.0)
    with emulated_engine() as url:
        status = main(["bench", f"a={url}", "--workload", workload])

    assert status == 1
    assert "a at 35/s: not valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' is no target"),
        (["http://h", "http://h"], "give each a name of its own"),
        (["http://h", "--workload", "faults"], "breaks engines, which only a simulation can"),
        (["http://h", "--timeout", "0"], "--timeout must be more than 0 s, not 0"),
        (["http://h", "--api-key-env", "NO_SUCH"], "there is no variable 'NO_SUCH'"),
        (["http://h", "--rate", "fast"], "--rate 'fast' is no rate"),
        (["http://h", "--html", "/no/such/folder/x.html"], "there is no such folder"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_sent(arguments, message, capsys):
    status = main(["bench", *arguments])

    assert status == 2
    assert message in capsys.readouterr().err


def test_the_key_comes_from_the_variable(monkeypatch, workload, capsys):
    monkeypatch.setenv("BENCH_KEY", "sk-test")
    with emulated_engine() as url:
        main(["bench", f"a={url}", "--workload", workload, "--api-key-env", "BENCH_KEY", "--json"])

    shown = capsys.readouterr().out
    assert "sk-test" not in shown
    assert json.loads(shown)["rows"][0]["all"]["fates"].keys() == {"served"}
