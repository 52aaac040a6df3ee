"""What the overhead bench concludes from its values, and how it writes it down."""

import json
import re
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.markers import NoMarkers
from tests.bench.overhead import __main__ as command
from tests.bench.overhead import processes, targets
from tests.bench.overhead.measure import CannotStart, Extent, Record
from tests.bench.overhead.processes import Cores
from tests.bench.overhead.report import (
    BEGIN,
    END,
    document,
    embedded,
    markdown,
    terminal,
)
from tests.bench.overhead.summary import BOUNDS, doubts, judged, ratio, spread, with_added
from tests.bench.overhead.targets import TARGETS, Place

costs = st.floats(0.1, 1e6)
several = st.lists(costs, min_size=1, max_size=9)
PROXY = ("request_us", "chunk_us", "large_us", "rss_start_mb", "rss_streams_mb")


def values_with(request_us: float = 30.0) -> dict[str, dict[str, list[float]]]:
    """Values of a run in which the router keeps every bound, but for what is given."""
    proxy = {name: [20.0, 20.0] for name in PROXY}
    times = {"requests_per_s": [1000.0, 1000.0], "p50_ms": [0.3, 0.2], "p99_ms": [0.5, 0.5]}
    direct = {"requests_per_s": [9000.0, 9000.0], "p50_ms": [0.1, 0.1], "p99_ms": [0.2, 0.2]}
    own = proxy | times | {"request_us": [request_us, request_us]}
    return dict.fromkeys(TARGETS, proxy | times) | {"direct": direct, "headway": own}


def made(request_us: float = 30.0, foreign_share: float = 0.0):
    values = values_with(request_us)
    record = Record(values, [foreign_share])
    return document(record, list(TARGETS.values()), Extent(repeats=2), Cores(0, 1), "C")


@given(several)
def test_a_spread_lies_between_its_extremes(values):
    seen = spread(values)

    assert seen.low == min(values) <= seen.median <= max(values) == seen.high


@given(several, st.floats(0.1, 10), st.lists(st.floats(0.5, 2), min_size=9, max_size=9))
def test_a_drift_that_both_share_does_not_change_their_ratio(values, factor, drift):
    below = [value * slow for value, slow in zip(values, drift, strict=False)]
    above = [value * factor for value in below]
    both = {"a": {"x": above}, "b": {"x": below}}

    assert ratio(both, "x", "a", "b") == pytest.approx(factor)


@pytest.mark.parametrize(
    "values",
    [{}, {"a": {"x": [1.0]}}, {"b": {"x": [1.0]}}, {"a": {"x": [1.0]}, "b": {"x": [0.0]}}],
    ids=["neither", "only above", "only below", "nothing below"],
)
def test_there_is_no_ratio_of_what_was_not_measured(values):
    assert ratio(values, "x", "a", "b") is None


def test_what_a_proxy_adds_is_taken_repeat_by_repeat():
    whole = with_added({"direct": {"p50_ms": [1.0, 5.0]}, "nginx": {"p50_ms": [3.0, 6.0]}})

    assert whole["nginx"]["added_p50_ms"] == [2.0, 1.0]
    assert "added_p50_ms" not in whole["direct"]


def test_without_the_direct_way_nothing_is_said_of_what_is_added():
    assert with_added({"nginx": {"p50_ms": [3.0]}}) == {"nginx": {"p50_ms": [3.0]}}


@given(st.sampled_from(BOUNDS), st.floats(0.01, 1000), st.floats(0.1, 5))
def test_a_bound_is_held_up_to_its_own_value_and_no_further(bound, yardstick, factor):
    unit = yardstick if bound.beside else 1.0
    base = yardstick if bound.less else 0.0
    values = {
        bound.of: {bound.figure: [base + bound.most * factor * unit]},
        bound.beside or bound.less or "direct": {bound.figure: [yardstick]},
    }
    (verdict,) = judged(values, [bound])

    if abs(factor - 1) > 1e-3:
        assert verdict.held == (factor < 1)
    assert f"at most {bound.most:g}" in verdict.sentence()


def test_what_was_not_measured_is_no_bound_kept():
    verdicts = judged({"nginx": {"request_us": [1.0]}})

    assert not any(verdict.held for verdict in verdicts)
    assert all("not measured" in verdict.sentence() for verdict in verdicts)


def test_a_harness_that_is_the_bottleneck_is_named_but_not_beside_the_direct_way():
    def rates(bare):
        return {"direct": {"requests_per_s": [100.0]}, "bare": {"requests_per_s": [bare]}}

    (doubt,) = doubts(rates(95.0), [0.0], apart=True)

    assert doubts(rates(79.0), [0.0], apart=True) == []
    assert "bare came to 95% of the direct way's" in doubt


def test_busy_neighbours_and_a_single_core_are_named():
    neighbours, single = sorted(doubts({}, [0.1, 0.4, 0.5], apart=False))

    assert neighbours.startswith("other processes took 40%")
    assert single.startswith("proxy and harness share one core")


def test_the_document_survives_json():
    assert json.loads(json.dumps(made())) == made()


def test_the_markdown_table_has_one_row_a_target_and_as_many_cells_as_headings():
    lines = [line for line in markdown(made()).splitlines() if line.startswith("|")]

    assert [line.split("|")[1].strip() for line in lines[2:]] == list(TARGETS)
    assert len({line.count("|") for line in lines}) == 1
    assert "c=32" in lines[0]


def test_the_markdown_passes_doubts_on():
    assert "read with care: other processes" in markdown(made(foreign_share=0.5))
    assert "read with care" not in markdown(made())


def test_the_terminal_shows_the_ratios_beside_the_figures():
    figures, multiples = terminal(made())

    assert [column.header for column in figures.columns] == ["", *TARGETS]
    assert [column.header for column in multiples.columns[2:]] == [
        "headway / nginx",
        "headway / bare",
    ]
    assert "1.50 x" in list(multiples.columns[2].cells)


around = st.text().filter(lambda text: BEGIN not in text and END not in text)


@given(around, around, around)
def test_only_what_is_between_the_markers_changes(before, old, after):
    text = f"{before}{BEGIN}{old}{END}{after}"

    assert embedded(text, "new\n", "README.md") == f"{before}{BEGIN}\nnew\n{END}{after}"


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_file_without_both_markers_in_order_is_refused_by_name(text):
    with pytest.raises(NoMarkers, match=r"README\.md.*overhead:begin"):
        embedded(text, "new\n", "README.md")


@pytest.fixture
def figures(tmp_path):
    def write(**change: float):
        path = tmp_path / "overhead.json"
        path.write_text(json.dumps(made(**change)))
        return str(path)

    return write


def test_a_bound_that_is_not_kept_is_named_and_fails_the_check(figures, capsys):
    source = figures(request_us=100.0)

    assert command.main(["--from", source, "--check"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said == "headway falls short in CPU per request: 5.00 x nginx, at most 3.2 x nginx"
    assert command.main(["--from", source]) == 0


def test_a_run_that_keeps_every_bound_passes_the_check(figures):
    assert command.main(["--from", figures(), "--check"]) == 0


def test_doubts_are_said_but_fail_nothing(figures, capsys):
    assert command.main(["--from", figures(foreign_share=0.5), "--check"]) == 0
    assert "read with care" in capsys.readouterr().err


def test_the_readme_gets_the_table(figures, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Headway\n{BEGIN}\n{END}\nrest\n")

    assert command.main(["--from", figures(), "--write-readme", str(readme)]) == 0
    assert re.search(r"\| headway \| 30 \|.*\nrest\n$", readme.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--targets", "ngnix"],
            "no target 'ngnix'; known: direct, nginx, bare, bare-tuned, headway, headway-redis,",
        ),
        (["--targets", "direct", "--repeats", "0"], "at least 1"),
        (["--targets", "direct", "--seconds", "0"], "more than 0"),
        (["--from", "/nowhere.json"], "/nowhere.json"),
    ],
    ids=["target", "repeats", "seconds", "file"],
)
def test_what_cannot_be_asked_for_is_refused_with_what_can(arguments, words, capsys):
    assert command.main(arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_target_that_is_missing_is_left_out_and_said(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")

    assert command.main(["--targets", "nginx"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "nginx is left out: nginx is not on PATH" in said
    assert "none of them can run here" in said


def test_a_proxy_that_does_not_start_fails_the_run(monkeypatch, capsys):
    def refuse(*_):
        raise CannotStart("it will not")

    monkeypatch.setattr(command, "measured", refuse)

    assert command.main(["--targets", "direct"]) == 1
    assert "it will not" in capsys.readouterr().err


def test_being_told_to_terminate_unwinds():
    with pytest.raises(SystemExit) as left, command.ended_by_signal():
        signal.raise_signal(signal.SIGTERM)

    assert left.value.code == 128 + signal.SIGTERM


def test_the_configuration_of_nginx_is_one_that_nginx_accepts(tmp_path):
    if TARGETS["nginx"].missing() is not None:
        pytest.skip("nginx is not on PATH")
    asked = targets.nginx(Place(8080, 8000, tmp_path))

    checked = subprocess.run([*asked, "-t"], capture_output=True, text=True, check=False)  # noqa: S603 - the command under test

    assert checked.returncode == 0, checked.stderr
    assert re.fullmatch(r"\d+\.\d+\.\d+", TARGETS["nginx"].version())


def test_the_routers_configuration_has_two_pools_before_the_engine(tmp_path):
    *start, path = targets.from_source(Place(8080, 8000, tmp_path))
    config = tomllib.loads(Path(path).read_text())

    assert start[1:] == ["-m", "router", "serve"]
    assert config["server"] == {"host": "127.0.0.1", "port": 8080, "workers": 1}
    assert [pool["profile"] for pool in config["pools"]] == ["predictable", "throughput"]
    endpoints = [endpoint for pool in config["pools"] for endpoint in pool["endpoints"]]
    assert {endpoint["url"] for endpoint in endpoints} == {"http://127.0.0.1:8000"}
    assert min(endpoint["max_in_flight"] for endpoint in endpoints) > Extent().idle_streams


def test_without_schedstat_ticks_are_counted(tmp_path, monkeypatch):
    one = tmp_path / "7"
    (one / "task" / "7").mkdir(parents=True)
    (one / "task" / "7" / "children").write_text("")
    (one / "stat").write_text("7 (a) b) S " + "0 " * 10 + "150 50 0 0\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)

    assert processes.cpu_s(7) == 200 / processes.TICKS_A_SECOND
    assert processes.cpu_s(8) == 0
    assert processes.rss_mb(7) == 0
