"""Offers a workload to a target, each request at its own time, whatever became of those before."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

from router.bench.call import Call
from router.bench.connection import Connection, Connections
from router.bench.question import Target, Writer
from router.measure.distribution import Distribution
from router.measure.outcome import Fate, Outcome
from router.workload.offers import Offer

MOST_LAG_S: Final = 0.005
"""Above it, at the 99th percentile, the generator is too slow and what it measures is itself."""
MOST_TROUBLES: Final = 5
"""Different troubles kept, in words."""


@dataclass(slots=True)
class Generator:
    """How the load generator itself did."""

    lag: Distribution = field(default_factory=Distribution)
    """How much later than due requests were sent."""
    connections: int = 0
    """How many were opened."""
    troubles: Counter[str] = field(default_factory=Counter)
    """What went wrong, in words."""

    @property
    def valid(self) -> bool:
        """Whether the measurement can be believed."""
        lag_s = self.lag.percentile(0.99)
        return lag_s is not None and lag_s <= MOST_LAG_S


@dataclass(frozen=True, slots=True)
class Drive:
    """What a drive needs besides the offers."""

    target: Target
    writer: Writer
    timeout_s: float
    """When an answer is given up, from the moment its request was due."""
    exact: bool
    """Answers must have as many tokens as the offers say."""
    clock: Callable[[], float]
    seen: Callable[[Outcome], None]
    """Told each outcome as soon as it is known."""


async def drive(plan: Drive, offers: Iterable[Offer]) -> Generator:
    """Send every offer when it is due and wait until the last has its outcome."""
    generator = Generator()
    connections = Connections(plan.target)
    coming = iter(offers)
    first = list(islice(coming, 1))  # reads the traces, which takes longer than a request may
    begun_at = plan.clock()
    async with asyncio.TaskGroup() as group:
        for offer in chain(first, coming):
            # Written before it is due, so that its making does not make it late.
            request = plan.writer.request(offer)
            due_at = begun_at + offer.at_s
            wait_s = due_at - plan.clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            group.create_task(_serve(plan, generator, connections, offer, request, due_at))
    connections.close()
    generator.connections = connections.opened
    return generator


async def _serve(
    plan: Drive,
    generator: Generator,
    connections: Connections,
    offer: Offer,
    request: bytes,
    due_at: float,
) -> None:
    """Send one request and see to it that it gets its outcome in time."""
    over = asyncio.get_running_loop().create_future()

    def ended(_call: Call) -> None:
        if not over.done():
            over.set_result(None)

    call = Call(offer, due_at, plan.clock, ended, exact=plan.exact)
    connection: Connection | None = None
    limit_s, fate = _limit(plan, offer)
    try:
        async with asyncio.timeout(max(0.0, due_at + limit_s - plan.clock())):
            connection = await connections.one()
            connection.ask(request, call)
            await over
    except TimeoutError:
        # Where the outcome is known the connection may serve somebody else already.
        if call.outcome is None:
            call.give_up(fate, f"no whole answer within {limit_s:g} s")
            if connection is not None:
                connection.drop()
    except OSError as error:
        call.lost(f"no connection: {error.strerror or error}")
    if call.outcome is None:
        raise RuntimeError("a call ended without an outcome")
    _note(generator, call)
    plan.seen(call.outcome)


def _limit(plan: Drive, offer: Offer) -> tuple[float, Fate]:
    """Return how long an answer may take, and what becomes of one that takes longer."""
    if offer.patience_s is not None and offer.patience_s < plan.timeout_s:
        return offer.patience_s, Fate.ABANDONED
    return plan.timeout_s, Fate.FAILED


def _note(generator: Generator, call: Call) -> None:
    if call.lag_s is not None:
        generator.lag.add(max(0.0, call.lag_s))
    if call.trouble is not None:
        known = len(generator.troubles) < MOST_TROUBLES or call.trouble in generator.troubles
        generator.troubles[call.trouble if known else "other"] += 1
