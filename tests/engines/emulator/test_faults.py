"""What can be wrong with an engine, and that it is whole again afterwards."""

from math import inf

import pytest

from engines.emulator.jobs import Failed, FailureCause, Finished, FirstToken, Job, RefusalCause
from engines.emulator.spec import HEALTHY, Faults, Vllm
from tests.engines.emulator.driving import engine, play, refusal, submits

JOB = Job("a", 100, 50)
STEP_S = 0.010


def test_an_engine_that_hangs_does_nothing_and_goes_on_where_it_stopped():
    subject = engine(Vllm())
    subject.submit(JOB, 0.0)
    before = subject.advance(0.105)

    subject.set_faults(Faults(hang=True), 0.105)
    steps = subject.gauges().steps
    assert subject.advance(5.0) == []
    assert (subject.gauges().steps, subject.next_event()) == (steps, None)
    assert subject.step_ends_s() == inf

    subject.set_faults(HEALTHY, 5.105)
    after = play(subject, []).of(Finished)
    assert [type(event) for event in before] == [FirstToken]
    assert after[0].at_s == pytest.approx(50 * STEP_S + 100 * 20e-6 + 5.0)


def test_a_job_that_comes_while_it_hangs_is_served_afterwards():
    subject = engine(Vllm())
    subject.set_faults(Faults(hang=True), 0.0)
    subject.submit(JOB, 1.0)
    subject.advance(2.0)
    subject.set_faults(HEALTHY, 3.0)

    assert play(subject, []).first["a"] == pytest.approx(3.0 + STEP_S + 100 * 20e-6)


def test_a_slow_engine_takes_longer_for_every_step():
    subject = engine(Vllm())
    subject.set_faults(Faults(slow_factor=5.0), 0.0)

    story = play(subject, submits(JOB))

    assert story.finished["a"].at_s == pytest.approx(5 * (50 * STEP_S + 100 * 20e-6))


def test_a_step_that_fails_takes_everybody_in_it_along():
    subject = engine(Vllm(max_num_seqs=2))
    for name in ("a", "b", "waits"):
        subject.submit(Job(name, 10, 50), 0.0)
    subject.advance(0.105)
    subject.set_faults(Faults(fail_steps=True), 0.105)
    failed = [event for event in subject.advance(0.112) if isinstance(event, Failed)]
    subject.set_faults(HEALTHY, 0.112)

    story = play(subject, [])

    assert {event.job_id for event in failed} == {"a", "b"}
    assert all(event.cause is FailureCause.STEP_FAILED for event in failed)
    assert all(event.output_tokens > 5 for event in failed)
    assert set(story.finished) == {"waits"}
    assert subject.gauges().kv_used_tokens == 0


def test_an_answer_can_break_off_in_the_middle():
    subject = engine(Vllm())
    subject.set_faults(Faults(reset_after_tokens=7), 0.0)

    story = play(subject, submits(JOB, Job("short", 100, 5)))

    assert story.failed["a"].cause is FailureCause.RESET
    assert story.failed["a"].output_tokens == 7
    assert "short" in story.finished


def test_everything_can_be_refused_at_once():
    subject = engine(Vllm())
    subject.set_faults(Faults(refuse_status=429), 0.0)

    refused = refusal(subject, JOB)

    assert (refused.cause, refused.status) == (RefusalCause.TOLD_TO, 429)
    assert subject.gauges().refused == 1


def test_frozen_metrics_say_what_was_so():
    subject = engine(Vllm())
    subject.set_faults(Faults(frozen_metrics=True), 0.0)
    subject.submit(JOB, 0.0)
    subject.advance(0.1)

    assert subject.gauges().running == 0
    subject.set_faults(HEALTHY, 0.1)
    assert subject.gauges().running == 1


def test_a_first_token_can_be_late_while_the_rest_is_not():
    subject = engine(Vllm())
    subject.set_faults(Faults(first_token_delay_s=0.2), 0.0)

    story = play(subject, submits(JOB))

    assert story.first["a"] == pytest.approx(0.2 + STEP_S + 100 * 20e-6)
    assert story.finished["a"].at_s == pytest.approx(50 * STEP_S + 100 * 20e-6)


def test_a_draining_engine_finishes_what_it_has_and_takes_nothing():
    subject = engine(Vllm())
    subject.submit(JOB, 0.0)
    subject.set_faults(Faults(draining=True), 0.1)

    assert refusal(subject, Job("b", 1, 1), 0.1).cause is RefusalCause.DRAINING
    assert "a" in play(subject, []).finished


def test_when_an_engine_dies_everybody_hears_of_it_at_once():
    subject = engine(Vllm(max_num_seqs=1))
    subject.submit(JOB, 0.0)
    subject.submit(Job("waits", 1, 1), 0.0)
    subject.advance(0.1)

    subject.set_faults(Faults(dead=True), 0.1)

    ends = subject.advance(0.1)
    assert {(event.job_id, event.cause) for event in ends if isinstance(event, Failed)} == {
        ("a", FailureCause.DIED),
        ("waits", FailureCause.DIED),
    }
    assert refusal(subject, Job("b", 1, 1), 0.2).cause is RefusalCause.DEAD
    assert subject.gauges().kv_used_tokens == subject.jobs == 0
    subject.set_faults(HEALTHY, 0.3)
    assert "b" in play(subject, submits(Job("b", 1, 1), at_s=0.4)).finished


def test_an_engine_that_came_back_tells_the_times_of_one_that_never_died():
    subject = engine(Vllm())
    for name in ("a", "b"):
        subject.submit(Job(name, 10, 100), 0.0)
    subject.advance(0.5)
    subject.set_faults(Faults(dead=True), 0.5)
    subject.advance(0.6)
    subject.set_faults(HEALTHY, 1.0)

    story = play(subject, submits(JOB, at_s=2.0))
    fresh = play(engine(Vllm()), submits(JOB, at_s=2.0))

    again, once = story.finished["a"], fresh.finished["a"]
    assert again.at_s == pytest.approx(once.at_s)
    assert again.slowest_gap_s == pytest.approx(once.slowest_gap_s)


def test_time_does_not_go_back():
    subject = engine(Vllm())
    subject.advance(1.0)

    with pytest.raises(ValueError, match=r"time goes back from 1\.0 to 0\.5"):
        subject.advance(0.5)


def test_a_job_cannot_be_there_twice():
    subject = engine(Vllm())
    subject.submit(JOB, 0.0)

    with pytest.raises(ValueError, match="job 'a' is here already"):
        subject.submit(JOB, 0.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt_tokens": 0, "output_tokens": 1}, "prompt_tokens=0"),
        ({"prompt_tokens": 1, "output_tokens": 0}, "output_tokens=0"),
        ({"prompt_tokens": 1, "output_tokens": 1, "max_tokens": 0}, "max_tokens=0"),
    ],
)
def test_a_job_has_lengths_of_at_least_one(wrong, said):
    with pytest.raises(ValueError, match=said):
        Job("x", **wrong)
