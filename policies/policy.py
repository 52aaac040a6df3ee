"""The policy document: everything about routing that an operator may change, with its defaults.

Plain frozen dataclasses, so that the router can validate, describe and difference them. Times are
seconds, lengths are tokens, shares are 0..1. Figures marked "measured" come from vLLM on an H100
with an 8B model; the others are starting points.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from annotated_types import Ge, Gt, Le

from policies.facts import NO_TARGETS, OnMiss, Profile, SlaClass, Targets


class EndpointPolicyName(StrEnum):
    """How an endpoint is chosen among those that have room; one file each in `endpoints/`."""

    LEAST_TOKENS = "least_tokens"
    LEAST_BUSY = "least_busy"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    TWO_CHOICES = "two_choices"
    TWO_CHOICES_TOKENS = "two_choices_tokens"
    PEAK_EWMA = "peak_ewma"
    CONSISTENT_HASH = "consistent_hash"
    LEAST_SCRAPED = "least_scraped"


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """What one class is promised, and how long it may wait for a slot."""

    targets: Targets = NO_TARGETS
    """Targets of a request that names none of its own."""
    on_miss: OnMiss = OnMiss.SERVE
    """What to do, where the caller does not say, with a request whose target cannot be met."""
    max_waiting: Annotated[int, Ge(0)] = 1024
    """Requests of the class that may wait at once; the next one is refused."""
    max_wait_s: Annotated[float, Gt(0)] = 30.0
    """Longest wait for a slot, s. A later target for the first token extends it; a deadline cuts
    it short."""


@dataclass(frozen=True, slots=True)
class Classes:
    """The three classes, in order of precedence."""

    interactive: ClassPolicy = ClassPolicy(
        Targets(first_token_s=0.5, per_token_s=0.05), max_waiting=256, max_wait_s=2.0
    )
    """Somebody watches the answer appear."""
    standard: ClassPolicy = ClassPolicy(Targets(first_token_s=2.0, per_token_s=0.10))
    """Somebody waits for the answer."""
    bulk: ClassPolicy = ClassPolicy(Targets(deadline_s=60.0), max_waiting=4096, max_wait_s=60.0)
    """Nobody waits; only the deadline counts."""


@dataclass(frozen=True, slots=True)
class Classification:
    """How a request that names no class gets one."""

    interactive_first_token_s: Annotated[float, Gt(0)] = 1.0
    """A first-token target at or below this makes a request interactive, s."""
    interactive_per_token_s: Annotated[float, Gt(0)] = 0.06
    """A per-token target at or below this makes a request interactive, s."""
    default_class: SlaClass = SlaClass.STANDARD
    """The class of a request that gives no sign at all."""


class Sticky(StrEnum):
    """What keeps to one variant."""

    SESSION = "session"
    TENANT = "tenant"
    NOTHING = "nothing"


REST = "rest"
"""The variant of those requests that no other one takes."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A part of a model's requests that goes to certain endpoints, or to another model."""

    share: Annotated[float, Ge(0), Le(1)] = 0.0
    """Its part of the model's requests, 0..1; at 0 nothing is sent there, also not when others
    are down."""
    endpoints: tuple[str, ...] = ()
    """Endpoints that it is served by."""
    pools: tuple[str, ...] = ()
    """Pools whose endpoints it is served by as well."""
    model: str | None = None
    """The model that engines are asked for in place of this one, an adapter for example; callers
    are answered under the name that they asked for."""

    def __post_init__(self) -> None:
        """Refuse one that nothing could serve."""
        if not (self.endpoints or self.pools or self.model):
            raise ValueError("must name endpoints, pools or a model")


@dataclass(frozen=True, slots=True)
class Shadow:
    """Copies of a model's requests, sent where nobody waits for the answer."""

    share: Annotated[float, Ge(0), Le(1)] = 0.01
    """Part of the requests that is copied, 0..1; none while requests wait or the shadow is full."""
    endpoints: tuple[str, ...] = ()
    """Endpoints that are sent the copies, and no requests of the model."""
    pools: tuple[str, ...] = ()
    """Pools whose endpoints are as well."""
    max_in_flight: Annotated[int, Ge(1)] = 8
    """Copies under way at once, by each router."""

    def __post_init__(self) -> None:
        """Refuse one that nothing could serve."""
        if not (self.endpoints or self.pools):
            raise ValueError("must name endpoints or pools")


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """What is different for one model; a target left out is the class's own."""

    default_class: SlaClass | None = None
    """The class of a request for this model that gives no sign; None: as for every model."""
    interactive: Targets = NO_TARGETS
    """Targets of its interactive requests."""
    standard: Targets = NO_TARGETS
    """Targets of its standard requests."""
    bulk: Targets = NO_TARGETS
    """Targets of its bulk requests."""
    variants: Mapping[str, Variant] = field(default_factory=dict)
    """Parts of its requests that go elsewhere, by name; the remainder is the variant "rest"."""
    sticky: Sticky = Sticky.SESSION
    """Requests that have this in common keep to one variant, as far as shares allow."""
    shadow: Shadow | None = None
    """Where copies of its requests are sent, to be thrown away; none: nowhere."""

    def __post_init__(self) -> None:
        """Refuse shares that cannot be."""
        total = sum(each.share for each in self.variants.values())
        if total > 1 + 1e-9:
            raise ValueError(f"shares of variants add up to {total:g}, more than 1")
        if REST in self.variants:
            raise ValueError(f"{REST!r} is what no variant takes: give the variant another name")


@dataclass(frozen=True, slots=True)
class Hold:
    """How much of one endpoint a class may hold, counted with the classes below it.

    A class has no room where one above it has none.
    """

    share: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the endpoint's slots, 0..1; above 0 it is worth at least one slot."""
    max_slots: Annotated[int, Ge(0)] | None = None
    """Slots at most, whatever the share; None: the share alone decides."""
    max_pending_prompt_tokens: Annotated[int, Gt(0)] | None = None
    """The class waits in the router while at least this many prompt tokens sent to the endpoint
    have no first token yet; None: no such bound."""


@dataclass(frozen=True, slots=True)
class Holds:
    """What each class may hold of one endpoint of a profile."""

    interactive: Hold = Hold()
    """Interactive requests, and all others with them."""
    standard: Hold = Hold()
    """Standard and bulk requests together."""
    bulk: Hold = Hold()
    """Bulk requests."""


@dataclass(frozen=True, slots=True)
class ProfilePolicy:
    """How pools of one profile are used."""

    endpoint_policy: EndpointPolicyName = EndpointPolicyName.LEAST_TOKENS
    """How an endpoint is chosen among those with room."""
    holds: Holds = Holds()
    """How much of each endpoint a class may hold."""
    max_prompt_tokens: Annotated[int, Gt(0)] | None = None
    """Longer prompts go elsewhere while another profile serves the model; None: no limit."""
    max_output_tokens: Annotated[int, Gt(0)] | None = None
    """Longer answers, by the caller's bound or else as expected, go elsewhere; None: no limit."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """Both profiles."""

    predictable: ProfilePolicy = ProfilePolicy(
        # Measured: bulk overflowing into a 32-slot engine makes the first token take 8 s. Few
        # enough slots for the rest that an interactive request always finds one.
        holds=Holds(
            standard=Hold(share=0.5),
            bulk=Hold(share=0.25, max_slots=8, max_pending_prompt_tokens=2048),
        ),
        # A prompt of 4096 tokens stops every other answer there for 88 ms (measured).
        max_prompt_tokens=4096,
        max_output_tokens=1024,
    )
    """Few slots and short prompts: the home of interactive traffic."""
    throughput: ProfilePolicy = ProfilePolicy(
        # Bulk beyond what keeps the engine busy is held back in the router, where a more urgent
        # request can still pass it. 8192 is one full prefill step of vLLM.
        holds=Holds(bulk=Hold(max_slots=96, max_pending_prompt_tokens=8192)),
    )
    """Large batches: the home of standard and bulk traffic."""


@dataclass(frozen=True, slots=True)
class LatencyPolicy:
    """What the latency model starts from, for every pool; measured on an H100 with an 8B model."""

    learns: bool = True
    """False: predictions stay what these figures say."""
    step_s: Annotated[float, Gt(0)] = 0.0065
    """One step of an engine with nothing to do, s."""
    prefill_s_per_token: Annotated[float, Gt(0)] = 21.4e-6
    """Reading one prompt token, s."""
    s_per_sequence: Annotated[float, Ge(0)] = 11.9e-6
    """What a sequence adds to a step, s."""
    s_per_kv_token: Annotated[float, Ge(0)] = 0.0445e-6
    """What a token of KV cache adds to a step, s."""


@dataclass(frozen=True, slots=True)
class Spill:
    """Which traffic may leave its home pools when these are full or down."""

    to_throughput: bool = True
    """Interactive requests may use throughput pools."""
    to_predictable: bool = True
    """Standard and bulk requests may use predictable pools, within what they may hold there."""
    home_share: Annotated[float, Ge(0), Le(1)] | None = 0.6
    """A request with latency targets stays at home where its predicted times are within this share
    of them; None: as long as there is room, whatever is predicted."""
    away_share: Annotated[float, Ge(0), Le(1)] = 0.8
    """Else it goes where they are within this share, if anywhere; if not, where they are least."""


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """How interactive requests are kept safe from bulk at the same endpoint."""

    per_token_share: Annotated[float, Ge(0), Le(1)] | None = 0.8
    """Bulk goes to an endpoint that serves interactive requests only while their predicted time a
    token stays within this share of its target; None: wherever it has room."""
    bulk_floor_share: Annotated[float, Ge(0), Le(1)] = 0.05
    """Bulk that waits may pass the guard with this share of the prompt tokens that others send, so
    that it never starves."""


@dataclass(frozen=True, slots=True)
class AffinityPolicy:
    """When a request goes where the beginning of its prompt was read before."""

    most_delay_share: Annotated[float, Ge(0)] | None = 0.3
    """It goes there while its first token is predicted to come no later than elsewhere by more
    than this share of its target; None: caches are not thought of."""
    untargeted_delay_s: Annotated[float, Ge(0)] = 2.0
    """The same for a request without a first-token target, s."""
    least_hit_share: Annotated[float, Gt(0), Le(1)] = 0.1
    """Smallest part of a prompt that is worth it."""
    explore_share: Annotated[float, Ge(0), Le(1)] = 0.01
    """Share of requests that go their own way all the same, so that what is popular spreads."""


@dataclass(frozen=True, slots=True)
class FairnessPolicy:
    """How tenants share what is scarce; nothing is held back while there is enough."""

    most_share: Annotated[float, Ge(1)] | None = 1.5
    """A tenant that used more than this many times its equal share lately is served after those
    that did not, and waits while no endpoint is predicted to meet its targets; None: tenants are
    all one."""
    tau_s: Annotated[float, Gt(0)] = 10.0
    """Time over which use is forgotten, s."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request that failed before its first byte is tried elsewhere."""

    max_attempts: Annotated[int, Ge(1)] = 3
    """Attempts at one request, the first included."""
    share_of_requests: Annotated[float, Ge(0), Le(1)] = 0.10
    """Retries that each request adds to the budget."""
    per_s: Annotated[float, Ge(0)] = 1.0
    """Retries that each second adds to the budget."""
    burst: Annotated[float, Ge(1)] = 20.0
    """Retries that the budget holds at most; it starts full."""
    continue_streams: bool = False
    """Streams that break go on at another endpoint unless the caller says `X-SLA-Continue: 0`."""


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When an endpoint is left alone, and when it is tried again."""

    failures_to_down: Annotated[int, Ge(1)] = 3
    """Failures in a row after which an endpoint is down."""
    failed_probes_to_down: Annotated[int, Ge(1)] = 2
    """Failed probes in a row after which an endpoint is down."""
    back_off_s: Annotated[float, Gt(0)] = 1.0
    """First time down, s; doubles each time the trial request fails."""
    max_back_off_s: Annotated[float, Gt(0)] = 30.0
    """Longest time down before the next trial, s."""
    stall_s: Annotated[float, Gt(0)] = 1.2
    """An endpoint that has work and on which nothing moves for so long is down until it moves, s."""
    slow_factor: Annotated[float, Gt(1)] = 3.0
    """An endpoint whose tokens take more than so many times the median of its pool's is slow, and"""
    slow_s: Annotated[float, Gt(0)] = 2.0
    """is down after having been slow for so long, s."""
    max_ejected_share: Annotated[float, Ge(0), Le(1)] = 0.5
    """Share of a pool that may be down for standing still or being slow, 0..1; one always may."""
    ramp_s: Annotated[float, Gt(0)] = 0.5
    """An endpoint that comes back is given one slot, and twice as many each time this passes, s."""
    busy_penalty_s: Annotated[float, Gt(0)] = 1.0
    """How long others are preferred after a refusal for want of room that names no time, s."""
    max_busy_penalty_s: Annotated[float, Gt(0)] = 30.0
    """Longest such time, whatever the engine asks for, s."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole document."""

    classes: Classes = Classes()
    """What each class is promised."""
    classification: Classification = Classification()
    """Which signs make a request which class."""
    models: Mapping[str, ModelPolicy] = field(default_factory=dict)
    """Differences by public model name."""
    profiles: Profiles = Profiles()
    """How pools are used."""
    spill: Spill = Spill()
    """Which traffic may leave home."""
    guard: GuardPolicy = GuardPolicy()
    """How interactive requests are kept safe from bulk."""
    affinity: AffinityPolicy = AffinityPolicy()
    """When a request follows its prompt's cache."""
    fairness: FairnessPolicy = FairnessPolicy()
    """How tenants share what is scarce."""
    latency: LatencyPolicy = LatencyPolicy()
    """What predictions start from."""
    retry: RetryPolicy = RetryPolicy()
    """How often a failed request is tried elsewhere."""
    health: HealthPolicy = HealthPolicy()
    """When an endpoint is left alone."""

    def of_class(self, sla_class: SlaClass) -> ClassPolicy:
        """Return what one class is promised."""
        match sla_class:
            case SlaClass.INTERACTIVE:
                return self.classes.interactive
            case SlaClass.STANDARD:
                return self.classes.standard
            case SlaClass.BULK:
                return self.classes.bulk

    def of_profile(self, profile: Profile) -> ProfilePolicy:
        """Return how pools of one profile are used."""
        match profile:
            case Profile.PREDICTABLE:
                return self.profiles.predictable
            case Profile.THROUGHPUT:
                return self.profiles.throughput
