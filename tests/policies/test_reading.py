import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.reading import Reading

TOKENS = st.integers(1, 200_000)
SECONDS = st.floats(0.001, 100.0)


def saw(reading, tokens, took_s):
    reading.saw(tokens, tokens, took_s)


def test_before_anything_was_seen_it_may_be_an_engine_on_a_cpu():
    assert not Reading().is_known
    assert not Reading().is_familiar(1)
    assert Reading().expected_s(4000) == 4.0


@pytest.mark.parametrize(
    ("tokens", "expected_s"),
    [(60, 0.2), (33, 0.2), (5, 0.2), (1000, 5.0), (600, 5.0), (200, 5.0), (8000, 40.0)],
    ids=["seen", "its size", "smaller", "seen large", "of that size", "between", "in proportion"],
)
def test_a_size_takes_what_it_took_or_the_next_larger_one_did(tokens, expected_s):
    reading = Reading()
    saw(reading, 60, 0.2)
    saw(reading, 1000, 5.0)

    assert reading.expected_s(tokens) == pytest.approx(expected_s)


def test_a_time_that_was_long_once_is_forgotten_as_shorter_ones_come():
    reading = Reading()
    saw(reading, 100, 4.0)
    for _ in range(10):
        saw(reading, 100, 0.2)

    assert 0.2 <= reading.expected_s(100) < 0.5


def test_a_longer_time_counts_at_once():
    reading = Reading()
    saw(reading, 100, 0.2)
    saw(reading, 100, 3.0)

    assert reading.expected_s(100) == 3.0


def test_who_came_while_anothers_prompt_was_half_read_tells_little_of_it():
    reading = Reading()
    reading.saw(3000, 10, 0.1)
    unknown = reading.is_known
    saw(reading, 3000, 5.0)
    reading.saw(3000, 10, 0.1)
    hardly = reading.expected_s(3000)
    reading.saw(3000, 10, 9.0)

    assert not unknown
    assert 4.5 < hardly < 5.0
    assert reading.expected_s(3000) == 9.0


@given(seen=st.lists(st.tuples(TOKENS, SECONDS), min_size=1), tokens=TOKENS)
def test_what_is_expected_lies_within_what_was_seen_unless_it_is_larger(seen, tokens):
    reading = Reading()
    for each in seen:
        saw(reading, *each)
    expected_s = reading.expected_s(tokens)
    times = [took_s for _, took_s in seen]

    assert expected_s >= min(times) * (1 - 1e-9)
    if tokens <= max(each for each, _ in seen):
        assert expected_s <= max(times) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seen", "tokens", "long_s"),
    [
        ([], 400, 0.0),
        ([], 5000, 5.0),
        ([(60, 0.4)], 60, 0.0),
        ([(60, 2.0), (8, 1.8)], 60, 0.0),
        ([(1000, 0.4), (8, 0.1)], 1000, 0.0),
        ([(1000, 5.0), (8, 0.1)], 1000, 5.0),
        ([(1000, 5.0)], 1000, 5.0),
        ([(100, 5.0)], 100, 0.0),
        ([(60, 0.4)], 6000, 40.0),
    ],
    ids=[
        "nothing seen, and not much",
        "nothing seen, and much",
        "short",
        "short, and slow whatever the size",
        "large and quick",
        "large and slow",
        "large and slow, nothing else seen",
        "small and slow, nothing else seen",
        "far larger than any seen",
    ],
)
def test_reading_is_long_where_the_tokens_are_what_takes_the_time(seen, tokens, long_s):
    reading = Reading()
    for each in seen:
        saw(reading, *each)

    assert reading.long_s(tokens) == pytest.approx(long_s)
