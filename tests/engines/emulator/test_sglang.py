"""SGLang's scheduler, on an engine of 10 ms a step and 20 us a prompt token."""

import pytest

from engines.emulator.jobs import FailureCause, Job, RefusalCause
from engines.emulator.spec import Memory, Sglang
from tests.engines.emulator.driving import Act, engine, play, refusal, steps_of, submits

STEP_S = 0.010
TOKEN_S = 20e-6
BESIDE = [Act(0.0, submit=Job("a", 1, 60)), Act(0.1, submit=Job("b", 2000, 1))]


def test_prompts_come_first_and_nobody_decodes_meanwhile():
    subject = engine(Sglang())
    steps = steps_of(subject)

    story = play(subject, BESIDE)

    assert all(not step.decodes for step in steps if step.prefill)
    pause_s = STEP_S + 2000 * TOKEN_S
    assert story.finished["a"].slowest_gap_s == pytest.approx(STEP_S + pause_s)


def test_mixed_chunks_let_the_decodes_go_on():
    subject = engine(Sglang(enable_mixed_chunk=True))
    steps = steps_of(subject)

    story = play(subject, BESIDE)

    assert any(step.decodes for step in steps if step.prefill)
    assert story.finished["a"].slowest_gap_s == pytest.approx(STEP_S + 2000 * TOKEN_S)


def test_a_long_prompt_is_cut_into_chunks_that_follow_each_other():
    subject = engine(Sglang(chunked_prefill_size=500))
    steps = steps_of(subject)

    play(subject, BESIDE)

    assert [step.prefill for step in steps if step.prefill > 1] == [500] * 4


def test_where_memory_runs_out_who_has_said_least_is_retracted():
    acts = [*submits(Job("old", 100, 150)), Act(0.3, submit=Job("young", 100, 150))]

    story = play(engine(Sglang(new_token_ratio=0.0), kv_tokens=320), acts)

    assert story.finished["old"].preemptions == 0
    assert story.finished["young"].preemptions >= 1
    assert story.finished["young"].output_tokens == 150


def test_admission_sets_memory_aside_for_what_is_still_to_be_said():
    acts = submits(Job("a", 160, 100, 400), Job("b", 160, 10, 400))

    eager = play(engine(Sglang(new_token_ratio=0.0), kv_tokens=800), acts)
    careful = play(engine(Sglang(new_token_ratio=0.9), kv_tokens=800), acts)

    assert eager.first["b"] < 0.05
    assert careful.first["b"] > 0.5


def test_a_full_queue_refuses_with_503():
    subject = engine(Sglang(max_running_requests=1, max_queued_requests=1))
    subject.submit(Job("runs", 10, 100), 0.0)
    subject.submit(Job("waits", 10, 5), 0.05)

    refused = refusal(subject, Job("more", 10, 5), 0.1)

    assert (refused.cause, refused.status) == (RefusalCause.QUEUE_FULL, 503)


@pytest.mark.parametrize(
    ("low_first", "order"), [(False, ["high", "low"]), (True, ["low", "high"])]
)
def test_high_priorities_go_first_unless_told_otherwise(low_first, order):
    knobs = Sglang(
        max_running_requests=1,
        enable_priority_scheduling=True,
        schedule_low_priority_values_first=low_first,
    )
    acts = [
        *submits(Job("runs", 10, 20)),
        *submits(Job("low", 10, 5, priority=1), Job("high", 10, 5, priority=5), at_s=0.05),
    ]

    story = play(engine(knobs), acts)

    assert list(story.first)[1:] == order


def test_a_full_queue_gives_up_its_least_urgent_for_one_more_urgent():
    knobs = Sglang(max_running_requests=1, enable_priority_scheduling=True, max_queued_requests=1)
    acts = [
        *submits(Job("runs", 10, 50, priority=5)),
        Act(0.05, submit=Job("idle", 10, 5, priority=0)),
        Act(0.10, submit=Job("urgent", 10, 5, priority=3)),
    ]

    story = play(engine(knobs), acts)

    assert story.failed["idle"].cause is FailureCause.EVICTED
    assert "urgent" in story.finished


@pytest.mark.parametrize(("priority", "preempts"), [(20, True), (8, False)])
def test_one_that_is_far_more_urgent_takes_the_place_of_a_running_one(priority, preempts):
    knobs = Sglang(max_running_requests=1, enable_priority_scheduling=True)
    acts = [
        *submits(Job("runs", 10, 50, priority=0)),
        Act(0.105, submit=Job("urgent", 10, 5, priority=priority)),
    ]

    story = play(engine(knobs), acts)

    assert (story.finished["runs"].preemptions > 0) is preempts
    assert (story.first["urgent"] < 0.2) is preempts


def test_a_prefix_that_was_computed_before_is_not_computed_again():
    prefix = tuple(range(62))
    jobs = [Job("a", 1000, 20, prefix=prefix), Job("b", 1000, 2, prefix=prefix)]

    story = play(engine(Sglang(), memory=Memory()), submits(*jobs, apart_s=0.1))

    assert story.finished["b"].cached_tokens == 62 * 16


def test_what_can_never_fit_is_refused():
    refused = refusal(engine(Sglang(context_length=1000)), Job("a", 900, 200))

    assert (refused.cause, refused.status) == (RefusalCause.TOO_LONG, 400)
