"""TGI's queue and batcher, on an engine of 10 ms a step and 20 us a prompt token."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.emulator.jobs import Accepted, Job, RefusalCause
from engines.emulator.spec import Memory, Tgi
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


def test_beyond_the_permits_it_refuses_with_429_and_a_permit_is_held_to_the_end():
    subject = engine(Tgi(max_concurrent_requests=2))
    subject.submit(Job("a", 10, 10), 0.0)
    subject.submit(Job("b", 10, 10), 0.0)

    refused = refusal(subject, Job("c", 10, 10), 0.05)
    assert (refused.cause, refused.status) == (RefusalCause.OVERLOADED, 429)
    assert isinstance(subject.submit(Job("d", 10, 10), 1.0), Accepted)


def test_memory_for_the_whole_answer_is_reserved_at_the_start():
    subject = engine(Tgi(), kv_tokens=16_000)
    subject.submit(Job("a", 160, 5, max_tokens=320), 0.0)

    subject.advance(0.012)

    assert subject.gauges().kv_used_tokens == 480


def test_without_a_bound_memory_for_a_slice_is_reserved():
    subject = engine(Tgi(max_total_tokens=4096), kv_tokens=16_000)
    subject.submit(Job("a", 160, 5), 0.0)

    subject.advance(0.012)

    assert subject.gauges().kv_used_tokens == 160 + 1024


@settings(max_examples=20, deadline=None)
@given(acts=plans(), seed=st.integers(0, 100), chunking=st.booleans())
def test_nothing_is_ever_preempted(acts, seed, chunking):
    story = play(tight_engine(Tgi(prefill_chunking=chunking), seed), acts)

    assert all(end.preemptions == 0 for end in story.finished.values())
    assert story.engine.gauges().preemptions == 0


@settings(max_examples=20, deadline=None)
@given(acts=plans(), seed=st.integers(0, 100), chunking=st.booleans())
def test_whoever_comes_first_starts_first(acts, seed, chunking):
    knobs = Tgi(prefill_chunking=chunking, max_batch_prefill_tokens=512)
    arrived = [act.submit.id for act in acts if act.submit]

    story = play(tight_engine(knobs, seed), acts)

    starts = {
        job: end.queued_s + next(act.at_s for act in acts if act.submit and act.submit.id == job)
        for job, end in story.finished.items()
    }
    order = [starts[job] for job in arrived if job in starts]
    assert all(earlier <= later + 1e-9 for earlier, later in pairwise(order))


def test_a_big_job_at_the_head_of_the_queue_holds_up_a_small_one_behind_it():
    acts = submits(Job("runs", 16, 400, 400), Job("big", 600, 400, 400), Job("small", 16, 4, 4))

    story = play(engine(Tgi(), kv_tokens=1200), acts)

    assert story.first["small"] >= story.finished["runs"].at_s


@settings(max_examples=20, deadline=None)
@given(acts=plans(), seed=st.integers(0, 100), budget=st.integers(64, 512))
def test_no_step_has_more_prefill_than_the_budget(acts, seed, budget):
    subject = tight_engine(Tgi(max_batch_prefill_tokens=budget), seed)
    steps = steps_of(subject)

    play(subject, acts)

    whole_blocks = -(-budget // 16) * 16
    assert all(step.prefill + step.decodes <= whole_blocks + 1 for step in steps)


def test_with_chunking_a_prompt_shares_a_step_with_the_decodes():
    acts = [*submits(Job("a", 1, 50, 50)), Act(0.1, submit=Job("b", 1000, 1, 1))]
    subject = engine(Tgi())
    steps = steps_of(subject)

    play(subject, acts)

    assert any(step.prefill == 1000 and step.decodes == 1 for step in steps)


def test_without_chunking_a_prompt_pauses_the_decodes():
    acts = [*submits(Job("a", 1, 50, 50)), Act(0.1, submit=Job("b", 1000, 1, 1))]
    subject = engine(Tgi(prefill_chunking=False))
    steps = steps_of(subject)

    story = play(subject, acts)

    assert all(not step.decodes for step in steps if step.prefill)
    pause_s = STEP_S + 1000 * TOKEN_S
    assert story.finished["a"].slowest_gap_s == pytest.approx(STEP_S + pause_s)


def test_without_chunking_few_that_wait_are_let_in_after_max_waiting_tokens():
    running = [Job(f"r{n}", 1, 200, 200) for n in range(10)]
    acts = [*submits(*running), Act(0.305, submit=Job("late", 1, 1, 1))]

    soon = play(engine(Tgi(prefill_chunking=False, max_waiting_tokens=2)), acts)
    late = play(engine(Tgi(prefill_chunking=False, max_waiting_tokens=100)), acts)
    many = play(
        engine(Tgi(prefill_chunking=False, max_waiting_tokens=100, waiting_served_ratio=0.05)), acts
    )

    assert soon.first["late"] < 0.34
    assert late.first["late"] > 0.9
    assert many.first["late"] < 0.34


def test_after_a_slice_a_long_answer_goes_to_the_back_of_the_queue_and_reads_itself_again():
    knobs = Tgi(slice_tokens=20, max_batch_size=1, prefill_chunking=False)
    acts = submits(Job("long", 100, 50, 50), Job("next", 100, 10, 10))
    subject = engine(knobs)

    story = play(subject, acts)

    assert story.first["next"] < story.finished["long"].at_s
    assert story.finished["long"].slowest_gap_s > 10 * STEP_S
    assert story.finished["long"].output_tokens == 50
    assert subject.gauges().prompt_tokens == 100 + 120 + 140 + 100


def test_a_slice_that_would_leave_the_context_ends_the_answer():
    story = play(engine(Tgi(slice_tokens=64, max_total_tokens=200)), submits(Job("a", 100, 5000)))

    assert story.finished["a"].output_tokens == 100


def test_what_can_never_fit_is_refused_with_422():
    refused = refusal(engine(Tgi(max_total_tokens=1000)), Job("a", 900, 200, 200))

    assert (refused.cause, refused.status) == (RefusalCause.TOO_LONG, 422)


def test_prompts_enter_the_prefix_cache_when_their_request_ends():
    prefix = tuple(range(62))
    acts = [
        Act(0.0, submit=Job("a", 1000, 50, 50, prefix=prefix)),
        Act(0.1, submit=Job("during", 1000, 2, 2, prefix=prefix)),
        Act(2.0, submit=Job("after", 1000, 2, 2, prefix=prefix)),
    ]

    story = play(engine(Tgi(), memory=Memory()), acts)

    assert story.finished["during"].cached_tokens == 0
    assert story.finished["after"].cached_tokens == 62 * 16
