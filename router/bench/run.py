"""Runs: every target with every seed at every rate, one after the other."""

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvloop

from router.bench.drive import Drive, Generator, drive
from router.bench.prompts import Prompts
from router.bench.question import Target, Writer
from router.measure.outcome import Outcome
from router.measure.tally import Tally
from router.workload.settings import Workload
from router.workload.stream import at_rate, offers


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    targets: Sequence[Target]
    workload: Workload
    rates: Sequence[float]
    """Requests a second, all traffic together."""
    seeds: Sequence[int]
    timeout_s: float = 120.0
    exact: bool = True
    """Answers are made as long as the workload says, and held to it."""
    clock: Callable[[], float] = field(default=time.monotonic)

    @property
    def runs(self) -> int:
        """How many runs that is."""
        return len(self.targets) * len(self.rates) * len(self.seeds)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one target at one rate with one seed."""

    target: str
    rate: float
    seed: int
    tally: Tally
    generator: Generator


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the garbage collector from what is there already: going through it makes requests late."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def measure(plan: Plan, seen: Callable[[str], None] = lambda _name: None) -> Iterator[Run]:
    """Yield the runs: at each rate and seed the same requests for all targets, in other words.

    Targets take turns seed by seed, so that none of them has the machine's better half-hour.
    `seen` is told the target's name with each outcome.
    """
    for rate in plan.rates:
        offered = at_rate(plan.workload, rate)
        for seed in plan.seeds:
            for aim in plan.targets:
                tally = Tally(offered.duration_s, offered.warm_up_s)

                def note(outcome: Outcome, name: str = aim.name, to: Tally = tally) -> None:
                    to.add(outcome)
                    seen(name)

                how = Drive(
                    aim,
                    Writer(aim, Prompts(os.urandom(8).hex()), exact=plan.exact),
                    plan.timeout_s,
                    plan.exact,
                    plan.clock,
                    note,
                )
                with _undisturbed():
                    generator = uvloop.run(drive(how, offers(offered, seed)))
                yield Run(aim.name, rate, seed, tally, generator)
