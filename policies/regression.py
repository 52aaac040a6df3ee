"""A sum of costs whose weights follow what is seen, one sample at a time."""

from collections.abc import Sequence
from typing import Final

FORGETTING: Final = 0.998
"""Weight of the past at each sample: about 500 samples."""
FIRST_VARIANCE: Final = 10.0
"""How unsure each factor is at first, as a multiple of the variance of one sample's relative
error: a factor of 3 beside errors of a third, squared, is ten."""
MOST_TRACE: Final = 60.0
"""Sum of variances above which nothing is forgotten: what does not vary would be unlearned."""
LEAST_FACTOR: Final = 0.02
MOST_FACTOR: Final = 50.0
TAUGHT_VARIANCE: Final = 1.0
"""How unsure a factor is that was learned by somebody else from engines of the same kind."""
MOST_ERROR: Final = 2.0
"""Relative error beyond which a sample counts no more: one hiccup must not turn the model over."""


class Regression:
    """Recursive least squares on relative errors: `sum(weight * feature)` is the value seen.

    Each weight is its prior times a factor, which starts at 1 and stays within bounds: features
    are nearly collinear. Errors are relative to the prediction, so that short times teach as
    much as long ones.
    Source: recursive least squares with exponential forgetting; Haykin, Adaptive Filter Theory.
    """

    __slots__ = ("_covariance", "_factors", "_priors", "samples", "weights")

    def __init__(self, priors: Sequence[float]) -> None:
        """Start from prior weights, > 0."""
        size = len(priors)
        self._priors = tuple(priors)
        self._factors = [1.0] * size
        self.weights = list(priors)
        self.samples = 0
        self._covariance = [
            [FIRST_VARIANCE if row == column else 0.0 for column in range(size)]
            for row in range(size)
        ]

    def start_from(self, weights: Sequence[float]) -> None:
        """Take over weights that were learned elsewhere; own samples move them further."""
        for at, (prior, weight) in enumerate(zip(self._priors, weights, strict=True)):
            self._factors[at] = factor = min(MOST_FACTOR, max(LEAST_FACTOR, weight / prior))
            self.weights[at] = prior * factor
            row = self._covariance[at]
            row[:] = [0.0] * len(row)
            row[at] = TAUGHT_VARIANCE

    def predict(self, features: Sequence[float]) -> float:
        """Return the value that the weights give."""
        return sum(map(_times, self.weights, features))

    def learn(self, features: Sequence[float], seen: float) -> None:
        """Move the weights towards one value that was seen."""
        priors, covariance, factors = self._priors, self._covariance, self._factors
        predicted = self.predict(features)
        shares = [
            prior * feature / predicted for prior, feature in zip(priors, features, strict=True)
        ]
        spread = [sum(map(_times, row, shares)) for row in covariance]
        denominator = FORGETTING + sum(map(_times, shares, spread))
        error = min(MOST_ERROR, seen / predicted - 1.0)
        self.samples += 1
        trace = 0.0
        for at, row in enumerate(covariance):
            gain = spread[at] / denominator
            factor = min(MOST_FACTOR, max(LEAST_FACTOR, factors[at] + gain * error))
            factors[at] = factor
            self.weights[at] = priors[at] * factor
            for column, other in enumerate(spread):
                row[column] -= gain * other
            trace += row[at]
        if trace < MOST_TRACE * FORGETTING:
            for row in covariance:
                for column in range(len(row)):
                    row[column] /= FORGETTING


def _times(one: float, other: float) -> float:
    return one * other
