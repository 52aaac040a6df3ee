"""The sections of the configuration file, with their defaults; what ties them is in `config`.

Times are seconds. Nothing here holds a secret: a key names the variable or the file that does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from re import fullmatch
from typing import Annotated

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import AfterValidator, ValidationInfo

from engines.engine import Kind
from policies.facts import Profile, SlaClass
from policies.keys import Allowance, Entitlement
from router.log import Style
from router.networks import PRIVATE, as_network
from router.urls import collector_url, engine_url, is_web, jwks_url, redis_url


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    folder: Path = info.context["folder"] if info.context else Path()
    return folder / path


def is_name(text: str) -> bool:
    """Tell whether a name can be a header's value, a metric's label and a part of a path."""
    return fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{,63}", text) is not None


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(
            f"must be letters, digits, '.', '_' and '-', 64 at most and the first a letter or"
            f" digit, not {text!r}"
        )
    return text


def _jwks_source(text: str, info: ValidationInfo) -> str:
    return jwks_url(text) if is_web(text) else str(_beside_the_file(Path(text), info))


Name = Annotated[str, AfterValidator(_name)]
Seconds = Annotated[float, Gt(0)]
Port = Annotated[int, Ge(0), Le(65535)]
Text = Annotated[str, Len(1, 512)]
File = Annotated[Path, AfterValidator(_beside_the_file)]
"""A relative path starts at the configuration file's folder."""


class Level(StrEnum):
    """How much is logged about states."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may take of the server."""

    max_header_bytes: Annotated[int, Ge(1024)] = 64 << 10
    """Request line and headers together."""
    max_body_bytes: Annotated[int, Ge(1024)] = 32 << 20
    """A request's body; images travel inside it."""
    header_timeout_s: Seconds = 10.0
    """From a request's first byte to the end of its headers."""
    body_timeout_s: Seconds = 30.0
    """From the headers to the end of the body."""
    keep_alive_s: Seconds = 75.0
    """How long an idle connection is kept."""
    drain_s: Annotated[float, Ge(0)] = 30.0
    """How long running answers may go on once the server is told to stop."""
    unready_s: Annotated[float, Ge(0)] = 0.0
    """How long before that `/readyz` says so while requests are still taken: long enough for
    whatever is in front to look elsewhere (Kubernetes: 5)."""
    max_connections: Annotated[int, Ge(1)] | None = None
    """Callers connected at once; the next one is refused. None: as many as open files allow."""
    max_loop_lag_s: Seconds | None = 0.25
    """An event loop that is later than this, several times in a row, sheds bulk, then standard;
    none: never."""


class TlsVersion(StrEnum):
    """The oldest that is spoken."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


@dataclass(frozen=True, slots=True)
class CallersTls:
    """What callers are shown; files are PEM, and loaded again when they change."""

    cert_file: File
    """The router's certificate, and those between it and its authority."""
    key_file: File
    """Its key, without a password."""
    min_version: TlsVersion = TlsVersion.TLS_1_2
    """The oldest version that is spoken."""
    client_ca_file: File | None = None
    """Authorities by whom callers must be certified; none: callers show no certificate."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where callers are heard, and what is written down of them."""

    host: Text = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every IPv4 one, :: for IPv6."""
    port: Port = 8080
    """0: any free one."""
    workers: Annotated[int, Ge(1)] = 1
    """Processes, one a core; more than one needs redis."""
    show_routing: bool = True
    """Answers say `X-SLA-Pool`, `X-SLA-Endpoint` and `X-SLA-Reason`; off for untrusted callers."""
    access_log: Text = "-"
    """Where each request is written down: "-" standard output, "off" nowhere, else a file."""
    log_level: Level = Level.INFO
    """States that are logged, on standard error."""
    log_style: Style = Style.PLAIN
    """How they are written."""
    limits: Limits = Limits()
    """What a caller may take."""
    tls: CallersTls | None = None
    """HTTPS, on administration's own port as well; none: HTTP."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an engine may take."""

    connect_s: Seconds = 2.0
    """To accept a connection."""
    first_token_s: Seconds = 60.0
    """From sending a request to the first event of its stream."""
    idle_s: Seconds = 60.0
    """Between two events of a stream."""
    interactive_idle_s: Seconds = 20.0
    """The same where somebody watches; `idle_s` where that is shorter."""
    answer_s: Seconds = 600.0
    """From sending a request to the beginning of an answer that is not a stream: it shows nothing
    until it is complete."""
    total_s: Seconds | None = None
    """The whole exchange; none: a stream may go on for as long as it moves."""

    def of_class(self, sla_class: SlaClass) -> float:
        """Return how long a stream of a class may be silent, s."""
        if sla_class is SlaClass.INTERACTIVE:
            return min(self.interactive_idle_s, self.idle_s)
        return self.idle_s


@dataclass(frozen=True, slots=True)
class Probes:
    """How often engines are asked; intervals vary by a fifth and are longer in fleets of hundreds."""

    health_s: Seconds = 2.0
    """Between two questions after health."""
    load_s: Seconds = 1.0
    """Between two readings of the engine's own gauges."""
    timeout_s: Seconds = 5.0
    """For one answer."""
    canary_s: Seconds | None = 30.0
    """An engine that nothing was seen of for so long is asked for one token, and so is one that was
    down, before it is given requests again; none: neither, requests try it."""
    canary_timeout_s: Seconds = 5.0
    """For that token."""


@dataclass(frozen=True, slots=True)
class MetricsLimits:
    """What keeps the metrics small."""

    max_models: Annotated[int, Ge(1)] = 64
    """Models with labels of their own; those beyond are counted as "other"."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where spans of requests go; present: switched on. Needs the extra `otel`."""

    endpoint: Annotated[str, AfterValidator(collector_url)] | None = None
    """Of an OTLP/HTTP collector, `http://host:4318`; `/v1/traces` is added where there is no path.
    None: as OTEL_EXPORTER_OTLP_ENDPOINT says, else http://localhost:4318."""
    headers_env: Text | None = None
    """The environment variable that holds headers for the collector, `name=value,name=value` with
    percent-encoded values; none: OTEL_EXPORTER_OTLP_HEADERS, if set."""
    service_name: Name = "headway"
    """What spans say that they come from."""
    sample: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of traces that begin here and are kept; for others their beginning has decided."""
    max_queued_spans: Annotated[int, Ge(1)] = 4096
    """Spans that wait for the collector; those beyond are dropped, and counted."""
    timeout_s: Seconds = 10.0
    """For the collector to take one batch, further tries included."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Administration under `/admin/v1`; present: switched on."""

    token_file: File | None = None
    """Holds the bearer token; none: the environment variable HEADWAY_ADMIN_TOKEN does."""
    host: Text | None = None
    """Address of its own; none: the server's."""
    port: Port | None = None
    """Port of its own; none: the server's."""
    audit_file: File | None = None
    """Where each change, and each attempt at one, is written down as a JSON line; none: among the
    states."""
    objective: Annotated[float, Gt(0), Lt(1)] = 0.99
    """Share of requests that should meet their targets; burn rates are told against it."""
    recorded_requests: Annotated[int, Ge(1)] = 10_000
    """Ended requests that are remembered: for lists, explanations and dry runs. No prompt is."""
    allowed_networks: tuple[Annotated[str, AfterValidator(as_network)], ...] = PRIVATE
    """Where an endpoint may be that is registered at run time, checked again whenever it is looked
    up; link-local addresses and the like never are. Those of this file may be anywhere."""


@dataclass(frozen=True, slots=True)
class Redis:
    """What several processes or replicas share; absent: one process, alone."""

    url: Annotated[str, AfterValidator(redis_url)]
    """`redis://`, `rediss://` or `unix://`, without a password; with several hosts
    `redis+sentinel://` (and the service's name as path) or `redis+cluster://`, or `rediss+` each."""
    password_env: Text | None = None
    """The environment variable that holds the password; none: HEADWAY_REDIS_PASSWORD, if set."""
    password_file: File | None = None
    """Or the file that does."""
    prefix: Name = "headway"
    """What all keys of one fleet of routers begin with."""
    replicas: Annotated[int, Ge(1)] = 1
    """Routers to reckon with before any was heard of: each keeps to its share of every cap."""


@dataclass(frozen=True, slots=True)
class State:
    """Where one process without redis keeps what must outlive it; absent: nowhere."""

    directory: File = Path("state")
    """Made if it is not there."""


class AboveClass(StrEnum):
    """What becomes of a request for a class above the caller's highest."""

    LOWER = "lower"
    """It is served as the highest, and the answer says so."""
    REFUSE = "refuse"
    """It is refused, 403."""


class Signing(StrEnum):
    """How a token may be signed: with a private key whose public one is in a JWKS.

    There is no word here for a shared secret, nor for no signature at all.
    Sources: RFC 7518, section 3.1; RFC 8037, section 3.1; RFC 9864, section 2.2.
    """

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"
    ED25519 = "Ed25519"


@dataclass(frozen=True, slots=True)
class Jwt:
    """Tokens of an identity provider (JSON Web Tokens), taken beside keys."""

    issuer: Text
    """What a token's `iss` must be, letter by letter."""
    audience: Annotated[tuple[Text, ...], Len(1)]
    """This router's names with the issuer; a token's `aud` must hold one."""
    jwks: Annotated[Text, AfterValidator(_jwks_source)]
    """Where the issuer's public keys are: an https URL, an http one in a network that nobody else is
    in, or a file."""
    ca_file: File | None = None
    """Authorities to trust where it is an https URL; none: the system's."""
    algorithms: Annotated[tuple[Signing, ...], Len(1)] = (
        *(Signing.RS256, Signing.ES256),
        *(Signing.EDDSA, Signing.ED25519),
    )
    """How tokens may be signed."""
    refresh_s: Annotated[float, Ge(1)] = 60.0
    """Between two readings of the JWKS, and so how long a key that the issuer took out may be good
    for still."""
    leeway_s: Annotated[int, Ge(0), Le(300)] = 30
    """How far the issuer's clock may be from this one's."""
    max_share: Annotated[float, Gt(0), Le(1)] = 0.05
    """Share of the process's time that tokens which were not seen before may take; those beyond are
    told to come back."""
    tenant_claims: Annotated[tuple[Text, ...], Len(1)] = (
        *("headway_tenant", "azp"),
        *("client_id", "sub"),
    )
    """Whose a token is: the first of these claims that it has."""
    models_claim: Text = "headway_models"
    """What names the models that may be used, as a list or in one text with spaces between."""
    classes_claim: Text = "headway_classes"
    """What names the classes that may be asked for, likewise."""
    highest_class_claim: Text = "headway_highest_class"
    """What names the highest among them."""
    weight_claim: Text = "headway_weight"
    """What tells the share beside other tenants."""
    default: Entitlement = field(default_factory=Entitlement)
    """What a token that does not say is good for."""
    weight: Annotated[float, Gt(0)] = 1.0
    """Its share beside other tenants."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what; present: callers need a key."""

    open: bool = False
    """True: whoever reaches the router may use it, as who it says that it is."""
    above_class: AboveClass = AboveClass.LOWER
    """What becomes of a request for a class above the caller's highest."""
    pepper_file: File | None = None
    """Holds a secret that digests of keys are made with, the same for all replicas; none: the
    environment variable HEADWAY_ACCESS_PEPPER, if set. Another one makes every key void."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(as_network)], ...] = ()
    """Networks whose `X-Forwarded-*`, `Forwarded` and `X-Real-IP` go on to engines; all others'
    are dropped."""
    tenants: Mapping[Name, Allowance] = field(default_factory=dict)
    """What each tenant may use with all of its keys and tokens together; none: no more than the keys
    say."""
    max_tenants: Annotated[int, Ge(1)] = 64
    """Tenants with metrics of their own; those beyond are counted as "other"."""
    jwt: Jwt | None = None
    """Tokens of an identity provider, beside keys; none: keys alone."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How engines and the router know each other, where a URL is https.

    Files are PEM, and loaded again when they change.
    """

    verify: bool = True
    """False: anybody may answer in the engine's place."""
    ca_file: File | None = None
    """Authorities to trust; none: the system's."""
    cert_file: File | None = None
    """The certificate that the router shows; none: it shows none."""
    key_file: File | None = None
    """Its key, without a password; none: it is in `cert_file`."""
    server_name: Text | None = None
    """Whom an engine's certificate must name; none: the URL's host."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One engine server."""

    id: Name
    """Unique among all pools; left out: the pool's name, cut at 48 characters, and a number."""
    engine: Kind
    """What kind it is."""
    url: Annotated[str, AfterValidator(engine_url)]
    """`http://host:port`, with a base path where a proxy in front asks for one."""
    max_in_flight: Annotated[int, Ge(1)]
    """Requests held there at once; left out: the pool's. Discovery may lower it."""
    weight: Annotated[float, Gt(0)] = 1.0
    """Capacity, relative to others in the pool."""
    model: Text | None = None
    """The engine's own name for the model; none: the public one."""
    honours_priority: bool = False
    """The engine orders by the priority that it is sent (vLLM, SGLang: a flag of theirs)."""
    max_context_tokens: Annotated[int, Ge(1)] | None = None
    """Prompt and answer together; none: as the engine says."""
    api_key_env: Text | None = None
    """The environment variable that holds the key to send."""
    api_key_file: File | None = None
    """Or the file that does."""
    tls: Tls | None = None
    """Where this one differs from its pool; left out: as the pool says."""
    labels: Mapping[Text, str] = field(default_factory=dict)
    """Anything that helps people: rack, region, card."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Engines that are run alike."""

    name: Name
    """Unique."""
    profile: Profile
    """predictable: home of interactive traffic; throughput: home of bulk."""
    models: Annotated[tuple[Text, ...], Len(1)]
    """Public names that every endpoint of it serves, adapters included."""
    endpoints: Annotated[tuple[Endpoint, ...], Len(1)]
    """The engines."""
    max_in_flight: Annotated[int, Ge(1)]
    """For each endpoint that does not say its own; left out: 32 predictable, 256 throughput."""
    tls: Tls = Tls()
    """How https engines are checked."""
