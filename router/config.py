"""The configuration: one TOML file, and what it means once every default is filled in."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from annotated_types import Len
from pydantic import ConfigDict

from policies.facts import Profile
from policies.policy import Policy, Shadow, Variant
from router import toml
from router.credentials import SecretReader, Secrets
from router.document import FORBIDDING, ConfigError, Document, Flaw, merged, place, unknown
from router.settings import (
    Access,
    Admin,
    MetricsLimits,
    Pool,
    Probes,
    Redis,
    Server,
    State,
    Timeouts,
    Tls,
    Tracing,
    is_name,
)
from router.tls import callers_certificates, engines_certificates, flaw
from router.urls import is_loopback, is_web

MAX_IN_FLIGHT: Final[Mapping[str, int]] = {Profile.PREDICTABLE: 32, Profile.THROUGHPUT: 256}
"""Requests held at one endpoint where neither it nor its pool says otherwise."""
TRACING_NEEDS: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
"""Modules of the extra `otel`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    __pydantic_config__: ClassVar[ConfigDict] = FORBIDDING

    server: Server = field(default_factory=Server)
    """Where callers are heard."""
    admin: Admin | None = None
    """Administration; none: there is none."""
    access: Access | None = None
    """Who may do what; none: whoever reaches the router, and nobody else does."""
    redis: Redis | None = None
    """What replicas share; none: nothing."""
    state: State | None = None
    """What outlives one process; none: nothing."""
    pools: Annotated[tuple[Pool, ...], Len(1)]
    """Where requests can go."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """How long an engine may take."""
    probes: Probes = field(default_factory=Probes)
    """How often engines are asked."""
    metrics: MetricsLimits = field(default_factory=MetricsLimits)
    """What keeps the metrics small."""
    tracing: Tracing | None = None
    """Spans of requests; none: there are none."""
    policy: Policy = field(default_factory=Policy)
    """How requests are routed, until the admin interface changes it."""

    @property
    def models(self) -> tuple[str, ...]:
        """Every public name, once, in the file's order."""
        return tuple(dict.fromkeys(model for pool in self.pools for model in pool.models))


CONFIG: Final = Document(Config)


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Return what a file says; raises `ConfigError` with everything that is wrong with it.

    Variables and files that hold secrets are looked for, so that none is missed later.
    """
    document = _completed(toml.parsed(path))
    config = CONFIG.read(path.name, document, folder=path.absolute().parent)
    secrets = SecretReader(environ)
    secrets.read(config.pools, config.admin, config.redis, config.access, config.tracing)
    if flaws := [*_contradictions(config), *secrets.flaws]:
        raise ConfigError(path.name, flaws)
    return config


def read_secrets(config: Config, environ: Mapping[str, str] = os.environ) -> Secrets:
    """Return what the configuration only names; raises `ConfigError` where one is gone by now."""
    reader = SecretReader(environ)
    secrets = reader.read(config.pools, config.admin, config.redis, config.access, config.tracing)
    if reader.flaws:
        raise ConfigError("configuration", reader.flaws)
    return secrets


def strangers(policy: Policy, pools: Iterable[Pool]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what a policy names and the pools have not: the way to it, and what to say."""
    pools = tuple(pools)
    known = {
        "models": {name for pool in pools for name in pool.models},
        "endpoints": {endpoint.id for pool in pools for endpoint in pool.endpoints},
        "pools": {pool.name for pool in pools},
    }
    for way, what, name in _names(policy):
        if name not in known[what]:
            yield way, unknown(what[:-1], name, known[what])


def _names(policy: Policy) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield each name in a policy: the way to it, what it is a name of, and itself."""
    for model, own in policy.models.items():
        here = ("models", model)
        yield here, "models", model
        for name, variant in own.variants.items():
            if variant.model is not None:
                yield (*here, "variants", name, "model"), "models", variant.model
            yield from _places((*here, "variants", name), variant)
        if own.shadow is not None:
            yield from _places((*here, "shadow"), own.shadow)


def _places(
    way: tuple[str, ...], there: Variant | Shadow
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    yield from (((*way, "endpoints"), "endpoints", name) for name in there.endpoints)
    yield from (((*way, "pools"), "pools", name) for name in there.pools)


def describe(config: Config) -> str:
    """Return everything that was understood as TOML, defaults included; it loads as the same."""
    return toml.text(CONFIG.write(config))


def read_pools(documents: list[Any]) -> tuple[Pool, ...]:
    """Return the pools that documents mean, defaults filled in; raises `ConfigError`."""
    config = CONFIG.read("", _completed({"pools": documents}))
    if flaws := list(_taken_names(config.pools)) or list(_contradictions(config)):
        raise ConfigError("", flaws)
    return config.pools


def write_pools(pools: tuple[Pool, ...]) -> list[dict[str, Any]]:
    """Return documents that read as these pools, with every key."""
    documents: list[dict[str, Any]] = CONFIG.write(Config(pools=pools))["pools"]
    return documents


def _completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what depends on other keys; whatever is of the wrong shape is left to be refused."""
    full = dict(document)
    if isinstance(policy := document.get("policy", {}), dict):
        # Table by table: to change one class's patience must not undo its targets.
        full["policy"] = merged(asdict(Policy()), policy)
    if isinstance(pools := document.get("pools"), list):
        full["pools"] = [
            _completed_pool(pool) if isinstance(pool, dict) else pool for pool in pools
        ]
    return full


def _completed_pool(pool: Mapping[str, Any]) -> dict[str, Any]:
    by_profile = MAX_IN_FLIGHT.get(str(pool.get("profile")), 1)
    full = {"max_in_flight": by_profile, **pool}
    # What is wrong with the pool's own value is said once, and not for each endpoint again.
    is_right = type(full["max_in_flight"]) is int and full["max_in_flight"] > 0
    inherited = full["max_in_flight"] if is_right else by_profile
    name = pool.get("name")
    stem = name[:48] if isinstance(name, str) and is_name(name) else "endpoint"
    if isinstance(endpoints := pool.get("endpoints"), list):
        full["endpoints"] = [
            {"id": f"{stem}-{index}", "max_in_flight": inherited, **endpoint}
            if isinstance(endpoint, dict)
            else endpoint
            for index, endpoint in enumerate(endpoints)
        ]
    return full


def _contradictions(config: Config) -> Iterator[Flaw]:
    """Yield what is right key by key and wrong together."""
    yield from _taken_names(config.pools)
    for number, pool in enumerate(config.pools):
        for index, endpoint in enumerate(pool.endpoints):
            where = ("pools", number, "endpoints", index)
            if endpoint.model is not None and len(pool.models) > 1:
                message = f"renames one model, but pool {pool.name!r} serves {len(pool.models)}"
                yield Flaw(place((*where, "model")), message)
            if endpoint.api_key_env is not None and endpoint.api_key_file is not None:
                yield Flaw(place((*where, "api_key_file")), "leave either this or api_key_env out")
    for way, message in strangers(config.policy, config.pools):
        yield Flaw(place(("policy", *way)), message)
    if config.server.tls is not None:
        why = flaw(partial(callers_certificates, config.server.tls))
        yield from () if why is None else (Flaw("server.tls", why),)
    yield from unusable_certificates(config.pools)
    yield from _open_to_the_world(config)
    yield from _unusable_tokens(config.access)
    yield from _untraceable(config)
    if config.server.workers > 1 and config.redis is None:
        message = "more than one process needs a [redis] section, through which they agree"
        yield Flaw("server.workers", message)


def _untraceable(config: Config) -> Iterator[Flaw]:
    """Yield what is missing for tracing; nothing of it is loaded."""
    if config.tracing is None:
        return
    try:
        is_there = all(map(find_spec, TRACING_NEEDS))
    except ImportError:  # a package around it is missing
        is_there = False
    if not is_there:
        yield Flaw("tracing", "needs packages that are missing: pip install 'headway[otel]'")


def unusable_certificates(pools: tuple[Pool, ...]) -> Iterator[Flaw]:
    """Yield the files for connections to engines that cannot be used."""
    judged: set[Tls] = {Tls()}
    for number, pool in enumerate(pools):
        for index, endpoint in enumerate(pool.endpoints):
            used = endpoint.tls or pool.tls
            of_its_own = ("endpoints", index) if endpoint.tls else ()
            if used in judged:
                continue
            judged.add(used)
            if (why := flaw(partial(engines_certificates, used))) is not None:
                yield Flaw(place(("pools", number, *of_its_own, "tls")), why)


def _open_to_the_world(config: Config) -> Iterator[Flaw]:
    """Yield what leaves a router open that nobody said should be."""
    host = config.server.host
    if config.access is None and not is_loopback(host):
        message = (
            f"{host!r} can be reached from elsewhere, and nobody would be asked for a key: add a"
            " section [access], then make keys with 'headway keys create'; or write open = true"
            " into it, if whoever reaches the router may use it"
        )
        yield Flaw("server.host", message)


def _unusable_tokens(access: Access | None) -> Iterator[Flaw]:
    """Yield why tokens cannot be judged, or need not be."""
    jwt = None if access is None else access.jwt
    if access is None or jwt is None:
        return
    if access.open:
        message = "asks for tokens, but open = true lets in whoever comes; leave one of them out"
        yield Flaw("access.jwt", message)
    if find_spec("joserfc") is None:
        message = "needs the package joserfc, which is not installed: pip install 'headway[jwt]'"
        yield Flaw("access.jwt", message)
    if not is_web(jwt.jwks):
        try:
            Path(jwt.jwks).read_bytes()
        except OSError as error:
            why = f"{jwt.jwks!r} cannot be read: {(error.strerror or str(error)).lower()}"
            yield Flaw("access.jwt.jwks", why)
    if jwt.ca_file is not None:
        why_not = flaw(partial(engines_certificates, Tls(ca_file=jwt.ca_file)))
        yield from () if why_not is None else (Flaw("access.jwt.ca_file", why_not),)


def _taken_names(pools: tuple[Pool, ...]) -> Iterator[Flaw]:
    names: dict[str, str] = {}
    ids: dict[str, str] = {}
    for number, pool in enumerate(pools):
        yield from _taken(pool.name, place(("pools", number, "name")), names)
        for index, endpoint in enumerate(pool.endpoints):
            here = place(("pools", number, "endpoints", index, "id"))
            yield from _taken(endpoint.id, here, ids)


def _taken(name: str, here: str, seen: dict[str, str]) -> Iterator[Flaw]:
    if (first := seen.setdefault(name, here)) != here:
        yield Flaw(here, f"{name!r} is taken by {first}; give this one another")
