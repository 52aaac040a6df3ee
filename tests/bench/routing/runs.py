"""One simulated run as the benchmark counts it, and many of them on all cores."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final, TypeVar

from policies.facts import SlaClass
from router.measure.distribution import Distribution
from router.measure.outcome import Fate, Outcome
from router.measure.tally import Bin, Tally
from router.simulation.conditions import USUAL, Conditions, Observed
from router.simulation.contenders import Contender
from router.simulation.fleet import Fleet
from router.workload.offers import Offer
from router.workload.settings import Workload
from router.workload.stream import offers
from tests.bench.routing.returning import Returning
from tests.bench.routing.watched import Prediction, WatchedWorld

WINDOW_S: Final = 10.0
GOOD: Final = 0.99
"""Share of a class's requests that has to be in time."""
MOST_BULK_WAIT_S: Final = 10.0
"""To the first token, of nine in ten bulk requests, where a fleet keeps up with what comes."""
J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Job:
    """What is run. Everything in it can be sent to another process."""

    fleet: Fleet
    contender: Contender
    workload: Workload
    seed: int
    cool_down_s: float = 0.0
    """Requests of the end that are served and not counted: the engines stay as busy for those
    before."""
    comes_back: bool = False
    """Callers that are refused come back when they were told to."""
    watches: bool = False
    """Predictions are kept."""
    source: Callable[[Workload, int], Iterator[Offer]] = offers
    """Makes the requests of a workload from a seed."""
    conditions: Conditions = USUAL


@dataclass(slots=True)
class Seen:
    """What came of it, of requests after the warm-up and before the cool-down."""

    tally: Tally
    observed: Observed
    counted_s: float
    """How long requests came that are counted, s."""
    good_tokens: Counter[SlaClass] = field(default_factory=Counter)
    """Output tokens of answers that met their targets."""
    windows: dict[SlaClass, dict[int, Bin]] = field(
        default_factory=lambda: {each: {} for each in SlaClass}
    )
    """By class and number of the ten seconds, warm-up included."""
    prompt_tokens: int = 0
    """Of all answers that came whole, warm-up included."""
    returned: int = 0
    """Requests of callers that came back."""
    admitted: int = 0
    """Of these, those that were not refused again."""
    predictions: list[Prediction] = field(default_factory=list)

    def attainment(self, sla_class: SlaClass) -> float:
        """Return the share of a class's requests that met their targets."""
        return self.tally.classes[sla_class].attainment

    def good_tokens_per_s(self, sla_class: SlaClass) -> float:
        """Return a class's output tokens a second, of answers that met their targets."""
        return self.good_tokens[sla_class] / self.counted_s

    def between(self, sla_class: SlaClass, from_s: float, until_s: float) -> Bin:
        """Return what was offered between two times, each a multiple of ten seconds."""
        whole = Bin()
        for at, each in self.windows[sla_class].items():
            if from_s <= at * WINDOW_S < until_s:
                whole.offered += each.offered
                whole.good += each.good
                whole.refused += each.refused
        return whole

    def add(self, outcome: Outcome, until_s: float) -> None:
        """Count one first attempt of a caller."""
        offer = outcome.offer
        at = int(offer.at_s // WINDOW_S)
        window = self.windows[offer.sla_class].setdefault(at, Bin())
        window.offered += 1
        window.good += outcome.good
        window.refused += outcome.fate is Fate.REFUSED
        if outcome.fate is Fate.SERVED:
            self.prompt_tokens += offer.prompt_tokens
        if offer.at_s >= until_s:
            return
        self.tally.add(outcome)
        if offer.at_s >= self.tally.warm_up_s and outcome.good:
            self.good_tokens[offer.sla_class] += outcome.output_tokens


def run(job: Job) -> Seen:
    """Run one job."""
    workload = job.workload
    world = WatchedWorld(
        job.fleet,
        job.contender,
        seed=job.seed,
        faults=workload.faults,
        conditions=job.conditions,
        keeps=job.watches,
    )
    until_s = workload.duration_s - job.cool_down_s
    tally = Tally(workload.duration_s, workload.warm_up_s)
    seen = Seen(tally, world.observed, until_s - workload.warm_up_s, predictions=world.predictions)
    stream = Returning(job.source(workload, job.seed), comes_back=job.comes_back)
    for outcome in world.run(stream):
        if stream.is_return(outcome):
            seen.returned += 1
            seen.admitted += outcome.fate is not Fate.REFUSED
        else:
            seen.add(outcome, until_s)
        stream.learn(outcome)
    return seen


class Runner:
    """Runs jobs on all cores; the results come in the order of the jobs."""

    def __init__(self, pool: Executor, told: Callable[[str], None]) -> None:
        self._pool = pool
        self.told = told
        """Hears of progress, in words."""

    def each(self, function: Callable[[J], R], jobs: Iterable[J], what: str) -> list[R]:
        """Return what a function makes of each job."""
        listed = list(jobs)
        results = []
        for number, result in enumerate(self._pool.map(function, listed), start=1):
            self.told(f"{what}: {number} of {len(listed)}")
            results.append(result)
        return results

    def runs(self, jobs: Iterable[Job], what: str) -> list[Seen]:
        """Run simulations."""
        return self.each(run, jobs, what)


def mean_attainment(seen: Sequence[Seen], sla_class: SlaClass) -> float:
    """Return the mean over seeds."""
    return fmean(each.attainment(sla_class) for each in seen)


def first_token_percentile(seen: Sequence[Seen], sla_class: SlaClass, share: float) -> float | None:
    """Return a percentile of the time to first token over all seeds, s."""
    whole = Distribution()
    for each in seen:
        whole.merge(each.tally.classes[sla_class].first_token)
    return whole.percentile(share)


def all_hold(seen: Sequence[Seen]) -> bool:
    """Return whether of every class enough is in time, and no queue of bulk grows.

    Bulk's deadline alone would not tell: a queue that grows by a tenth of what comes takes ten
    minutes to reach a minute.
    """
    late_s = first_token_percentile(seen, SlaClass.BULK, 0.9)
    steady = late_s is None or late_s <= MOST_BULK_WAIT_S
    return steady and all(mean_attainment(seen, each) >= GOOD for each in SlaClass)
