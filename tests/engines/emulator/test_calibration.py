"""The emulated H100 against the measured one: a few rows here, all of them in the command."""

import csv
from dataclasses import replace
from random import Random

import pytest

from engines.emulator.profiles import H100_8B
from engines.emulator.timing import Clockwork
from tests.bench import calibration, gpu_load
from tests.bench.calibration import Comparison, Verdict, compare, explained
from tests.bench.gpu_load import DATA

ROWS = {row.name: row for row in calibration.rows()}
QUICK = (
    "unloaded A 512",
    "unloaded B 8000",
    "closed A 8",
    "closed B 8",
    "poisson A 8",
    "mixed A 0",
)


def table(name):
    with (DATA / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", QUICK)
def test_the_emulated_figures_are_the_measured_ones(name):
    comparisons = compare(ROWS[name], 3)

    assert not [c for c in comparisons if c.verdict is Verdict.SHORT]


def test_an_engine_of_half_the_speed_falls_short(monkeypatch):
    slow = replace(H100_8B, base_s=2 * H100_8B.base_s, per_prefill_s=2 * H100_8B.per_prefill_s)
    monkeypatch.setattr(gpu_load, "H100_8B", slow)

    short = {c.figure for c in compare(ROWS["closed A 8"], 2) if c.verdict is Verdict.SHORT}

    assert {"itl_p50", "output_rate"} <= short


def test_chunks_of_2048_halve_the_stall_and_priority_ends_the_queue_of_a_burst():
    calm, _ = gpu_load.mixed("A", 0, 1)
    default, _ = gpu_load.mixed("A", 16, 1)
    chunked, _ = gpu_load.mixed("B2", 16, 1)
    by_arrival, _ = gpu_load.burst("A", 1, priority=False)
    by_priority, _ = gpu_load.burst("B2", 1, priority=True)

    assert calm.itl_p99 < chunked.itl_p99 < 0.8 * default.itl_p99
    assert by_priority.ttft_p99 < 0.1 * by_arrival.ttft_p99


@pytest.mark.parametrize(
    "row", table("decode.csv"), ids=lambda row: f"{row['sequences']}x{row['kv_per_sequence']}"
)
def test_a_decode_step_takes_as_long_as_was_measured(row):
    sequences, each = int(row["sequences"]), int(row["kv_per_sequence"])
    clockwork = Clockwork(H100_8B, 512, Random(0))

    seconds = clockwork.decode_base_s(sequences) + clockwork.per_kv_s * sequences * each

    assert 1e3 * seconds == pytest.approx(float(row["step_ms"]), rel=0.08)


@pytest.mark.parametrize(
    "row", table("launches.csv"), ids=lambda row: f"{row['engine']} {row['class']}"
)
def test_a_launch_takes_as_long_as_was_measured(row):
    launch = getattr(H100_8B, row["class"])

    assert 1e3 * launch.busy_s == pytest.approx(float(row["p50"]), rel=0.25)


def test_every_exception_names_a_figure_that_is_compared():
    known = {f"{row.name} {figure}" for row in ROWS.values() for figure in row.measured}

    assert set(calibration.KNOWN) <= known


@pytest.mark.timeout(60)  # processes start slowly on a busy machine
def test_rows_compared_on_two_processors_are_those_compared_on_one():
    names = ["unloaded A 2048", "unloaded B 128"]

    assert list(calibration.compared(names, 2, 2)) == list(calibration.compared(names, 2, 1))


def test_what_does_not_hold_is_told_with_how_unlikely_it_is():
    known = comparison(row="mixed B2 64", figure="itl_p50", emulated=150.0)

    assert "with a standard deviation of 10.0 between runs, 5.0 of them off" in explained(known)
    assert explained(known).startswith("known: ")
    assert explained(comparison(emulated=119.0)).startswith("chance: ")


def comparison(**changes):
    facts = {
        "row": "r",
        "figure": "ttft_p50",
        "measured": 100.0,
        "emulated": 100.0,
        "deviation": 10.0,
    }
    return Comparison(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"emulated": 114.0}, Verdict.HOLDS),
        ({"emulated": 119.0}, Verdict.SPREAD),
        ({"emulated": 121.0}, Verdict.SHORT),
        ({"emulated": 119.0, "deviation": 0.0}, Verdict.SHORT),
        ({"emulated": 130.0, "figure": "ttft_p99"}, Verdict.HOLDS),
        ({"emulated": 121.0, "row": "mixed B2 64", "figure": "itl_p50"}, Verdict.KNOWN),
    ],
)
def test_a_figure_holds_within_its_tolerance(changes, verdict):
    assert comparison(**changes).verdict is verdict


def test_the_command_names_what_falls_short(monkeypatch, capsys):
    assert calibration.main(["--only", "unloaded A 2048", "--runs", "2"]) == 0
    slow = replace(H100_8B, per_prefill_s=3 * H100_8B.per_prefill_s)
    monkeypatch.setattr(gpu_load, "H100_8B", slow)

    assert calibration.main(["--only", "unloaded A 2048", "--runs", "2", "--json"]) == 1
    assert "short: unloaded A 2048 ttft_p50" in capsys.readouterr().out
