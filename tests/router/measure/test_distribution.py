"""Histograms of times, and intervals of means."""

from random import Random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.measure.distribution import Distribution
from router.measure.interval import Interval, interval

TIMES = st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=200)


def counted(times: list[float]) -> Distribution:
    found = Distribution()
    for each in times:
        found.add(each)
    return found


@given(times=TIMES, share=st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1.0]))
@settings(max_examples=100, deadline=None)
def test_a_percentile_is_right_within_one_percent(times, share):
    rank = max(1, -int(-share * len(times) // 1))

    assert counted(times).percentile(share) == pytest.approx(sorted(times)[rank - 1], rel=0.0101)


@given(times=TIMES, seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_order_of_times_does_not_matter_nor_how_they_were_brought_together(times, seed):
    shuffled = list(times)
    Random(seed).shuffle(shuffled)
    merged = counted(shuffled[::2])
    merged.merge(counted(shuffled[1::2]))

    assert merged.buckets == counted(times).buckets
    assert (merged.count, merged.most_s) == (len(times), max(times))


@given(times=TIMES)
@settings(max_examples=30, deadline=None)
def test_the_cumulative_curve_climbs_to_one(times):
    points = counted(times).cumulative()

    assert [at for at, _ in points] == sorted(at for at, _ in points)
    assert [share for _, share in points] == sorted(share for _, share in points)
    assert points[-1][1] == 1.0


def test_a_time_of_nothing_counts_as_the_least():
    assert counted([0.0, 0.0]).percentile(0.5) == 0.0


def test_without_times_there_is_no_percentile_and_no_mean():
    assert Distribution().percentile(0.5) is None
    assert Distribution().mean_s is None
    assert Distribution().cumulative() == []


def test_the_mean_is_exact():
    assert counted([0.1, 0.2, 0.6]).mean_s == pytest.approx(0.3)


def test_millions_of_times_take_little_memory():
    found = Distribution()
    rng = Random(1)
    for _ in range(100_000):
        found.add(rng.lognormvariate(-2, 1.5))

    assert len(found.buckets) < 2000


def test_one_value_has_no_interval():
    assert interval([0.7]) == Interval(0.7)


def test_an_interval_holds_the_mean_and_is_the_same_each_time():
    values = [0.91, 0.95, 0.93, 0.97]

    found = interval(values)

    assert found == interval(values)
    assert found.low is not None
    assert found.high is not None
    assert min(values) <= found.low < found.mean < found.high <= max(values)
    assert found.mean == pytest.approx(fmean(values))


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = Random(5)
    hits = 0
    for _ in range(60):
        found = interval([rng.gauss(0.5, 0.1) for _ in range(12)])
        hits += (found.low or 0) <= 0.5 <= (found.high or 0)

    assert hits >= 48


def test_equal_values_leave_no_doubt():
    assert interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
