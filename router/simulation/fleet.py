"""The fleet document: pools of emulated engines, as one would rent them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, get_type_hints

from annotated_types import Ge, Gt, Len
from pydantic import ConfigDict, TypeAdapter, ValidationError

from engines.emulator.profiles import PROFILES
from engines.emulator.spec import EngineSpec, Knobs, LlamaCpp, Memory, Sglang, Tgi, Vllm
from engines.engine import Kind
from engines.registry import ENGINES
from policies.facts import EndpointPlan, Profile
from router.config import MAX_IN_FLIGHT
from router.document import FORBIDDING, ConfigError, Document, Flaw, place, unknown
from router.settings import Name
from router.toml import parsed
from router.workload.offers import PREFIX_TOKENS

MODEL: Final = "model"
"""The one public name that every emulated engine serves."""
_BUILT_IN: Final = Path(__file__).parent / "fleets"
_KNOBS: Final[Mapping[Kind, type[Knobs]]] = {
    Kind.VLLM: Vllm,
    Kind.TGI: Tgi,
    Kind.SGLANG: Sglang,
    Kind.LLAMACPP: LlamaCpp,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePool:
    """Engines that are run alike. Their ids are the pool's name and a number from 0."""

    name: Name
    """Unique."""
    profile: Profile
    """predictable or throughput, as in the router's configuration."""
    engine: Kind
    """Whose scheduler it has."""
    timing: str = "h100-8b"
    """A model on a card: how long a step takes."""
    count: Annotated[int, Ge(1)] = 1
    """Engines."""
    max_in_flight: Annotated[int, Ge(1)] | None = None
    """Requests held at each; none: the router's default for the profile."""
    usd_per_hour: Annotated[float, Ge(0)] = 0.0
    """What one engine costs, all its cards together."""
    weight: Annotated[float, Gt(0)] = 1.0
    """Capacity, relative to others in the pool."""
    kv_tokens: Annotated[int, Ge(1)] | None = None
    """KV cache; none: as the timing says."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """The engine's own flags, with underscores; left out: its defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDocument:
    """The whole document."""

    __pydantic_config__: ClassVar[ConfigDict] = FORBIDDING

    pools: Annotated[tuple[EnginePool, ...], Len(1)]
    """All engines."""


FLEET: Final = Document(FleetDocument)


@dataclass(frozen=True, slots=True)
class Member:
    """One engine of a fleet."""

    plan: EndpointPlan
    spec: EngineSpec
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """All engines, and the document that they were made from."""

    document: FleetDocument
    members: tuple[Member, ...]

    @property
    def usd_per_hour(self) -> float:
        """What the whole fleet costs."""
        return sum(member.usd_per_hour for member in self.members)


def built_in_names() -> list[str]:
    """Return the names of the fleets that come with the package."""
    return sorted(path.stem for path in _BUILT_IN.glob("*.toml"))


def load_fleet(name: str) -> Fleet:
    """Return a built-in fleet by name, or the one in a TOML file; raises `ConfigError`."""
    path = _BUILT_IN / f"{name}.toml"
    if not path.exists():
        path = Path(name)
        if path.suffix != ".toml":
            message = unknown("fleet", name, built_in_names()) + ", or a .toml file"
            raise ConfigError(name, [Flaw("", message)])
    return read_fleet(path.name, parsed(path))


def read_fleet(name: str, document: Mapping[str, object]) -> Fleet:
    """Return the fleet that a document means; raises `ConfigError`, which calls it `name`."""
    fleet = FLEET.read(name, document)
    flaws: list[Flaw] = []
    members: list[Member] = []
    names: set[str] = set()
    for index, pool in enumerate(fleet.pools):
        if pool.name in names:
            here = place(("pools", index, "name"))
            flaws.append(Flaw(here, f"{pool.name!r} is taken; give it another"))
        names.add(pool.name)
        knobs = _knobs(pool, index, flaws)
        if pool.timing not in PROFILES:
            here = place(("pools", index, "timing"))
            flaws.append(Flaw(here, unknown("timing", pool.timing, PROFILES)))
        elif knobs is not None:
            memory = Memory(prefix_block_tokens=PREFIX_TOKENS, kv_tokens=pool.kv_tokens)
            spec = EngineSpec(PROFILES[pool.timing], knobs, memory)
            members += _members(pool, spec)
    if flaws:
        raise ConfigError(name, flaws)
    return Fleet(fleet, tuple(members))


def _knobs(pool: EnginePool, index: int, flaws: list[Flaw]) -> Knobs | None:
    """Return an engine's flags, or None where they are wrong, which is added to `flaws`."""
    kind = _KNOBS.get(pool.engine)
    if kind is None:
        message = unknown("emulated engine", pool.engine.value, [each.value for each in _KNOBS])
        flaws.append(Flaw(place(("pools", index, "engine")), message))
        return None
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    before = len(flaws)
    for key, value in pool.flags.items():
        here = place(("pools", index, "flags", key))
        if key not in hints:
            known = [each.name for each in fields(kind)]
            flaws.append(Flaw(here, unknown("flag", key, known)))
            continue
        try:
            values[key] = TypeAdapter(hints[key]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Input ").lower()
            flaws.append(Flaw(here, f"{message}, not {value!r}"))
    return kind(**values) if len(flaws) == before else None


def _members(pool: EnginePool, spec: EngineSpec) -> list[Member]:
    traits = ENGINES[pool.engine].traits
    plan = EndpointPlan(
        id="",
        pool=pool.name,
        profile=pool.profile,
        models=frozenset({MODEL}),
        offers=traits.offers,
        weight=pool.weight,
        max_in_flight=pool.max_in_flight or MAX_IN_FLIGHT[pool.profile],
        max_context_tokens=context_tokens(spec.knobs),
        max_output_tokens=traits.max_output_tokens,
    )
    return [
        Member(replace(plan, id=f"{pool.name}-{number}"), spec, pool.usd_per_hour)
        for number in range(pool.count)
    ]


def context_tokens(knobs: Knobs) -> int:
    """Return the longest prompt and answer together, as discovery would learn it."""
    match knobs:
        case Vllm():
            return knobs.max_model_len
        case Tgi():
            return knobs.max_total_tokens
        case Sglang():
            return knobs.context_length
        case LlamaCpp():
            return knobs.n_ctx_slot


def described(fleet: Fleet) -> dict[str, Any]:
    """Return the document with every default filled in, as plain values."""
    document = FLEET.write(fleet.document)
    knobs = {member.plan.pool: member.spec.knobs for member in fleet.members}
    for pool in document["pools"]:
        pool["flags"] = asdict(knobs[pool["name"]])
    return document
