"""Arrival processes: the rate and burstiness that were asked for, and never out of order."""

from itertools import pairwise
from random import Random
from statistics import fmean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.workload.arrivals import arrivals


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_gaps_have_the_mean_and_variation_that_were_asked_for(cv):
    times = list(arrivals(Random(3), cv, [(0.0, 50.0)], 600.0))
    gaps = [later - sooner for sooner, later in pairwise(times)]

    assert len(times) / 600.0 == pytest.approx(50.0, rel=0.06)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(cv, rel=0.08, abs=1e-6)


def test_the_rate_follows_its_steps_and_rests_at_nought():
    steps = [(0.0, 10.0), (100.0, 40.0), (200.0, 0.0), (300.0, 20.0)]
    times = list(arrivals(Random(1), 1.0, steps, 400.0))

    counts = [sum(1 for at in times if low <= at < low + 100) for low in (0, 100, 200, 300)]

    assert counts[0] == pytest.approx(1000, rel=0.1)
    assert counts[1] == pytest.approx(4000, rel=0.1)
    assert counts[2] == 0
    assert counts[3] == pytest.approx(2000, rel=0.1)


def test_traffic_that_ends_for_good_ends():
    times = list(arrivals(Random(1), 1.0, [(0.0, 10.0), (5.0, 0.0)], 1e9))

    assert times
    assert times[-1] < 5.0


@given(
    seed=st.integers(0, 99),
    cv=st.floats(0, 5),
    rate=st.floats(0.1, 50),
    until_s=st.floats(0.1, 20),
)
@settings(max_examples=60, deadline=None)
def test_times_ascend_and_stay_in_bounds(seed, cv, rate, until_s):
    times = list(arrivals(Random(seed), cv, [(0.0, rate), (until_s / 2, 2 * rate)], until_s))

    assert all(sooner <= later for sooner, later in pairwise(times))
    assert all(0 <= at < until_s for at in times)
