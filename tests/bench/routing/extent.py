"""How much is run."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """Seeds and lengths of the runs."""

    seeds: Sequence[int] = (1, 2, 3)
    search_s: float = 100.0
    """Of each run in the search for a highest rate."""
    steady_s: float = 150.0
    """Of each run whose bulk tokens are counted."""
    rung: float = 1.05
    """Ratio of one rate to the next below it, in searches."""
    decision_runs: int = 60


QUICK = Extent(seeds=(1,), search_s=40.0, steady_s=120.0, rung=1.1, decision_runs=10)
