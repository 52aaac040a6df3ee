import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.reading import Reading

TOKENS = st.integers(1, 200_000)
SECONDS = st.floats(0.001, 100.0)


def test_before_anything_was_seen_nothing_is_known():
    assert Reading().expected_s(100) is None


@pytest.mark.parametrize(
    ("tokens", "expected_s"),
    [(60, 0.2), (33, 0.2), (5, 0.2), (1000, 5.0), (600, 5.0), (200, 5.0), (8000, 40.0)],
    ids=["seen", "its size", "smaller", "seen large", "of that size", "between", "in proportion"],
)
def test_a_size_takes_what_it_took_or_the_next_larger_one_did(tokens, expected_s):
    reading = Reading()
    reading.saw(60, 0.2)
    reading.saw(1000, 5.0)

    assert reading.expected_s(tokens) == pytest.approx(expected_s)


def test_a_time_that_was_long_once_is_forgotten_as_shorter_ones_come():
    reading = Reading()
    reading.saw(100, 4.0)
    for _ in range(10):
        reading.saw(100, 0.2)

    assert 0.2 <= (reading.expected_s(100) or 0.0) < 0.5


def test_a_longer_time_counts_at_once():
    reading = Reading()
    reading.saw(100, 0.2)
    reading.saw(100, 3.0)

    assert reading.expected_s(100) == 3.0


@given(seen=st.lists(st.tuples(TOKENS, SECONDS), min_size=1), tokens=TOKENS)
def test_what_is_expected_lies_within_what_was_seen_unless_it_is_larger(seen, tokens):
    reading = Reading()
    for each in seen:
        reading.saw(*each)
    expected_s = reading.expected_s(tokens)
    times = [took_s for _, took_s in seen]

    assert expected_s is not None
    assert expected_s >= min(times) * (1 - 1e-9)
    if tokens <= reading.largest_tokens:
        assert expected_s <= max(times) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seen", "tokens", "long_s"),
    [
        ([], 5000, 0.0),
        ([(60, 0.4)], 60, 0.0),
        ([(60, 2.0), (8, 1.8)], 60, 0.0),
        ([(1000, 0.4), (8, 0.1)], 1000, 0.0),
        ([(1000, 5.0), (8, 0.1)], 1000, 5.0),
        ([(1000, 5.0)], 1000, 5.0),
        ([(100, 5.0)], 100, 0.0),
        ([(60, 0.4)], 6000, 40.0),
    ],
    ids=[
        "nothing seen",
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
        reading.saw(*each)

    assert reading.long_s(tokens) == pytest.approx(long_s)
