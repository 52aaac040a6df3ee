"""How long an engine will take, learned online from its own answers.

Two lines, for each pool: the time to first token over what is ahead of the prompt and how long the
engine will keep newcomers waiting, and the time a token over what is decoded beside it. The second is learned as a sum of work: while a request makes
`n` tokens, the engine makes `n` steps and reads other prompts in between, so

    time a token = step + per_sequence * sequences + per_kv_token * kv_tokens
                   + per_prompt_token * (prompt tokens read meanwhile / n)

and for a newcomer, with prompts read at a rate R (tokens a second),

    time a token = (step + per_sequence * N + per_kv_token * KV) / (1 - per_prompt_token * R).

Both are in the same units for unlike engines, so that their predictions can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log
from typing import Final

from policies.policy import LatencyPolicy
from policies.regression import Regression

MOST_PREFILL_SHARE: Final = 0.85
"""Share of its time that an engine is taken to read prompts at most, for predictions."""
LEARNS_EVERY_S: Final = 0.02
"""Samples closer together than this are passed over: they would say the same and cost time."""
LEAST_TOKENS: Final = 8
"""Output tokens that a request must have for its time a token to teach anything."""
QUANTILE: Final = 0.9
FIRST_BOUND: Final = 1.3
"""Ratio of the bound to the prediction at first."""
STEP: Final = 0.05
"""How far one sample moves the logarithm of the bound."""
GATHER_STEPS: Final = 20
"""Decode steps for which a batcher that pauses them for prompts gathers newcomers, and"""
GATHER_SHARE: Final = 0.3
"""the share of those running at which it has enough. Source: TGI's `max_waiting_tokens` and
`waiting_served_ratio`; which engines do so is learned."""
LEAST_GATHERED: Final = 7
"""Running requests below which one newcomer is enough."""
GATHER_PRIOR: Final = 0.1
"""Share of that wait that is expected at first."""


FEW_SAMPLES: Final = 50
"""Who has seen fewer answers lets itself be taught by one who has seen more."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What was learned of one pool's engines."""

    samples: int
    """Answers that it rests on."""
    first_token: tuple[float, ...]
    """Weights, as in `LatencyModel.first_token`."""
    per_token: tuple[float, ...]
    first_token_bound: float
    """Factor on predictions."""
    per_token_bound: float


class Bound:
    """A factor on predictions that a share `QUANTILE` of what is seen stays under.

    Source: adaptive conformal inference, Gibbs and Candès 2021, on the ratio seen / predicted.
    """

    __slots__ = ("_log", "factor")

    def __init__(self) -> None:
        self._log = log(FIRST_BOUND)
        self.factor = FIRST_BOUND

    def start_from(self, factor: float) -> None:
        """Take over a factor that was learned elsewhere, > 0."""
        self._log = min(3.0, max(-1.0, log(factor)))
        self.factor = exp(self._log)

    def learn(self, ratio: float) -> None:
        """Take in one ratio of what was seen to what was predicted."""
        step = QUANTILE if ratio > self.factor else QUANTILE - 1.0
        self._log = min(3.0, max(-1.0, self._log + STEP * step))
        self.factor = exp(self._log)


class LatencyModel:
    """What is known of the speed of one pool's engines."""

    __slots__ = (
        "_first_at",
        "_next_at",
        "_taught",
        "first_token",
        "first_token_bound",
        "learns",
        "per_token",
        "per_token_bound",
    )

    def __init__(self, policy: LatencyPolicy) -> None:
        self.learns = policy.learns
        prefill, step = policy.prefill_s_per_token, policy.step_s
        sequence, kv = policy.s_per_sequence, policy.s_per_kv_token
        self.first_token = Regression((2.0 * step, prefill, sequence, kv, GATHER_PRIOR))
        self.per_token = Regression((step, sequence, kv, prefill))
        self.first_token_bound = Bound()
        self.per_token_bound = Bound()
        self._first_at = self._next_at = -inf
        self._taught = False

    @property
    def samples(self) -> int:
        """Answers that both lines have learned from."""
        return min(self.first_token.samples, self.per_token.samples)

    @property
    def lesson(self) -> Lesson:
        """What has been learned so far."""
        return Lesson(
            self.samples,
            tuple(self.first_token.weights),
            tuple(self.per_token.weights),
            self.first_token_bound.factor,
            self.per_token_bound.factor,
        )

    def taught(self, lesson: Lesson) -> None:
        """Start from what another has learned, once, unless enough has been seen here."""
        if self._taught or not self.learns or self.samples >= FEW_SAMPLES:
            return
        ours = len(self.first_token.weights), len(self.per_token.weights)
        if (len(lesson.first_token), len(lesson.per_token)) != ours:
            # A router of another version, which thinks of other things.
            return
        self._taught = True
        self.first_token.start_from(lesson.first_token)
        self.per_token.start_from(lesson.per_token)
        self.first_token_bound.start_from(lesson.first_token_bound)
        self.per_token_bound.start_from(lesson.per_token_bound)

    @property
    def step_s(self) -> float:
        """What one step of an idle engine is taken to cost, s."""
        return self.per_token.weights[0]

    @property
    def prefill_s_per_token(self) -> float:
        """What reading one prompt token is taken to cost those who decode meanwhile, s."""
        return self.per_token.weights[3]

    def first_token_s(
        self, ahead_tokens: float, in_flight: int, kv_tokens: float, gather_s: float
    ) -> float:
        """Return the time to first token of a prompt, s; all counts include it."""
        w0, w1, w2, w3, w4 = self.first_token.weights
        return w0 + w1 * ahead_tokens + w2 * in_flight + w3 * kv_tokens + w4 * gather_s

    def gather_s(self, running: int, pending: int, kv_tokens: float, since_s: float) -> float:
        """Return how long a batcher that gathers newcomers would let one more wait, s.

        `pending`: without a first token, without it; `since_s`: since the last first token.
        """
        enough = int(GATHER_SHARE * running)
        step, sequence, kv, _ = self.per_token.weights
        gathering_s = GATHER_STEPS * (step + sequence * running + kv * kv_tokens)
        if pending and (pending >= enough or since_s >= gathering_s):
            # Those are being read: the next ones are gathered after them.
            return gathering_s
        if pending + 1 >= enough or since_s >= gathering_s:
            return 0.0
        return gathering_s - since_s

    def per_token_s(self, in_flight: int, kv_tokens: float, prompt_tokens_per_s: float) -> float:
        """Return the time a token of a newcomer, s; all counts include it."""
        step, sequence, kv, prefill = self.per_token.weights
        share = prefill * prompt_tokens_per_s
        share = min(share, MOST_PREFILL_SHARE)
        return (step + sequence * in_flight + kv * kv_tokens) / (1.0 - share)

    def saw_first_token(
        self, features: Sequence[float], predicted_s: float, seen_s: float, now: float
    ) -> None:
        """Learn from one time to first token; `features` as of when it was sent."""
        if not self.learns:
            return
        self.first_token_bound.learn(seen_s / max(predicted_s, 1e-6))
        if now - self._first_at < LEARNS_EVERY_S:
            return
        self._first_at = now
        self.first_token.learn(features, seen_s)

    def saw_per_token(
        self, features: Sequence[float], predicted_s: float, seen_s: float, now: float
    ) -> None:
        """Learn from one mean time a token; `features`: means over the request's life."""
        if not self.learns:
            return
        self.per_token_bound.learn(seen_s / max(predicted_s, 1e-6))
        if now - self._next_at < LEARNS_EVERY_S:
            return
        self._next_at = now
        self.per_token.learn(features, seen_s)
