"""What must hold for every scheduler, whatever is submitted and given up when."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.emulator.core import Detail
from engines.emulator.jobs import Failed, Finished, FirstToken, Tokens
from engines.emulator.spec import LlamaCpp, Tgi
from tests.engines.emulator.driving import KNOBS, plans, play, tight_engine

pytestmark = pytest.mark.parametrize("knobs", KNOBS.values(), ids=KNOBS.keys())
SEEDS = st.integers(0, 1000)


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS)
def test_every_job_ends_exactly_once(knobs, acts, seed):
    story = play(tight_engine(knobs, seed), acts)

    ends = Counter(event.job_id for event in story.of(Finished | Failed))
    jobs = {act.submit.id for act in acts if act.submit}
    assert all(count == 1 for count in ends.values())
    assert ends.keys() | story.refused.keys() | story.aborted == jobs
    assert len(ends) + len(story.refused) + len(story.aborted) == len(jobs)


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS)
def test_no_memory_and_no_place_is_ever_lost(knobs, acts, seed):
    story = play(tight_engine(knobs, seed), acts)

    gauges = story.engine.gauges()
    assert (gauges.running, gauges.waiting, gauges.kv_used_tokens) == (0, 0, 0)
    assert story.engine.jobs == 0
    assert all(0 <= then.kv_used_tokens <= then.kv_capacity_tokens for then in story.gauges)
    assert all(then.running <= then.max_running for then in story.gauges)


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS)
def test_passing_over_steps_changes_no_time(knobs, acts, seed):
    summary = play(tight_engine(knobs, seed), acts)
    every_token = play(tight_engine(knobs, seed, Detail.TOKENS), acts)

    assert summary.events == [e for e in every_token.events if not isinstance(e, Tokens)]
    assert summary.engine.gauges() == every_token.engine.gauges()


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS, extra=st.lists(st.floats(0, 10), max_size=20))
def test_it_does_not_matter_how_often_time_is_looked_at(knobs, acts, seed, extra):
    once = play(tight_engine(knobs, seed), acts)
    often = play(tight_engine(knobs, seed), acts, extra=extra)

    assert sorted(once.events, key=str) == sorted(often.events, key=str)


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS)
def test_the_same_seed_gives_the_same_bits(knobs, acts, seed):
    assert (
        play(tight_engine(knobs, seed), acts).events == play(tight_engine(knobs, seed), acts).events
    )


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS)
def test_events_come_in_order_and_never_before_their_cause(knobs, acts, seed):
    submitted = {act.submit.id: act.at_s for act in acts if act.submit}

    story = play(tight_engine(knobs, seed), acts)

    times = [event.at_s for event in story.events]
    assert times == sorted(times)
    for event in story.of(Finished):
        assert submitted[event.job_id] < event.first_token_s <= event.at_s
        assert event.queued_s >= 0
    assert all(story.first[job] > submitted[job] for job in story.first)


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS)
def test_every_token_comes_once_and_in_order(knobs, acts, seed):
    story = play(tight_engine(knobs, seed, Detail.TOKENS), acts)

    lengths = {act.submit.id: act.submit.length for act in acts if act.submit}
    for job_id, end in story.finished.items():
        tokens = story.tokens(job_id)
        times = [token.at_s for token in tokens]
        assert [token.index for token in tokens] == list(range(end.output_tokens))
        assert times == sorted(times)
        assert times[-1] == end.at_s
        assert end.output_tokens <= lengths[job_id]
        if not isinstance(knobs, Tgi | LlamaCpp):  # those may run into the end of their context
            assert end.output_tokens == lengths[job_id]


@settings(max_examples=12, deadline=None)
@given(acts=plans(), seed=SEEDS)
def test_nothing_is_heard_of_a_job_that_was_given_up(knobs, acts, seed):
    story = play(tight_engine(knobs, seed), acts)

    given_up = {act.abort: act.at_s for act in acts if act.abort in story.aborted}
    assert all(
        event.at_s <= given_up[event.job_id]
        for event in story.of(FirstToken)
        if event.job_id in given_up
    )
    assert not {event.job_id for event in story.of(Finished | Failed)} & story.aborted
