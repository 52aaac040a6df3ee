"""The plain numbers that a request adds to on its way: integers, and sorted bounds.

Nothing here knows Prometheus, takes a lock or looks up a label. One event loop adds; a scrape
reads. Durations are seconds.
"""

from bisect import bisect_left
from typing import Final

from policies.facts import Ending

# Fine where targets are usually set, coarse elsewhere. Engines' own buckets begin at 10 ms a token
# and 300 ms in the queue: too coarse to see a fast pool.
FIRST_TOKEN_S: Final[tuple[float, ...]] = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0),
)
PER_TOKEN_S: Final[tuple[float, ...]] = (
    *(0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04),
    *(0.05, 0.06, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0),
)
QUEUE_S: Final[tuple[float, ...]] = (
    *(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0),
)
OVERHEAD_S: Final[tuple[float, ...]] = (
    *(0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075),
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)
LAG_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


Exemplar = tuple[str, float, float]
"""The trace of an observation, its value, and when it was made in seconds since 1970."""


class Histogram:
    """Observations counted between fixed bounds."""

    __slots__ = ("bounds_s", "counts", "exemplars", "total_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self.bounds_s = bounds_s
        """Ascending, without infinity."""
        self.counts = [0] * (len(bounds_s) + 1)
        """`counts[i]`: observations above bound i-1 and at most bound i; the last is unbounded."""
        self.total_s = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        """The last one of each place in `counts` that has any."""

    def observe(self, value_s: float) -> None:
        """Count one observation; a value equal to a bound belongs below it, as `le` says."""
        self.counts[bisect_left(self.bounds_s, value_s)] += 1
        self.total_s += value_s

    def exemplify(self, value_s: float, trace_id: str, at_s: float) -> None:
        """Remember the trace of an observation, which was counted, in place of the one before."""
        self.exemplars[bisect_left(self.bounds_s, value_s)] = trace_id, value_s, at_s


class Latencies:
    """How long requests of one pool, class and model took."""

    __slots__ = ("first_token", "overhead", "per_token", "queue")

    def __init__(self) -> None:
        self.queue = Histogram(QUEUE_S)
        self.first_token = Histogram(FIRST_TOKEN_S)
        self.per_token = Histogram(PER_TOKEN_S)
        self.overhead = Histogram(OVERHEAD_S)


class Attainment:
    """Requests of one class and model that had a target, and those that met it."""

    __slots__ = ("attained", "offered")

    def __init__(self) -> None:
        self.offered = 0
        self.attained = 0


class Series:
    """What is counted for one endpoint, class and model; resolved once, then added to.

    Distributions are kept by pool: by endpoint they would be most of a large fleet's scrape.
    """

    __slots__ = (
        *("attainment", "first_token", "latencies"),
        *("outcomes", "output_tokens", "prompt_tokens"),
    )

    def __init__(self, latencies: Latencies, attainment: Attainment) -> None:
        self.latencies = latencies
        self.attainment = attainment
        self.outcomes = dict.fromkeys(Ending, 0)
        self.first_token = Histogram(())
        """Without bounds, it keeps only the count and the total."""
        self.prompt_tokens = 0
        self.output_tokens = 0

    def ended(  # noqa: PLR0913 -- one call a request, with every fact of it
        self,
        outcome: Ending,
        *,
        queue_s: float,
        first_token_s: float | None,
        per_token_s: float | None,
        overhead_s: float,
        prompt_tokens: int,
        output_tokens: int,
        met: bool | None = None,
    ) -> None:
        """Count one request that left this endpoint.

        `first_token_s` is None where no token came, `per_token_s` where fewer than two did, `met`
        where the request had no target.
        """
        self.outcomes[outcome] += 1
        self.prompt_tokens += prompt_tokens
        self.output_tokens += output_tokens
        latencies = self.latencies
        latencies.queue.observe(queue_s)
        latencies.overhead.observe(overhead_s)
        if first_token_s is not None:
            latencies.first_token.observe(first_token_s)
            self.first_token.observe(first_token_s)
        if per_token_s is not None:
            latencies.per_token.observe(per_token_s)
        if met is not None:
            self.attainment.offered += 1
            self.attainment.attained += met

    def exemplify(
        self,
        trace_id: str,
        at_s: float,
        *,
        queue_s: float,
        first_token_s: float | None,
        per_token_s: float | None,
    ) -> None:
        """Remember the trace of a request that was counted; `at_s` is seconds since 1970."""
        latencies = self.latencies
        latencies.queue.exemplify(queue_s, trace_id, at_s)
        if first_token_s is not None:
            latencies.first_token.exemplify(first_token_s, trace_id, at_s)
        if per_token_s is not None:
            latencies.per_token.exemplify(per_token_s, trace_id, at_s)
