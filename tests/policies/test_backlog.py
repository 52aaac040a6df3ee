"""How long a queue takes, and when it is worth coming back to it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.backlog import SETTLED_S, Backlog, DrainRate, retry_after_s


def test_a_steady_rate_is_found_and_fades_when_nothing_ends():
    drain = DrainRate()
    for number in range(1000):
        drain.ended(number / 20)

    assert drain.per_s(50.0) == pytest.approx(20, rel=0.05)
    assert drain.per_s(100.0) < 0.01


def test_before_anything_ended_the_rate_is_zero():
    assert DrainRate().per_s(1e9) == 0.0


@given(st.integers(0, 10**6), st.floats(0, 10**4), st.floats(0, 100), st.integers(0, 99))
def test_coming_back_is_between_one_and_thirty_whole_seconds_away(ahead, per_s, patience_s, seed):
    back_s = retry_after_s(ahead, per_s, patience_s, Random(seed))

    assert 1.0 <= back_s <= 30.0
    assert back_s == int(back_s)


@given(st.integers(0, 99))
def test_who_comes_back_finds_no_longer_a_wait_than_it_would_accept(seed):
    back_s = retry_after_s(99, 10.0, 2.0, Random(seed))

    assert 8.0 <= back_s <= 12.0


def test_those_refused_together_come_back_apart():
    rng = Random(1)

    assert len({retry_after_s(199, 10.0, 0.0, rng) for _ in range(50)}) > 5


def test_without_a_rate_the_time_is_a_middling_guess():
    assert retry_after_s(5, 0.0, 1.0, Random(1)) == 5.0


def served(backlog, rank, until, per_s=2.0, service_s=4.0):
    for number in range(int(until * per_s)):
        backlog.drains[rank].ended(number / per_s, service_s)


def test_a_newcomer_waits_for_those_before_it_and_is_then_served():
    backlog = Backlog()
    for _ in range(20):
        backlog.came(2, 0.0)
    served(backlog, 2, until=60.0)

    wait_s = backlog.wait_s(2, 60.0)

    assert wait_s == pytest.approx(21 / 2.0 + 4.0, rel=0.1)


def test_a_queue_that_has_just_formed_says_nothing_yet():
    backlog = Backlog()
    served(backlog, 2, until=60.0)
    backlog.came(2, 60.0)

    assert backlog.wait_s(2, 60.0 + 0.9 * SETTLED_S) is None
    backlog.went(2)
    assert backlog.wait_s(2, 60.0 + 2 * SETTLED_S) is None


def test_where_nothing_ends_nobody_can_tell():
    backlog = Backlog()
    backlog.came(1, 0.0)

    assert backlog.wait_s(1, 100.0) is None


def test_a_class_waits_behind_those_above_it():
    backlog = Backlog()
    for rank in (0, 1, 2):
        served(backlog, rank, until=60.0, per_s=1.0)
        for _ in range(30):
            backlog.came(rank, 0.0)

    times = [backlog.retry_after_s(rank, 0.0, 60.0, Random(1)) for rank in range(3)]

    assert times[0] >= 30.0
    assert backlog.waiting == [30, 30, 30]


def test_those_who_were_told_to_come_back_are_counted_as_if_they_waited():
    backlog = Backlog()
    served(backlog, 2, until=60.0)

    times = [backlog.retry_after_s(2, 2.0, 60.0, Random(1)) for _ in range(40)]

    assert times[0] == 1.0
    assert times[-1] >= 15.0
    assert backlog.retry_after_s(2, 2.0, 91.0, Random(1)) < 15.0
