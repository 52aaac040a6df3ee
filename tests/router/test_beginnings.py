from hypothesis import given
from hypothesis import strategies as st

from router.beginnings import BLOCK_BYTES, MOST_BLOCKS, beginnings_of

TURN = b'{"messages":[' + b"x" * (3 * BLOCK_BYTES)


def test_a_short_body_has_none():
    assert beginnings_of(b"x" * (BLOCK_BYTES - 1)) == ()


def test_the_next_turn_of_a_conversation_shares_the_beginnings_of_the_one_before():
    before, after = beginnings_of(TURN), beginnings_of(TURN + b"y" * BLOCK_BYTES)

    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


def test_what_differs_early_shares_nothing():
    one, other = beginnings_of(TURN), beginnings_of(b" " + TURN)

    assert not set(one) & set(other)


@given(size=st.integers(0, 40 * BLOCK_BYTES))
def test_there_are_as_many_as_whole_blocks_up_to_a_bound_and_no_two_alike(size):
    found = beginnings_of(b"a" * size)

    assert len(found) == min(MOST_BLOCKS, size // BLOCK_BYTES)
    assert len(set(found)) == len(found)
