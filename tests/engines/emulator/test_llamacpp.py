"""llama.cpp's slots, on an engine of 10 ms a step and 20 us a prompt token."""

import pytest

from engines.emulator.jobs import Job, RefusalCause
from engines.emulator.spec import LlamaCpp, Memory
from tests.engines.emulator.driving import Act, engine, play, refusal, steps_of, submits


def test_a_request_without_a_free_slot_is_deferred_and_served_in_order():
    acts = submits(*(Job(str(n), 10, 10) for n in range(5)))
    subject = engine(LlamaCpp(n_parallel=2))

    story = play(subject, acts)

    assert max(gauges.running for gauges in story.gauges) == 2
    assert max(gauges.waiting for gauges in story.gauges if gauges.running == 2) == 3
    assert sorted(story.first, key=story.first.__getitem__) == ["0", "1", "2", "3", "4"]


def test_prompts_share_what_the_batch_has_left_beside_the_generating_slots():
    subject = engine(LlamaCpp(n_parallel=4, n_batch=128))
    steps = steps_of(subject)

    play(subject, submits(Job("a", 300, 20), Job("b", 300, 20)))

    assert all(step.prefill + step.decodes <= 128 for step in steps)
    assert sum(step.prefill for step in steps) == 600


def test_an_answer_ends_where_its_slot_does():
    story = play(engine(LlamaCpp(n_ctx_slot=100)), submits(Job("a", 60, 500)))

    assert story.finished["a"].output_tokens == 40


def test_a_prompt_that_no_slot_holds_is_refused():
    refused = refusal(engine(LlamaCpp(n_ctx_slot=100)), Job("a", 100, 1))

    assert (refused.cause, refused.status) == (RefusalCause.TOO_LONG, 400)


def test_a_request_goes_to_the_slot_that_remembers_most_of_its_prompt():
    acts = [
        Act(0.0, submit=Job("a", 320, 2, prefix=tuple(range(20)))),
        Act(1.0, submit=Job("b", 320, 2, prefix=tuple(range(100, 120)))),
        Act(2.0, submit=Job("a again", 330, 2, prefix=tuple(range(20)))),
    ]

    story = play(engine(LlamaCpp(n_parallel=2)), acts)
    forgetful = play(engine(LlamaCpp(n_parallel=2), memory=Memory(prefix_caching=False)), acts)

    assert story.finished["b"].cached_tokens == 0
    assert story.finished["a again"].cached_tokens == 320
    assert story.first["a again"] == pytest.approx(2.0 + 0.010 + 10 * 20e-6)
    assert forgetful.finished["a again"].cached_tokens == 0
