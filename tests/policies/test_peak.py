from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.peak import DECAY_S, PeakEwma


def test_before_the_first_time_nothing_is_known():
    assert PeakEwma().at(5.0) is None


def test_a_rise_is_followed_at_once():
    peak = PeakEwma()

    peak.saw(0.1, 0.0)
    peak.saw(3.0, 0.1)

    assert peak.at(0.1) == 3.0


def test_a_fall_is_followed_slowly():
    peak = PeakEwma()

    peak.saw(3.0, 0.0)
    peak.saw(0.1, 1.0)

    weight = exp(-1.0 / DECAY_S)
    assert peak.at(1.0) == pytest.approx(3.0 * weight + 0.1 * (1 - weight))


def test_a_peak_that_is_not_confirmed_fades():
    peak = PeakEwma()

    peak.saw(3.0, 0.0)

    assert peak.at(DECAY_S) == pytest.approx(3.0 / exp(1))


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), min_size=1, max_size=30))
def test_the_mean_is_never_above_the_highest_time_seen(samples):
    peak, now = PeakEwma(), 0.0

    for sample_s, step_s in samples:
        now += step_s
        peak.saw(sample_s, now)

    value = peak.at(now)
    assert value is not None
    assert 0.0 <= value <= max(sample for sample, _ in samples)
