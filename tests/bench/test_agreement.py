"""When figures agree, and when a measurement can be believed."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.agreement import Figure, Gate, Verdict, shortcomings

TIMES = st.floats(0.001, 100.0)


def ttft(found: float, *expected: float) -> Figure:
    return Figure("ttft p99", expected, found, 0.15, relative=True)


def share(found: float, *expected: float) -> Figure:
    return Figure("attainment", expected, found, 0.03, relative=False)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        pytest.param(ttft(1.14, 1.0), Verdict.AGREES, id="a share above, within"),
        pytest.param(ttft(0.86, 1.0), Verdict.AGREES, id="a share below, within"),
        pytest.param(ttft(1.16, 1.0), Verdict.SHORT, id="a share above, beyond"),
        pytest.param(ttft(0.84, 1.0), Verdict.SHORT, id="a share below, beyond"),
        pytest.param(share(0.93, 0.95), Verdict.AGREES, id="points, within"),
        pytest.param(share(0.91, 0.95), Verdict.SHORT, id="points, beyond"),
        pytest.param(ttft(1.3, 0.9, 1.0, 1.4), Verdict.CHANCE, id="as far off as single runs are"),
        pytest.param(ttft(1.5, 0.9, 1.0, 1.4), Verdict.SHORT, id="further off than any run"),
        pytest.param(ttft(1.04, 0.5, 1.0, 1.5), Verdict.AGREES, id="the median is what counts"),
        pytest.param(ttft(inf, 1.0), Verdict.SHORT, id="nothing was served over sockets"),
        pytest.param(ttft(inf, inf), Verdict.SHORT, id="nothing was served at all"),
        pytest.param(ttft(2.0, 1.0, 1.0, inf), Verdict.SHORT, id="one run served nothing"),
        pytest.param(ttft(nan, 1.0), Verdict.SHORT, id="not a number"),
        pytest.param(ttft(1.0, 0.0), Verdict.SHORT, id="no share of nothing"),
    ],
)
def test_a_figure_agrees_within_its_tolerance_of_the_median_or_within_the_range_of_runs(
    figure, verdict
):
    assert figure.verdict is verdict


@given(expected=st.lists(TIMES, min_size=1), found=TIMES)
def test_a_figure_that_some_run_had_is_never_short(expected, found):
    assert ttft(found, *expected, found).verdict is not Verdict.SHORT


@given(expected=st.lists(TIMES, min_size=1), found=TIMES, times=st.floats(0.01, 100.0))
def test_a_relative_verdict_does_not_depend_on_the_unit(expected, found, times):
    scaled = ttft(found * times, *(each * times for each in expected))

    assert scaled.error == pytest.approx(ttft(found, *expected).error, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "holds"), [(0.0049, True), (0.005, False), (inf, False), (nan, False)]
)
def test_a_gate_holds_below_its_limit_only(value, holds):
    assert Gate("p99 send lag, s", value, 0.005).holds is holds


def test_each_figure_that_is_short_is_named_with_what_would_do():
    figures = [share(0.80, 0.94, 0.95, 0.96), ttft(1.0, 1.0), ttft(1.5, 1.0)]

    assert shortcomings("headway at 1.1", [Gate("lag", 0.001, 0.005)], figures) == [
        (
            "headway at 1.1: attainment is 0.8, expected 0.95 (runs: 0.94 to 0.96),"
            " off by -0.15, up to 0.03 would do"
        ),
        (
            "headway at 1.1: ttft p99 is 1.5, expected 1 (runs: 1 to 1),"
            " off by +50.0%, up to 15.0% would do"
        ),
    ]


def test_what_cannot_be_believed_is_not_compared():
    gates = [Gate("p99 send lag, s", 0.011, 0.005), Gate("p99 step lateness, s", 0.001, 0.002)]

    assert shortcomings("headway at 1.1", gates, [ttft(9.0, 1.0)]) == [
        "headway at 1.1: not valid: p99 send lag, s is 0.011, less than 0.005 would do"
    ]
