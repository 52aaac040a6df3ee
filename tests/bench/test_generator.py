"""What is made of the figures of two load generators."""

from itertools import pairwise
from math import inf
from typing import Any

import pytest

from policies.facts import SlaClass
from router.workload.load import load_workload
from router.workload.stream import offers
from tests.bench import generator, public_tool
from tests.bench.agreement import Verdict
from tests.bench.generator import figures, gates, lines, short
from tests.bench.public_tool import Medians, ToolFailed


def row(*, lag_s: float | None = 0.001, offered: int = 10, served: int = 10) -> dict[str, Any]:
    times = {"p50": 0.1}
    return {
        "all": {
            "offered": offered,
            "fates": {"served": served},
            "first_token_s": times,
            "per_token_s": {"p50": None},
        },
        "generator": {"lag_s": {"p99": lag_s}},
    }


def found(second: Medians, tool: Medians | None, *, skipped: str | None = None) -> dict[str, Any]:
    runs = [Medians(0.100, 0.020), second]
    return {
        "runs": runs,
        "tool": tool,
        "skipped": skipped,
        "gates": gates(row()),
        "repeat": figures(runs[:1], second, generator.REPEAT_TOLERANCE),
        "agreement": figures(runs, tool, generator.TOOL_TOLERANCE) if tool else (),
    }


def test_generators_that_find_the_same_are_not_short():
    assert short(found(Medians(0.101, 0.020), Medians(0.104, 0.0205))) == []


def test_a_second_run_that_differs_is_short():
    (sentence,) = short(found(Medians(0.100, 0.022), None))

    assert sentence.startswith("second run against the first: tpot p50")


def test_a_public_tool_that_differs_is_short():
    (sentence,) = short(found(Medians(0.100, 0.020), Medians(0.110, 0.020)))

    assert sentence.startswith("aiperf against both runs: ttft p50")


def test_a_missing_tool_is_told_and_is_not_short():
    result = found(Medians(0.100, 0.020), None, skipped="no network")

    assert short(result) == []
    assert lines(result)[-1] == "skipped: no aiperf: no network"


def test_the_table_has_every_generator_in_the_order_of_their_runs():
    told = lines(found(Medians(0.101, 0.020), Medians(0.104, 0.0205)))

    assert [line.split("  ")[0] for line in told[1:4]] == [
        "headway bench",
        public_tool.REQUIREMENT,
        "again, same seed",
    ]


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        pytest.param(row(), [True, True], id="on time, all served"),
        pytest.param(row(lag_s=0.006), [False, True], id="late"),
        pytest.param(row(lag_s=None), [False, True], id="nothing sent"),
        pytest.param(row(served=9), [True, False], id="one not served"),
    ],
)
def test_a_run_is_valid_where_requests_left_on_time_and_all_were_served(given, holds):
    assert [gate.holds for gate in gates(given)] == holds


def test_what_nobody_measured_is_infinite_and_so_agrees_with_nothing():
    medians = generator.medians(row())

    assert medians == Medians(0.1, inf)
    assert figures([medians], medians, 0.05)[1].verdict is Verdict.SHORT


def test_the_workload_is_equal_requests_at_equal_distances(tmp_path):
    path = tmp_path / "equal.toml"
    path.write_text(generator.workload_text(5.0))

    sent = list(offers(load_workload(str(path)), 1))

    gaps = {round(b.at_s - a.at_s, 9) for a, b in pairwise(sent)}
    assert gaps == {1 / generator.RATE}
    assert {(each.prompt_tokens, each.length, each.sla_class) for each in sent} == {
        (generator.PROMPT_TOKENS, generator.OUTPUT_TOKENS, SlaClass.STANDARD)
    }


def report(**changes: Any) -> dict[str, Any]:
    return {
        "request_count": {"unit": "requests", "avg": 40.0},
        "time_to_first_token": {"unit": "ms", "p50": 80.0},
        "inter_token_latency": {"unit": "ms", "p50": 20.0},
    } | changes


def test_medians_are_read_from_the_tools_report():
    assert public_tool.medians(report(), 40) == Medians(0.080, 0.020)


def test_a_report_that_misses_requests_is_no_result():
    with pytest.raises(ToolFailed, match="40 of 41 requests were answered"):
        public_tool.medians(report(), 41)


def test_a_report_in_another_unit_is_no_result():
    with pytest.raises(ToolFailed, match="'s'; it should in 'ms'"):
        public_tool.medians(report(inter_token_latency={"unit": "s", "p50": 0.02}), 40)
