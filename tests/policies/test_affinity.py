"""Where the beginning of a prompt was read, as far as the router can know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.affinity import LEAST_TRUST, MOST_BEGINNINGS, Affinity
from tests.policies.builders import facts


def test_the_longest_known_beginning_decides():
    known = Affinity()
    known.went(facts(beginnings=(1, 2)), "a")
    known.went(facts(beginnings=(1, 2, 3, 4)), "b")

    found = known.favourite(facts(beginnings=(1, 2, 3, 4, 5)), 1000)

    assert found is not None
    assert found.endpoint_id == "b"
    assert found.hit_tokens == int(known.trust * 4 / 5.5 * 1000)


def test_a_session_is_followed_where_no_beginning_is_known():
    known = Affinity()
    known.went(facts(session="s"), "a")

    found = known.favourite(facts(session="s", beginnings=(7,)), 1000)

    assert found is not None
    assert found.endpoint_id == "a"
    assert known.favourite(facts(session="other"), 1000) is None
    assert known.favourite(facts(), 1000) is None


def test_engines_that_cache_nothing_are_not_trusted_to_for_long():
    known = Affinity()
    for _ in range(100):
        known.learn(500, 0)
    low = known.trust
    for _ in range(200):
        known.learn(500, 800)

    assert low == pytest.approx(LEAST_TRUST)
    assert known.trust > 0.9


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_a_hit_is_never_longer_than_the_prompt(beginnings):
    known = Affinity()
    known.trust = 1.0
    asked = facts(beginnings=tuple(beginnings), session="s")
    known.went(asked, "a")

    found = known.favourite(asked, 100)

    assert found is not None
    assert 0 <= found.hit_tokens <= 100


def test_what_was_not_seen_for_long_is_forgotten():
    known = Affinity()
    known.went(facts(beginnings=(1,)), "a")
    known.went(facts(beginnings=tuple(range(2, MOST_BEGINNINGS + 2))), "b")

    assert known.favourite(facts(beginnings=(1,)), 100) is None
    assert known.favourite(facts(beginnings=(5,)), 100) is not None
