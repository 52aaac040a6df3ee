"""Where prompt and output lengths come from: a sample of a trace, or two distributions by name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from pathlib import Path
from random import Random
from typing import Final

from router.workload.rows import read_rows

SAMPLE: Final = 20_000
"""Pairs kept of a trace, whatever its size."""
_Z90: Final = 1.2815515655446004
"""The standard normal distribution's 90th percentile."""

Draw = Callable[[Random], float]
LengthPair = tuple[int, int]
"""Prompt tokens and output tokens, each at least 1."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Pairs from a trace, drawn with replacement: long prompts keep the answers that they had."""

    pairs: tuple[LengthPair, ...]

    def draw(self, rng: Random) -> LengthPair:
        """Return one pair."""
        return self.pairs[int(rng.random() * len(self.pairs))]


@dataclass(frozen=True, slots=True)
class Independent:
    """Prompt and output drawn each by itself."""

    prompt: Draw
    output: Draw

    def draw(self, rng: Random) -> LengthPair:
        """Return one pair."""
        return max(1, round(self.prompt(rng))), max(1, round(self.output(rng)))


Lengths = Sample | Independent


def sample(path: Path) -> Sample:
    """Return the pairs of a trace; of a large one an even sample. Raises `TraceError`.

    Source: Vitter, Random Sampling with a Reservoir, 1985, algorithm R.
    """
    rng = Random(0)
    pairs: list[LengthPair] = []
    for number, row in enumerate(read_rows(path)):
        pair = row.prompt_tokens, row.output_tokens
        if number < SAMPLE:
            pairs.append(pair)
        elif (at := int(rng.random() * (number + 1))) < SAMPLE:
            pairs[at] = pair
    return Sample(tuple(pairs))


def distribution(text: str) -> Draw:
    """Return the distribution that a text such as `exp(512)` names; raises ValueError.

    `fixed(n)`, `exp(mean)`, `uniform(least, most)`, `lognormal(p50, p90)`; lengths in tokens.
    """
    found = re.fullmatch(r"\s*([a-z]+)\s*\(([^()]*)\)\s*", text)
    makers: dict[str, tuple[int, Callable[..., Draw]]] = {
        "fixed": (1, lambda length: lambda _rng: length),
        "exp": (1, lambda mean: lambda rng: rng.expovariate(1.0 / mean)),
        "uniform": (2, lambda least, most: lambda rng: rng.uniform(least, most)),
        "lognormal": (2, _lognormal),
    }
    name = found[1] if found else ""
    if found is None or name not in makers:
        raise ValueError(
            f"{text!r} is no distribution; fixed(512), exp(512), uniform(1500, 4500) or"
            f" lognormal(130, 430) would be"
        )
    count, make = makers[name]
    try:
        numbers = [float(part) for part in found[2].split(",")]
    except ValueError:
        numbers = []
    ascending = all(a < b for a, b in pairwise(numbers))
    if len(numbers) != count or not ascending or not 1 <= numbers[0] <= numbers[-1] < float("inf"):
        raise ValueError(f"{text!r}: {name} takes {count} lengths of at least 1, ascending")
    return make(*numbers)


def _lognormal(p50: float, p90: float) -> Draw:
    sigma = log(p90 / p50) / _Z90
    return lambda rng: p50 * exp(sigma * rng.gauss(0.0, 1.0))
