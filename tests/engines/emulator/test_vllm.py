"""vLLM's scheduler, on an engine of 10 ms a step and 20 us a prompt token, without noise."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.emulator.core import Detail
from engines.emulator.jobs import Accepted, Job, RefusalCause
from engines.emulator.spec import Memory, Policy, Vllm
from tests.engines.emulator.driving import (
    Act,
    engine,
    plans,
    play,
    refusal,
    steps_of,
    submits,
    tight_engine,
)

STEP_S = 0.010
TOKEN_S = 20e-6
SYNCHRONOUS = Vllm(async_scheduling=False)


def gaps(story, job_id):
    times = [token.at_s for token in story.tokens(job_id)]
    return [later - earlier for earlier, later in pairwise(times)]


def test_an_answer_takes_a_step_a_token():
    story = play(engine(Vllm()), submits(Job("a", 500, 11)))

    assert story.first["a"] == pytest.approx(STEP_S + 500 * TOKEN_S)
    assert story.finished["a"].at_s == pytest.approx(11 * STEP_S + 500 * TOKEN_S)
    assert story.finished["a"].slowest_gap_s == pytest.approx(STEP_S)


def test_a_prompt_shares_a_step_with_the_decodes_and_makes_it_long():
    acts = [*submits(Job("a", 1, 50)), Act(0.1, submit=Job("b", 4000, 1))]

    story = play(engine(Vllm()), acts)

    assert story.finished["a"].slowest_gap_s == pytest.approx(STEP_S + 4000 * TOKEN_S)


@given(budget=st.integers(64, 2048))
def test_the_token_budget_bounds_how_long_a_decode_waits(budget):
    acts = [*submits(Job("a", 1, 200)), Act(0.1, submit=Job("b", 6000, 1))]

    story = play(engine(Vllm(max_num_seqs=16, max_num_batched_tokens=budget)), acts)

    assert story.finished["a"].slowest_gap_s <= STEP_S + budget * TOKEN_S + 1e-9


@settings(max_examples=20, deadline=None)
@given(acts=plans(), seed=st.integers(0, 100), budget=st.integers(32, 512))
def test_no_step_has_more_tokens_than_the_budget(acts, seed, budget):
    subject = tight_engine(Vllm(max_num_seqs=16, max_num_batched_tokens=budget), seed)
    steps = steps_of(subject)

    play(subject, acts)

    assert all(step.prefill + step.decodes <= budget for step in steps)


def test_a_chunk_is_bounded_by_the_long_prefill_threshold_while_others_are_there():
    acts = [*submits(Job("a", 1, 200)), Act(0.1, submit=Job("b", 1000, 1))]

    story = play(engine(Vllm(long_prefill_token_threshold=100)), acts)

    assert story.finished["a"].slowest_gap_s == pytest.approx(STEP_S + 100 * TOKEN_S)


def test_planning_ahead_lets_a_newcomer_wait_for_one_more_step():
    acts = [*submits(Job("a", 1, 50)), Act(0.105, submit=Job("b", 1, 1))]

    ahead = play(engine(Vllm()), acts)
    synchronous = play(engine(SYNCHRONOUS), acts)

    assert ahead.first["b"] - synchronous.first["b"] == pytest.approx(STEP_S, abs=1e-4)


def test_first_come_first_served():
    story = play(engine(Vllm(max_num_seqs=1)), submits(*(Job(str(n), 10, 5) for n in range(6))))

    assert list(story.first) == ["0", "1", "2", "3", "4", "5"]


def test_with_the_priority_policy_low_values_go_first():
    jobs = [Job("bulk", 10, 5), Job("low", 10, 5, priority=9), Job("high", 10, 5, priority=1)]

    by_priority = play(
        engine(Vllm(max_num_seqs=1, scheduling_policy=Policy.PRIORITY)), submits(*jobs)
    )
    by_arrival = play(engine(Vllm(max_num_seqs=1)), submits(*jobs))

    assert list(by_priority.first) == ["bulk", "high", "low"]
    assert list(by_arrival.first) == ["bulk", "low", "high"]


def test_no_more_run_than_there_are_places():
    story = play(engine(Vllm(max_num_seqs=3)), submits(*(Job(str(n), 10, 9) for n in range(10))))

    assert max(gauges.running for gauges in story.gauges) == 3


def test_memory_is_taken_as_it_is_needed():
    subject = engine(Vllm(), kv_tokens=16_000)
    subject.submit(Job("a", 160, 100), 0.0)

    subject.advance(0.014)
    early = subject.gauges().kv_used_tokens
    subject.advance(0.5)

    assert early == 160 + 16
    assert subject.gauges().kv_used_tokens > early


def test_where_memory_runs_out_the_last_admitted_is_computed_again():
    story = play(engine(Vllm(), kv_tokens=320), submits(Job("a", 100, 150), Job("b", 100, 150)))

    assert story.finished["a"].preemptions == 0
    assert story.finished["b"].preemptions >= 1
    assert story.finished["b"].output_tokens == 150
    assert story.engine.gauges().preemptions >= 1


def test_where_memory_runs_out_the_least_urgent_makes_room_under_priority():
    jobs = [Job("bulk", 100, 150, priority=9), Job("urgent", 100, 150, priority=0)]

    subject = engine(Vllm(scheduling_policy=Policy.PRIORITY), kv_tokens=320)
    story = play(subject, submits(*jobs))

    assert story.finished["urgent"].preemptions == 0
    assert story.finished["bulk"].preemptions >= 1


@pytest.mark.parametrize(("whole", "waits"), [(True, True), (False, False)])
def test_a_prompt_waits_until_all_of_it_fits_unless_told_otherwise(whole, waits):
    knobs = Vllm(scheduler_reserve_full_isl=whole, max_num_batched_tokens=64, max_num_seqs=8)
    subject = engine(knobs, kv_tokens=480)
    acts = [*submits(Job("a", 200, 40)), Act(0.1, submit=Job("b", 300, 1))]

    story = play(subject, acts)

    ended = story.finished["a"].at_s
    assert (story.finished["b"].queued_s + 0.1 > ended - 1e-9) is waits


def test_the_watermark_is_left_free_by_admissions():
    acts = submits(Job("a", 160, 40), Job("b", 160, 1))

    without = play(engine(Vllm(), kv_tokens=400), acts)
    with_it = play(engine(Vllm(watermark=0.2), kv_tokens=400), acts)

    assert without.first["b"] < with_it.first["b"]


def test_a_full_queue_refuses_with_503():
    subject = engine(Vllm(max_num_seqs=1, max_num_queued_reqs=2))
    subject.submit(Job("runs", 10, 100), 0.0)
    for name in ("a", "b"):
        assert isinstance(subject.submit(Job(name, 10, 5), 0.05), Accepted)

    refused = refusal(subject, Job("c", 10, 5), 0.05)
    assert (refused.cause, refused.status) == (RefusalCause.QUEUE_FULL, 503)


def test_a_queue_of_too_many_tokens_refuses():
    subject = engine(Vllm(max_num_seqs=1, max_num_queued_tokens=1000))
    subject.submit(Job("runs", 10, 100), 0.0)
    subject.submit(Job("waits", 2000, 5), 0.05)

    assert refusal(subject, Job("more", 10, 5), 0.1).cause is RefusalCause.QUEUE_FULL


def test_what_cannot_ever_fit_is_refused():
    assert refusal(engine(Vllm()), Job("a", 8000, 500)).cause is RefusalCause.TOO_LONG
    small = engine(Vllm(), kv_tokens=1600)
    assert refusal(small, Job("a", 1500, 500)).cause is RefusalCause.TOO_LONG


def test_a_prefix_that_was_computed_before_is_not_computed_again():
    prefix = tuple(range(62))
    acts = [
        Act(0.0, submit=Job("a", 1000, 2, prefix=prefix)),
        Act(1.0, submit=Job("b", 1000, 2, prefix=prefix)),
    ]

    cached = play(engine(Vllm()), acts)
    uncached = play(engine(Vllm(), memory=Memory(prefix_caching=False)), acts)

    assert cached.finished["b"].cached_tokens == 62 * 16
    assert cached.first["b"] - 1.0 == pytest.approx(STEP_S + 8 * TOKEN_S)
    assert uncached.finished["b"].cached_tokens == 0


def test_an_abort_frees_memory_when_the_step_is_complete():
    subject = engine(SYNCHRONOUS, kv_tokens=16_000)
    subject.submit(Job("a", 1000, 500), 0.0)
    subject.advance(0.105)

    assert subject.abort("a", 0.105)
    held = subject.gauges()
    subject.advance(0.112)

    assert (held.running, held.kv_used_tokens > 0) == (1, True)
    assert subject.gauges().running == subject.gauges().kv_used_tokens == 0
    assert not subject.abort("a", 0.2)


def test_every_token_is_told_where_it_was_asked_for():
    story = play(engine(Vllm(), detail=Detail.TOKENS), submits(Job("a", 500, 4)))

    assert gaps(story, "a") == [pytest.approx(STEP_S)] * 3
