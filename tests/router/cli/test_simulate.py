"""`headway simulate` as a person would run it."""

import json

import pytest

from router.__main__ import main

BREAKING = """\
duration_s = 8
warm_up_s = 0
[[traffic]]
name = "chat"
rate = 30
lengths = "azure_conv_lengths"
[[faults]]
endpoint = "throughput-0"
fault = "dead"
at_s = 3
until_s = 5
"""
SHORT = ["--seconds", "8", "--fleet", "h100-8b"]


def said(capsys, *arguments: str) -> str:
    status = main(["simulate", *SHORT, *arguments])
    shown = capsys.readouterr()

    assert status == 0, shown.err
    return str(shown.out)


def test_policies_stand_side_by_side(capsys):
    shown = said(capsys)

    assert "Chat that somebody watches" in shown
    for name in ("headway", "least_busy", "round_robin"):
        assert name in shown


def test_the_same_command_gives_the_same_bytes(capsys):
    arguments = ["--policy", "headway,random", "--rate", "60", "--seeds", "2", "--json"]

    assert said(capsys, *arguments) == said(capsys, *arguments)


@pytest.mark.timeout(60)  # processes start slowly on a busy machine
def test_all_processors_give_the_bytes_that_one_gives(capsys):
    arguments = ["--policy", "headway,random", "--json"]

    assert said(capsys, *arguments) == said(capsys, *arguments, "--jobs", "0")


def test_json_has_rows_intervals_differences_and_highest_rates(capsys):
    found = json.loads(
        said(capsys, "--policy", "headway,random", "--rate", "40,60", "--seeds", "2", "--json")
    )

    assert [(row["name"], row["rate"]) for row in found["rows"]] == [
        ("headway", 40.0),
        ("random", 40.0),
        ("headway", 60.0),
        ("random", 60.0),
    ]
    attainment = found["rows"][0]["classes"]["interactive"]["attainment"]
    assert attainment["low"] <= attainment["mean"] <= attainment["high"]
    assert [each["name"] for each in found["differences"]] == ["random", "random"]
    assert {each["attainment"] for each in found["highest_rates"]} == {0.9, 0.99}
    assert found["seeds"] == [1, 2]
    assert found["fleet"]["pools"][0]["flags"]["max_batch_prefill_tokens"] == 4096
    assert found["rows"][0]["usd_per_million_output_tokens"] > 0
    assert set(found["rows"][0]["mean_in_flight"]) == {
        "predictable-0",
        "predictable-1",
        *(f"throughput-{number}" for number in range(4)),
    }


def test_several_rates_and_seeds_are_shown_with_where_the_mean_may_lie(capsys):
    shown = said(capsys, "--policy", "headway", "--rate", "40:60:20", "--seeds", "2")

    assert "2 seeds" in shown
    assert "100.0 (100.0-100.0)" in shown
    assert "Highest rate at an attainment" in shown


def test_pictures_and_a_page_are_written(tmp_path, capsys):
    page, curve, line = tmp_path / "p.html", tmp_path / "c.svg", tmp_path / "l.png"

    said(capsys, "--policy", "headway", "--html", str(page), "--picture", str(curve))
    said(capsys, "--policy", "headway", "--rate", "20,40", "--picture", str(line))

    assert "<svg" in page.read_text()
    assert curve.read_text().startswith("<?xml")
    assert line.read_bytes().startswith(b"\x89PNG")


def test_burstiness_can_be_asked_for(capsys):
    calm = json.loads(said(capsys, "--policy", "headway", "--cv", "0", "--json"))
    wild = json.loads(said(capsys, "--policy", "headway", "--cv", "4", "--json"))

    assert calm["workload"]["traffic"][0]["cv"] == 0.0
    assert (
        wild["rows"][0]["all"]["first_token_s"]["p99"]
        > (calm["rows"][0]["all"]["first_token_s"]["p99"])
    )


def test_what_breaks_in_the_workload_breaks_in_the_fleet(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(BREAKING)
    status = main(["simulate", "--workload", str(path), "--policy", "least_busy", "--json"])

    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert status == 0
    assert row["all"]["fates"]["failed"] > 0
    assert row["all"]["attempts_per_request"] > 1.0


def test_the_bar_is_told_how_far_each_run_is(monkeypatch):
    told: list[float] = []
    monkeypatch.setattr(
        "rich.progress.Progress.update", lambda _self, _task, **keys: told.append(keys["completed"])
    )

    main(["simulate", "--seconds", "30", "--policy", "headway,random", "--json"])

    assert told == sorted(told)
    assert 55.0 < told[-1] <= 60.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fleet", "h100"], "unknown fleet 'h100'"),
        (["--workload", "mixt"], "unknown workload 'mixt'"),
        (["--policy", "hedway"], "unknown policy 'hedway'"),
        (["--policy", "headway,headway"], "give one or more, each once"),
        (["--policy", ","], "give one or more, each once"),
        (["--rate", "0"], "--rate '0' is no rate"),
        (["--cv", "-1"], "--cv must be 0 to 20, not -1"),
        (["--seconds", "-1"], "--seconds must be more than 0, not -1"),
        (["--seeds", "0"], "--seeds must be 1 or more, not 0"),
        (["--scrape", "0"], "--scrape must be more than 0 s, not 0"),
        (["--jobs", "-1"], "--jobs must be 1 or more, or 0 for all processors, not -1"),
        (["--picture", "x.gif"], "'x.gif' is no picture"),
        (["--picture", "/no/such/folder/x.svg"], "there is no such folder"),
        (
            ["--workload", "faults", "--fleet", "h100-8b-priority", "--fleet", "small-70b"],
            "the workload breaks endpoint 'throughput-2', which the fleet has not; it has",
        ),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence(arguments, message, capsys):
    status = main(["simulate", *arguments])

    assert status == 2
    assert message in capsys.readouterr().err


def test_a_trace_that_is_wrong_is_told(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\nx,1,1\n")
    path = tmp_path / "mine.toml"
    path.write_text('[[traffic]]\nname = "a"\ntrace = "t.csv"\n')

    status = main(["simulate", "--workload", str(path)])

    assert status == 2
    assert "t.csv, line 3: column 'arrival_s' is 'x', not a time" in capsys.readouterr().err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])

    assert "headway simulate --fleet h100-8b-classic-tgi" in capsys.readouterr().out
