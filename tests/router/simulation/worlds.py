"""Small worlds: engines without noise, ten milliseconds a step."""

from collections.abc import Iterable, Sequence
from typing import Any

from policies.facts import NO_TARGETS, SlaClass, Targets
from router.measure.outcome import Outcome
from router.settings import Timeouts
from router.simulation.conditions import Conditions
from router.simulation.contenders import CONTENDERS, Contender
from router.simulation.fleet import Fleet, read_fleet
from router.simulation.world import World
from router.workload.offers import Offer
from router.workload.settings import Fault

LOOSE = Targets(first_token_s=100.0, deadline_s=1000.0)


def pool(name: str = "throughput", count: int = 1, **keys: Any) -> dict[str, Any]:
    return {
        "name": name,
        "profile": name if name in ("predictable", "throughput") else "throughput",
        "engine": "vllm",
        "timing": "steady",
        "count": count,
        **keys,
    }


def fleet(*pools: dict[str, Any]) -> Fleet:
    return read_fleet("fleet.toml", {"pools": list(pools) or [pool()]})


def offer(number: int, at_s: float = 0.0, **changes: Any) -> Offer:
    given: dict[str, Any] = {
        "number": number,
        "at_s": at_s,
        "traffic": "traffic",
        "sla_class": SlaClass.STANDARD,
        "prompt_tokens": 100,
        "output_tokens": 20,
        "max_tokens": 64,
        "targets": NO_TARGETS,
    }
    return Offer(**(given | changes))


def world(
    of: Fleet | None = None,
    contender: Contender = CONTENDERS["headway"],
    *,
    faults: Sequence[Fault] = (),
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    seed: int = 1,
) -> World:
    conditions = Conditions(timeouts=timeouts)
    return World(of or fleet(), contender, seed=seed, faults=tuple(faults), conditions=conditions)


def outcomes(of: World, offers: Iterable[Offer]) -> list[Outcome]:
    return sorted(of.run(iter(offers)), key=lambda outcome: outcome.offer.number)
