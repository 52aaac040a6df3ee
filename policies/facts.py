"""What a decision may know about a request, and what it may answer.

Every value here is plain data. Times are seconds on the caller's clock (any monotonic origin);
lengths are tokens unless a name says otherwise; a share is 0..1.
"""

import copyreg
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from typing import Any, Protocol

from policies.targets import NO_TARGETS as NO_TARGETS  # noqa: PLC0414 # a fact like the others here
from policies.targets import Targets as Targets  # noqa: PLC0414 # likewise


class SlaClass(StrEnum):
    """Who must answer soon: the order here is the order of precedence."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BULK = "bulk"


class Profile(StrEnum):
    """How a pool's engines are run, and so whose home the pool is."""

    PREDICTABLE = "predictable"
    """Few slots, small prefill budget: the home of interactive traffic."""
    THROUGHPUT = "throughput"
    """Large batches: the home of standard and bulk traffic."""


class OnMiss(StrEnum):
    """What the caller wants when its target cannot be met."""

    SERVE = "serve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for; None leaves it to the policy."""

    sla_class: SlaClass | None = None
    targets: Targets = NO_TARGETS
    patience_s: float | None = None
    """When the caller will have given up, from arrival, s. It bounds the wait but says nothing of
    urgency: a client library sends its timeout with every request, interactive or not."""
    on_miss: OnMiss | None = None
    may_wait: bool = True
    """False: answer now or refuse now."""
    urgency: int = 3
    """Order inside a class, 0 most urgent, 7 least. Source: RFC 9218, section 4.1."""


ANYTHING = Wish()


# Made for every request: frozen, it would cost three times as much.
@dataclass(init=False, slots=True)
class RequestFacts:
    """One request as the intake read it. Nothing here was estimated from the past."""

    id: str
    model: str
    needs: frozenset[Enum]
    """What an endpoint must offer: the route and features. Opaque here; only inclusion is asked."""
    prompt_bytes: int
    """UTF-8 bytes of the text the model has to read."""
    known_prompt_tokens: int | None = None
    """Exact length where the caller sent token ids."""
    max_tokens: int | None = None
    """The caller's bound on output tokens; None where it set none."""
    choices: int = 1
    """Answers asked for at once (`n`); each costs its own output."""
    streams: bool = True
    """False: the answer comes as a whole, so that its first token is never seen."""
    wish: Wish = ANYTHING
    tenant: str = ""
    session: str | None = None
    """Requests that share it like to share an endpoint."""
    beginnings: tuple[int, ...] = ()
    """Hashes of ever longer beginnings of the prompt, the shortest first, in equal steps: who
    shares one has the same text up to there."""
    ceiling: SlaClass = SlaClass.INTERACTIVE
    """The highest class this caller is entitled to."""
    weight: float = 1.0
    """What its tenant may use beside others, relative to theirs, > 0."""

    def __init__(  # noqa: PLR0913, PLR0917 # one parameter a field
        self,
        id: str,  # noqa: A002 # the field
        model: str,
        needs: frozenset[Enum],
        prompt_bytes: int,
        known_prompt_tokens: int | None = None,
        max_tokens: int | None = None,
        choices: int = 1,
        streams: bool = True,  # noqa: FBT002 # the field
        wish: Wish = ANYTHING,
        tenant: str = "",
        session: str | None = None,
        beginnings: tuple[int, ...] = (),
        ceiling: SlaClass = SlaClass.INTERACTIVE,
        weight: float = 1.0,
    ) -> None:
        self.id = id
        self.model = model
        self.needs = needs
        self.prompt_bytes = prompt_bytes
        self.known_prompt_tokens = known_prompt_tokens
        self.max_tokens = max_tokens
        self.choices = choices
        self.streams = streams
        self.wish = wish
        self.tenant = tenant
        self.session = session
        self.beginnings = beginnings
        self.ceiling = ceiling
        self.weight = weight


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """One engine server as configured, with what discovery has learned of it."""

    id: str
    pool: str
    profile: Profile
    models: frozenset[str]
    """Public names (LoRA adapters included) that it can serve."""
    offers: frozenset[Enum]
    """Routes and features; a request goes only where its needs are a subset."""
    weight: float = 1.0
    """Relative capacity, > 0."""
    max_in_flight: int = 32
    """Requests held there at once, by all routers together; at least 1."""
    max_context_tokens: int | None = None
    """Prompt and output together; None where unknown."""
    max_output_tokens: int | None = None
    """Longest answer it gives without stalling (TGI: 1024); None where there is no such limit."""


class Reason(StrEnum):
    """Why a request went where it went; the answer's `X-SLA-Reason`."""

    HOME = "home"
    SPILL = "spill"
    """Home was full or down; a pool of the other profile took it."""
    RECLAIM = "reclaim"
    AFFINITY = "affinity"
    RETRY = "retry"
    HEDGE = "hedge"
    SHADOW = "shadow"
    """A copy, whose answer nobody waits for."""
    ONLY = "only"
    """No pool of its home profile serves the model."""


class RefusalReason(StrEnum):
    """Why a request was not served; the answer's `X-SLA-Dropped-Reason`.

    The vocabulary follows llm-d's drop reasons where it has one.
    """

    SATURATED = "rejected-saturated"
    QUEUE_FULL = "rejected-queue-full"
    NO_QUEUE = "rejected-would-queue"
    """Every fitting slot was taken and the caller had asked not to wait."""
    NO_ENDPOINTS = "rejected-no-endpoints"
    """Nothing healthy could take it."""
    EXPIRED = "rejected-ttl-expired"
    DEADLINE = "rejected-deadline-unreachable"
    RETRIES_SPENT = "rejected-retries-spent"
    UNKNOWN_MODEL = "rejected-unknown-model"
    UNSUPPORTED = "rejected-unsupported"
    """The model is known, but no endpoint of it offers what the request needs."""
    TOO_LONG = "rejected-context-too-long"
    SHUTTING_DOWN = "rejected-shutting-down"


class FailureKind(StrEnum):
    """What went wrong with an attempt, in the terms that a retry decision needs."""

    NOT_REACHED = "not_reached"
    """No connection; nothing was sent."""
    STALE_CONNECTION = "stale_connection"
    """A kept connection closed before a byte of the answer: the usual keep-alive race."""
    BUSY = "busy"
    """The engine refused for want of room (429, 503, in-stream overload): not sick."""
    BROKEN = "broken"
    """The engine failed (5xx, 424, garbage, reset)."""
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 # a token of text
    IDLE_TIMEOUT = "idle_timeout"
    """Began to answer and then stood still."""
    REJECTED = "rejected"
    """The engine found the request itself wrong; no other engine of this kind would differ."""


class Ending(StrEnum):
    """How a request left an endpoint."""

    COMPLETED = "completed"
    REJECTED = "rejected"
    """The engine answered that the request itself is wrong (4xx)."""
    FAILED = "failed"
    ABANDONED = "abandoned"
    """The caller left."""


class Load(Protocol):
    """What an engine's own gauges said at one moment; None where it does not tell.

    Used to correct drift and to see progress, never to rank endpoints: gauges are late, and
    ranking on them makes requests herd.
    """

    @property
    def running(self) -> int | None:
        """Requests that it works on."""

    @property
    def waiting(self) -> int | None:
        """Requests in its own queue."""

    @property
    def kv_usage(self) -> float | None:
        """Share of the KV cache in use, 0..1."""

    @property
    def progress(self) -> float | None:
        """A counter that must advance while the engine has work."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request is not served, and why."""

    reason: RefusalReason
    detail: str
    """One sentence for the caller, with the facts."""
    retry_after_s: float | None = None
    """When to come back; None where coming back cannot help."""
    known: tuple[str, ...] = ()
    """Names that would have been right, where a name was wrong."""
    missing: tuple[Enum, ...] = ()
    """Needs that no endpoint offers, where that is the reason."""


def _made(kind: type[Any], values: dict[str, Any]) -> Any:
    return kind(**values)


def _parts(value: Any) -> tuple[Any, tuple[Any, ...]]:
    return _made, (type(value), {each.name: getattr(value, each.name) for each in fields(value)})


# To another process, where simulations run, they go as what their constructors take: compiled
# objects cannot be filled in from outside.
for _kind in (Wish, RequestFacts, EndpointPlan):
    copyreg.pickle(_kind, _parts)
