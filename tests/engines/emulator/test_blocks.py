"""Memory in blocks, and the prefixes that stay in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engines.emulator.blocks import BlockPool


def test_more_than_there_is_cannot_be_taken():
    pool = BlockPool(160, 16)

    assert pool.take(10)
    assert not pool.take(1)
    assert pool.used == 10


def test_giving_back_what_was_not_taken_is_a_mistake():
    pool = BlockPool(160, 16)

    with pytest.raises(ValueError, match="3 blocks given back, but only 0 are held"):
        pool.give(3)


def test_a_key_must_stand_for_whole_blocks():
    with pytest.raises(ValueError, match="prefix blocks of 24 tokens, blocks of 16"):
        BlockPool(160, 16, 24)


@given(tokens=st.integers(1, 1000), block=st.integers(1, 64))
def test_blocks_hold_the_tokens_and_no_more_than_one_is_part_empty(tokens, block):
    blocks = BlockPool(10_000, block).blocks_for(tokens)

    assert (blocks - 1) * block < tokens <= blocks * block


def test_a_prefix_stays_cached_until_its_space_is_needed_oldest_first():
    pool = BlockPool(4 * 16, 16)
    pool.take(2)
    pool.release(pool.publish((1, 2)))
    pool.take(1)
    pool.release(pool.publish((3,)))

    assert (pool.match((1, 2)), pool.match((3,))) == (2, 1)
    assert pool.free == 4
    pool.take(2)
    assert pool.match((1, 2)) == 1  # the end of the older chain went first
    assert pool.match((3,)) == 1


def test_a_held_prefix_is_not_pushed_out():
    pool = BlockPool(3 * 16, 16)
    pool.take(2)
    pool.release(pool.publish((1, 2)))
    pool.hold((1, 2))

    assert not pool.take(2)
    assert pool.take(1)
    assert pool.match((1, 2)) == 2


def test_whoever_publishes_second_keeps_a_private_copy():
    pool = BlockPool(8 * 16, 16)
    pool.take(4)

    assert pool.publish((1, 2)) == (1, 2)
    assert pool.publish((1, 9)) == ()


class Pool(RuleBasedStateMachine):
    """Two counts of the same blocks: the pool's, and what its users hold."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(20 * 16, 16, 32)
        self.private = 0
        self.held = []

    @rule(blocks=st.integers(0, 12))
    def take(self, blocks):
        if self.pool.take(blocks):
            self.private += blocks

    @rule(share=st.floats(0, 1))
    def give(self, share):
        blocks = int(share * self.private)
        self.pool.give(blocks)
        self.private -= blocks

    @rule(family=st.integers(0, 3), length=st.integers(1, 4))
    def hold(self, family, length):
        keys = tuple(family * 10 + index for index in range(length))
        keys = keys[: self.pool.match(keys)]
        if self.pool.idle(keys) <= self.pool.free:
            self.pool.hold(keys)
            self.held.append(keys)

    @precondition(lambda self: self.private >= 8)
    @rule(family=st.integers(0, 3), length=st.integers(1, 4))
    def publish(self, family, length):
        keys = self.pool.publish(tuple(family * 10 + index for index in range(length)))
        self.private -= 2 * len(keys)
        self.held.append(keys)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        index = data.draw(st.integers(0, len(self.held) - 1))
        self.pool.release(self.held.pop(index))

    @invariant()
    def nothing_is_lost(self):
        distinct = {key for keys in self.held for key in keys}
        assert self.pool.used == self.private + 2 * len(distinct)
        assert self.pool.used + self.pool.cached <= self.pool.total


TestPool = Pool.TestCase
