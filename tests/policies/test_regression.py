"""The line that follows what is seen, held against lines that are known."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.regression import MOST_FACTOR, Regression

TRUE = (0.0065, 12e-6, 0.0445e-6)


def features(rng):
    return 1.0, rng.uniform(1, 200), rng.uniform(1e3, 3e5)


@pytest.mark.parametrize("off", [3.0, 1 / 3], ids=["three times", "a third"])
@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_a_prior_that_is_off_is_corrected_within_two_hundred_samples(off, seed):
    rng = Random(seed)
    line, truth = Regression([off * weight for weight in TRUE]), Regression(TRUE)
    for _ in range(200):
        seen = features(rng)
        line.learn(seen, truth.predict(seen) * rng.lognormvariate(0.0, 0.1))

    errors = [abs(line.predict(x) / truth.predict(x) - 1.0) for x in map(features, [rng] * 50)]
    assert sorted(errors)[25] < 0.1


def test_one_hiccup_does_not_turn_the_line_over():
    rng = Random(1)
    line, truth = Regression(TRUE), Regression(TRUE)
    for _ in range(300):
        seen = features(rng)
        line.learn(seen, truth.predict(seen))

    line.learn(features(rng), 60.0)

    seen = features(rng)
    assert line.predict(seen) == pytest.approx(truth.predict(seen), rel=0.5)


@given(
    st.lists(
        st.tuples(st.floats(0, 1e3), st.floats(0, 1e6), st.floats(1e-4, 100.0)),
        max_size=300,
    )
)
@settings(max_examples=50, deadline=None)
def test_weights_stay_positive_and_bounded_whatever_is_seen(samples):
    line = Regression(TRUE)

    for sequences, kv_tokens, seen in samples:
        line.learn((1.0, sequences, kv_tokens), seen)

    for weight, prior in zip(line.weights, TRUE, strict=True):
        assert 0.0 < weight <= MOST_FACTOR * prior
