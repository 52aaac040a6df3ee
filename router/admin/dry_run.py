"""What a policy would have done: recorded requests replayed in virtual time, in another process.

The dispatcher that decides is the one that serves; the engines are the emulated ones. Requests have
the lengths that they turned out to have; where one never got its answer, those it was expected to
have. Both policies are held to the targets that were in effect when the requests came.
"""

import asyncio
import os
import pickle  # nosec B403 # of what this process itself wrote, for its own child
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from multiprocessing import get_context
from operator import attrgetter
from random import Random
from typing import Any, Final

from engines.emulator.profiles import PROFILES
from engines.emulator.spec import EngineSpec, Knobs, LlamaCpp, Memory, Sglang, Tgi, Vllm
from engines.engine import Kind, Route
from policies.facts import NO_TARGETS, EndpointPlan, RequestFacts, SlaClass, Wish
from policies.policy import Policy
from router.admin.recent import Seen
from router.measure.tally import Tally
from router.report.summary import Entry, row
from router.settings import Endpoint, Pool
from router.simulation.conditions import Conditions
from router.simulation.contenders import Contender
from router.simulation.fleet import Fleet, FleetDocument, Member
from router.simulation.world import World
from router.workload.offers import Offer

USUAL_TIMING: Final = "h100-8b"
TIMING_LABEL: Final = "timing"
"""The endpoint label that names its timing: a model on a card."""
COST_LABEL: Final = "usd_per_hour"
TIMEOUT_S: Final = 120.0
CHUNK: Final = 20
"""Requests that are packed without a pause: a quarter of a millisecond."""
PAUSE_S: Final = 0.001
Replayed = tuple[Offer, RequestFacts]
_KNOBS: Final[dict[Kind, type[Knobs]]] = {
    Kind.VLLM: Vllm,
    Kind.TGI: Tgi,
    Kind.SGLANG: Sglang,
    Kind.LLAMACPP: LlamaCpp,
    Kind.OPENAI: Vllm,
}


@dataclass(frozen=True, slots=True)
class Job:
    """All that a replay needs; travels to the worker."""

    requests: Sequence[bytes]
    """As `packed` makes them."""
    members: tuple[Member, ...]
    policies: tuple[tuple[str, Policy], ...]
    seed: int = 1


@dataclass(frozen=True, slots=True)
class _Recorded(Conditions):
    """The router sees what it saw then."""

    recorded: Sequence[RequestFacts] = field(default=())

    def facts(self, offer: Offer, rng: Random) -> RequestFacts:
        """Return the facts of a recorded request."""
        return self.recorded[offer.number]


class DryRuns:
    """Two worker processes, started when first asked and kept; one question at a time."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._one = asyncio.Lock()

    async def run(self, job: Job) -> dict[str, Any]:
        """Return both outcomes; raises TimeoutError."""
        async with self._one:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(2, get_context("spawn"), initializer=_step_back)
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    # A worker each: what one policy comes to does not depend on the other.
                    runs = [
                        loop.run_in_executor(self._pool, replay, replace(job, policies=(policy,)))
                        for policy in job.policies
                    ]
                    found = [await each for each in runs]
            except (TimeoutError, asyncio.CancelledError):
                self.close()
                raise
        outcomes = {name: row for each in found for name, row in each["outcomes"].items()}
        return {**found[0], "outcomes": outcomes}

    def close(self) -> None:
        """End the worker."""
        pool, self._pool = self._pool, None
        if pool is not None:
            for process in list(pool._processes.values()):  # noqa: SLF001 # 3.14 has a method
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """Let live traffic go first: of an idle core it is given all, of a busy one next to nothing."""
    os.nice(19)
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def replay(job: Job) -> dict[str, Any]:
    """Return what each policy made of the requests, as plain values."""
    requests = [pair for chunk in job.requests for pair in pickle.loads(chunk)]  # noqa: S301 # nosec B301 # ours
    offers = [offer for offer, _ in requests]
    facts = [facts for _, facts in requests]
    duration_s = offers[-1].at_s + 1.0
    fleet = Fleet(FleetDocument(pools=()), job.members)
    outcomes = {}
    for name, policy in job.policies:
        tally = Tally(duration_s, 0.0)
        world = World(
            fleet,
            Contender(name, policy),
            seed=job.seed,
            conditions=_Recorded(recorded=facts),
        )
        for outcome in world.run(iter(offers)):
            tally.add(outcome)
        cost = fleet.usd_per_hour or None
        outcomes[name] = row(Entry(name, len(offers) / duration_s, [tally]), cost)
    return {"requests": len(offers), "duration_s": duration_s, "outcomes": outcomes}


def members(
    pools: Sequence[Pool], plans: dict[str, EndpointPlan]
) -> tuple[tuple[Member, ...], list[str]]:
    """Return the fleet as emulated engines, and what had to be assumed of it."""
    found: list[Member] = []
    assumed: list[str] = []
    for pool in pools:
        for endpoint in pool.endpoints:
            timing = endpoint.labels.get(TIMING_LABEL, "")
            if timing not in PROFILES:
                assumed.append(endpoint.id)
                timing = USUAL_TIMING
            knobs = _knobs(endpoint)
            spec = EngineSpec(PROFILES[timing], knobs, Memory())
            cost = price_of(endpoint) or 0.0
            found.append(Member(plans[endpoint.id], spec, cost))
    if not assumed:
        return tuple(found), []
    names = ", ".join(assumed[:5]) + (" and others" if len(assumed) > 5 else "")  # noqa: PLR2004
    note = (
        f"timing of {USUAL_TIMING} assumed for {names}; the endpoint label {TIMING_LABEL!r} says"
        f" another: {', '.join(PROFILES)}"
    )
    return tuple(found), [note]


async def packed(requests: Iterator[Replayed]) -> list[bytes]:
    """Return requests as bytes, ready to travel to a worker.

    Little by little: thousands at once would keep live traffic waiting for tens of milliseconds.
    """
    chunks = []
    while chunk := list(islice(requests, CHUNK)):
        chunks.append(pickle.dumps(chunk))
        await asyncio.sleep(PAUSE_S)
    return chunks


def recorded(requests: Sequence[Seen]) -> Iterator[Replayed]:
    """Yield recorded requests as offers, in order of arrival, and as the router saw them."""
    in_order = sorted(requests, key=attrgetter("arrived"))
    for number, seen in enumerate(in_order):
        yield _offer(number, seen, seen.arrived - in_order[0].arrived), seen.facts


def _offer(number: int, seen: Seen, at_s: float) -> Offer:
    facts, outcome = seen.facts, seen.outcome
    ask = seen.flight.ask if seen.flight else None
    prompt = (outcome.prompt_tokens if outcome else None) or (ask.prompt_tokens if ask else None)
    output = (outcome.output_tokens if outcome else None) or (
        round(ask.output_p50_tokens) if ask else None
    )
    length = max(1, output or facts.max_tokens or 128)
    return Offer(
        number=number,
        at_s=at_s,
        traffic="recorded",
        sla_class=seen.sla_class,
        prompt_tokens=max(1, prompt or facts.known_prompt_tokens or facts.prompt_bytes // 4),
        output_tokens=length,
        max_tokens=max(1, facts.max_tokens or length),
        targets=ask.targets if ask else facts.wish.targets,
        tenant=facts.tenant,
        session=facts.session,
        patience_s=facts.wish.patience_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRequest:
    """One request of a trace that is given with the question."""

    at_s: float
    """From the start of the trace, ascending."""
    prompt_tokens: int
    output_tokens: int
    max_tokens: int | None = None
    sla_class: SlaClass | None = None
    tenant: str = ""


def given(rows: Sequence[GivenRequest], model: str, policy: Policy) -> Iterator[Replayed]:
    """Yield a given trace as offers and facts; targets are those of each request's class."""
    usual = policy.classification.default_class
    for number, each in enumerate(sorted(rows, key=lambda row: row.at_s)):
        sla_class = each.sla_class or usual
        facts = RequestFacts(
            id=f"given-{number}",
            model=model,
            needs=frozenset({Route.CHAT}),
            prompt_bytes=4 * each.prompt_tokens,
            max_tokens=each.max_tokens,
            wish=replace(Wish(), sla_class=sla_class, targets=NO_TARGETS),
            tenant=each.tenant,
        )
        offer = Offer(
            number=number,
            at_s=each.at_s,
            traffic="given",
            sla_class=sla_class,
            prompt_tokens=each.prompt_tokens,
            output_tokens=each.output_tokens,
            max_tokens=each.max_tokens or each.output_tokens,
            targets=policy.of_class(sla_class).targets,
            tenant=each.tenant,
        )
        yield offer, facts


def _knobs(endpoint: Endpoint) -> Knobs:
    """Return an engine's flags: the usual ones, and those that labels of their names say."""
    kind = _KNOBS[endpoint.engine]
    names = {each.name for each in fields(kind)}
    said: dict[str, Any] = {
        name: int(text)
        for name, text in endpoint.labels.items()
        if name in names and text.isdecimal()
    }
    return kind(**said)


def price_of(endpoint: Endpoint) -> float | None:
    """Return what an endpoint costs an hour, $; None where its label does not say."""
    try:
        return max(0.0, float(endpoint.labels.get(COST_LABEL, "")))
    except ValueError:
        return None
