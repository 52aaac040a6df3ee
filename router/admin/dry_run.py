"""What a policy would have done: recorded requests replayed in virtual time, in another process.

The dispatcher that decides is the one that serves; the engines are the emulated ones. Requests have
the lengths that they turned out to have; where one never got its answer, those it was expected to
have. Both policies are held to the targets that were in effect when the requests came.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Final

import orjson

from engines.emulator.profiles import PROFILES
from engines.emulator.spec import EngineSpec, Knobs, LlamaCpp, Memory, Sglang, Tgi, Vllm
from engines.engine import Kind, Route
from policies.facts import NO_TARGETS, EndpointPlan, RequestFacts, SlaClass, Wish
from policies.policy import Policy
from router.admin.recent import Seen
from router.admin.replaying import LENGTH_BYTES, Job, Replayed, framed, part
from router.settings import Endpoint, Pool
from router.simulation.fleet import Member
from router.workload.offers import Offer

USUAL_TIMING: Final = "h100-8b"
TIMING_LABEL: Final = "timing"
"""The endpoint label that names its timing: a model on a card."""
COST_LABEL: Final = "usd_per_hour"
TIMEOUT_S: Final = 120.0
COMMAND: Final = (sys.executable, "-P", "-m", "router.admin.replaying")
"""With this process's own way to modules, wherever it was started."""
CHUNK: Final = 8
"""Requests that are packed without a pause: a tenth of a millisecond."""
PAUSE_S: Final = 0.001
MALFORMED: Final = 400
_KNOBS: Final[dict[Kind, type[Knobs]]] = {
    Kind.VLLM: Vllm,
    Kind.TGI: Tgi,
    Kind.SGLANG: Sglang,
    Kind.LLAMACPP: LlamaCpp,
    Kind.OPENAI: Vllm,
}


class Broken(Exception):
    """The process that replays ended; its reason is on the router's standard error."""


class DryRuns:
    """A process that replays, started when first asked and kept; one question at a time.

    One, not one for each policy: all cores together would make live traffic wait for one.
    """

    def __init__(self) -> None:
        self._process: Process | None = None
        self._one = asyncio.Lock()

    async def run(self, requests: Iterable[Replayed], job: Job) -> dict[str, Any]:
        """Return what becomes of the requests; raises TimeoutError, and Broken."""
        async with self._one:
            process = self._process
            if process is None or process.returncode is not None:
                process = self._process = await create_subprocess_exec(
                    *COMMAND, stdin=PIPE, stdout=PIPE, env=_environment(), start_new_session=True
                )
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await _asked(process, requests, job)
            except (TimeoutError, asyncio.CancelledError):
                # First, for a TimeoutError is an OSError. What it has not answered yet would be
                # taken for the next answer.
                await self.close()
                raise
            except (OSError, asyncio.IncompleteReadError) as error:
                await self.close()
                raise Broken from error

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


async def _asked(process: Process, requests: Iterable[Replayed], job: Job) -> dict[str, Any]:
    """Ask, little by little: thousands at once would keep live traffic waiting for milliseconds."""
    asks, tells = process.stdin, process.stdout
    if asks is None or tells is None:
        raise RuntimeError("a replaying process is spoken with through pipes")
    rest = iter(requests)
    while chunk := list(islice(rest, CHUNK)):
        asks.write(part(chunk))
        await asks.drain()
        await asyncio.sleep(PAUSE_S)
    asks.write(framed(b"") + part(job))
    await asks.drain()
    length = int.from_bytes(await tells.readexactly(LENGTH_BYTES), "big")
    found: dict[str, Any] = orjson.loads(await tells.readexactly(length))
    return found


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


def recorded(requests: Sequence[Seen]) -> Iterator[Replayed]:
    """Yield recorded requests as offers, and as the router saw them."""
    for seen in requests:
        if seen.status != MALFORMED:
            yield _offer(seen), seen.facts


def _offer(seen: Seen) -> Offer:
    facts, outcome = seen.facts, seen.outcome
    ask = seen.flight.ask if seen.flight else None
    prompt = (outcome.prompt_tokens if outcome else None) or (ask.prompt_tokens if ask else None)
    output = (outcome.output_tokens if outcome else None) or (
        round(ask.output_p50_tokens) if ask else None
    )
    length = max(1, output or facts.max_tokens or 128)
    return Offer(
        number=seen.number,
        at_s=seen.arrived,
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
    for number, each in enumerate(rows):
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
