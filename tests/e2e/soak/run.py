"""One soak: unreliable engines, a router, a crowd, and what is left afterwards."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random

from engines.engine import Kind
from policies.facts import FailureKind, Profile
from policies.policy import HealthPolicy, Policy, RetryPolicy
from router.settings import Timeouts
from tests.e2e.running import Serving, pool, serving, until
from tests.e2e.soak.crowd import Member, Tally
from tests.e2e.soak.engines import Ledger, Unreliable
from tests.fakes.scripted import ScriptedEngine, scripted_engine

TIMEOUTS = Timeouts(connect_s=2.0, first_token_s=1.5, answer_s=1.5, idle_s=1.5)
SEND_BYTES = 16_384
"""Little enough that slow callers are felt."""
WATCH_S = 0.02
STILL_S = 0.75
"""A process that stood still for so long finds its engines silent through no fault of theirs."""
POLICY = Policy(
    retry=RetryPolicy(share_of_requests=0.5, per_s=100.0, burst=100.0),
    health=HealthPolicy(back_off_s=0.05, max_back_off_s=0.2),
)


class Failures(logging.Handler):
    """Counts failed attempts by their kind, as the router notes them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        kind = getattr(record, "failure", None)
        if kind is not None:
            self.counts[kind] += 1

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what the router notes."""
        logger = logging.getLogger("headway")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(self)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate


@dataclass(slots=True)
class Outcome:
    """What a soak found."""

    tally: Tally = field(default_factory=Tally)
    ledger: Ledger = field(default_factory=Ledger)
    leaks: list[str] = field(default_factory=list)
    """What was held still when everybody had gone."""
    failures: Counter[str] = field(default_factory=Counter)
    """Attempts that failed, by kind."""
    longest_still_s: float = 0.0
    """The longest time that the event loop did not turn."""

    @property
    def unexplained(self) -> int:
        """Times that an engine was given up on as silent although it was not.

        Not judged where the whole process was held up: engines, router and callers share it.
        """
        if self.longest_still_s > STILL_S:
            return 0
        given_up = self.failures[FailureKind.FIRST_TOKEN_TIMEOUT]
        given_up += self.failures[FailureKind.IDLE_TIMEOUT]
        deeds = Counter(deed for done in self.ledger.deeds.values() for deed in done)
        return max(0, given_up - deeds["stay_silent"] - deeds["stall"])

    @property
    def is_clean(self) -> bool:
        """Nothing leaked and nothing was answered wrongly."""
        return not self.leaks and not self.tally.wrong and not self.unexplained


async def soak(
    requests: int, seed: int, callers: int, progress: Callable[[Tally], None], every_s: float = 1.0
) -> Outcome:
    """Send so many requests and return what became of them."""
    outcome, rng, failures = Outcome(), Random(seed), Failures()
    outcome.failures = failures.counts
    async with AsyncExitStack() as stack:
        stack.enter_context(failures.listening())
        engines = [
            await stack.enter_async_context(
                scripted_engine(Unreliable(outcome.ledger, Random(rng.random())))
            )
            for _ in range(4)
        ]
        one, two, three, four = engines
        pools = [
            pool("fast", one, kind=Kind.SGLANG, profile=Profile.PREDICTABLE, slots=6),
            pool("text", two, kind=Kind.TGI, profile=Profile.PREDICTABLE, slots=6),
            pool("big", three, kind=Kind.VLLM, slots=12),
            pool("named", four, kind=Kind.OPENAI, model="other", slots=12),
        ]
        router = await stack.enter_async_context(
            serving(
                *pools,
                timeouts=TIMEOUTS,
                policy=POLICY,
                seed=seed,
                within_s=None,
                send_bytes=SEND_BYTES,
            )
        )
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(_tell(outcome.tally, progress, every_s)),
                tasks.create_task(_watch(outcome)),
            ]
            members = [
                tasks.create_task(
                    Member(
                        router.port,
                        Random(rng.random()),
                        outcome.ledger,
                        outcome.tally,
                        f"c{number}",
                    ).ask_until(requests)
                )
                for number in range(callers)
            ]
            await asyncio.wait(members)
            for task in beside:
                task.cancel()
        outcome.leaks = await _leaks(router, engines)
    return outcome


async def _tell(tally: Tally, progress: Callable[[Tally], None], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        progress(tally)


async def _watch(outcome: Outcome) -> None:
    """Note how long the event loop stands still."""
    while True:
        began_at = time.monotonic()
        await asyncio.sleep(WATCH_S)
        still_s = time.monotonic() - began_at - WATCH_S
        outcome.longest_still_s = max(outcome.longest_still_s, still_s)


async def _leaks(router: Serving, engines: list[ScriptedEngine]) -> list[str]:
    """Give everything a moment to come to rest, and return what did not."""
    leaks = []
    try:
        await until(lambda: not router.held)
    except TimeoutError:
        leaks.append(f"held: {router.held}")
    kept = {id_: each.pool for id_, each in router.router.door.endpoints.items()}
    idle = sum(each.idle_connections for each in kept.values())
    try:
        await until(lambda: sum(engine.open_connections for engine in engines) <= idle)
    except TimeoutError:
        seen = sum(engine.open_connections for engine in engines)
        leaks.append(f"engines have {seen} connections, the router knows of {idle}")
    connecting = [repr(task) for task in asyncio.all_tasks() if "_connect" in repr(task)]
    return leaks + connecting
