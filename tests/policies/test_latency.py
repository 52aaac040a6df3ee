"""What is learned of an engine's speed, and how sure it is."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.latency import FEW_SAMPLES, MOST_PREFILL_SHARE, Bound, LatencyModel
from policies.policy import LatencyPolicy

PRIOR = LatencyPolicy()


def test_before_anything_was_seen_the_prior_speaks():
    model = LatencyModel(PRIOR)

    assert model.first_token_s(1000, 0, 0, 0.0) == pytest.approx(2 * 0.0065 + 0.0214)
    assert model.per_token_s(1, 0, 0.0) == pytest.approx(0.0065 + 11.9e-6)


def test_prompts_read_meanwhile_slow_every_token_down_but_never_without_bound():
    model = LatencyModel(PRIOR)

    alone, half = (model.per_token_s(1, 0, rate) for rate in (0.0, 0.5 / 21.4e-6))

    assert half == pytest.approx(2 * alone)
    assert model.per_token_s(1, 0, 1e9) == pytest.approx(alone / (1 - MOST_PREFILL_SHARE))


def test_what_it_sees_it_learns_unless_it_is_told_not_to():
    for learns in (True, False):
        model = LatencyModel(LatencyPolicy(learns=learns))
        for number in range(300):
            model.saw_first_token((1.0, 1000.0, 1.0, 0.0, 0.0), 0.03, 0.3, float(number))
            model.saw_per_token((1.0, 1.0, 0.0, 0.0), 0.0065, 0.02, float(number))

        assert (model.first_token_s(1000, 1, 0, 0.0) > 0.2) is learns
        assert (model.per_token_s(1, 0, 0.0) > 0.015) is learns


def test_samples_that_come_together_count_once():
    model = LatencyModel(PRIOR)

    for number in range(50):
        model.saw_per_token((1.0, 1.0, 0.0, 0.0), 0.0065, 0.02, number * 1e-4)

    assert model.per_token.samples == 1
    assert model.per_token_bound.factor > 3.0, "though each counts for how often it is right"


@pytest.mark.parametrize(
    ("pending", "since_s", "waits_s"),
    [
        (0, 0.0, 0.2),
        (0, 0.15, 0.05),
        (0, 0.3, 0.0),
        (1, 0.1, 0.1),
        (2, 0.1, 0.0),
        (3, 0.1, 0.2),
        (1, 0.3, 0.2),
    ],
    ids=[
        "just begun",
        "three quarters over",
        "over",
        "too few yet",
        "enough with this one",
        "those are being read",
        "that one is being read",
    ],
)
def test_a_batcher_that_gathers_lets_newcomers_wait_for_company_or_for_its_time(
    pending, since_s, waits_s
):
    policy = LatencyPolicy(step_s=0.01, s_per_sequence=0.0, s_per_kv_token=0.0)

    found = LatencyModel(policy).gather_s(10, pending, 0.0, since_s)

    assert found == pytest.approx(waits_s)


def test_which_engines_gather_is_learned():
    for gathers in (True, False):
        model, rng = LatencyModel(PRIOR), Random(1)
        for number in range(600):
            wait_s = rng.uniform(0.0, 0.2)
            features = (1.0, 1000.0, 8.0, 9000.0, wait_s)
            predicted_s = model.first_token.predict(features)
            seen_s = 0.04 + (wait_s if gathers else 0.0)
            model.saw_first_token(features, predicted_s, seen_s, float(number))

        assert (model.first_token.weights[4] > 0.8) is gathers
        assert (model.first_token.weights[4] < 0.05) is not gathers


@given(seed=st.integers(0, 99), sigma=st.floats(0.05, 0.6))
@settings(max_examples=20, deadline=None)
def test_nine_in_ten_stay_under_the_bound(seed, sigma):
    rng, bound, under = Random(seed), Bound(), 0
    for number in range(4000):
        ratio = rng.lognormvariate(0.0, sigma)
        under += number >= 1000 and ratio <= bound.factor
        bound.learn(ratio)

    assert under / 3000 == pytest.approx(0.9, abs=0.03)


# What another has learned


def experienced(samples: int = 300) -> LatencyModel:
    model = LatencyModel(PRIOR)
    for number in range(samples):
        model.saw_first_token((1.0, 1000.0, 1.0, 0.0, 0.0), 0.03, 0.3, float(number))
        model.saw_per_token((1.0, 1.0, 0.0, 0.0), 0.0065, 0.02, float(number))
    return model


def test_who_has_seen_nothing_starts_from_what_another_has_learned():
    teacher, pupil = experienced(), LatencyModel(PRIOR)

    pupil.taught(teacher.lesson)

    assert pupil.first_token_s(1000, 1, 0, 0.0) == pytest.approx(
        teacher.first_token_s(1000, 1, 0, 0.0)
    )
    assert pupil.per_token_s(1, 0, 0.0) == pytest.approx(teacher.per_token_s(1, 0, 0.0))
    assert pupil.first_token_bound.factor == pytest.approx(teacher.first_token_bound.factor)
    assert pupil.samples == 0


def test_what_was_taught_gives_way_to_what_is_seen():
    pupil = LatencyModel(PRIOR)
    pupil.taught(experienced().lesson)

    for number in range(300):
        pupil.saw_first_token((1.0, 1000.0, 1.0, 0.0, 0.0), 0.3, 0.1, float(number))

    assert pupil.first_token_s(1000, 1, 0, 0.0) == pytest.approx(0.1, rel=0.2)


def test_a_lesson_is_taken_once_and_never_by_who_knows_better_or_does_not_learn():
    lesson = experienced().lesson
    knows, fixed = experienced(FEW_SAMPLES), LatencyModel(LatencyPolicy(learns=False))
    pupil = LatencyModel(PRIOR)
    pupil.taught(LatencyModel(PRIOR).lesson)
    before = [each.lesson for each in (knows, fixed, pupil)]

    for model in (knows, fixed, pupil):
        model.taught(lesson)

    assert [each.lesson for each in (knows, fixed, pupil)] == before


def test_a_lesson_of_another_version_is_passed_over():
    lesson, pupil = experienced().lesson, LatencyModel(PRIOR)
    before = pupil.lesson

    pupil.taught(replace(lesson, first_token=lesson.first_token[:-1]))

    assert pupil.lesson == before
