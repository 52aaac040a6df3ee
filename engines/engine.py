"""The seam that every engine adapter fills: what the router asks of a kind of engine.

An adapter maps values to values. It never waits, never reads a clock and keeps no state, so one
instance of it serves every endpoint of its kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Protocol


class Route(StrEnum):
    """Inference routes; the value is the public path."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"
    COUNT_TOKENS = "/v1/messages/count_tokens"
    RERANK = "/v1/rerank"
    SCORE = "/v1/score"
    TOKENIZE = "/tokenize"
    DETOKENIZE = "/detokenize"


class Feature(StrEnum):
    """Parts of a request that some engines cannot do, or do wrongly without saying so."""

    MANY_CHOICES = "n>1"
    TOOLS = "tools"
    TOOL_CHOICE_REQUIRED = "tool_choice=required"
    JSON_OBJECT = "response_format=json_object"
    JSON_SCHEMA = "response_format=json_schema"
    GUIDED = "guided decoding (structured_outputs, regex, grammar)"
    LOGPROBS = "logprobs"
    MANY_LOGPROBS = "top_logprobs>5"
    LOGIT_BIAS = "logit_bias"
    MANY_STOPS = "more than 4 stop strings"
    IMAGES = "image input"
    AUDIO = "audio input"
    TOKEN_IDS = "prompt as token ids"  # noqa: S105 # these tokens are words
    MANY_PROMPTS = "several prompts"
    SUFFIX = "suffix"
    ECHO = "echo"
    BEST_OF = "best_of"
    PRESENCE_PENALTY = "presence_penalty"
    PROMPT_LOGPROBS = "prompt_logprobs"


class Kind(StrEnum):
    """Kinds of engine, as written in the configuration."""

    VLLM = "vllm"
    TGI = "tgi"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one endpoint was told to speak, beyond its kind."""

    upstream_model: str | None = None
    """The engine's own name for the model, where it differs from the public one."""
    honours_priority: bool = False
    """The engine orders by priority (vLLM and SGLang: an opt-in flag of theirs)."""
    max_output_tokens: int | None = None
    """Bound to add where the caller set none and the engine needs one."""


# Made for every request: frozen, it would cost three times as much.
@dataclass(init=False, slots=True)
class Question:
    """A request on its way to an engine."""

    route: Route
    body: bytes
    """As the caller sent it."""
    document: Mapping[str, object]
    """`body`, parsed; not to be changed."""
    model: str
    """The public name."""
    stream: bool
    sla_rank: int
    """0 interactive, 1 standard, 2 bulk: becomes the engine's own priority where honoured."""
    urgency: int = 3
    """Order inside a class, 0..7, 0 most urgent."""
    id: str = ""
    """The request's id; becomes the answer's where the engine gives none."""

    def __init__(  # noqa: PLR0913, PLR0917 # one parameter a field
        self,
        route: Route,
        body: bytes,
        document: Mapping[str, object],
        model: str,
        stream: bool,
        sla_rank: int,
        urgency: int = 3,
        id: str = "",  # noqa: A002 # the field
    ) -> None:
        self.route = route
        self.body = body
        self.document = document
        self.model = model
        self.stream = stream
        self.sla_rank = sla_rank
        self.urgency = urgency
        self.id = id


# Made for every request: frozen, it would cost three times as much.
@dataclass(init=False, slots=True)
class Prepared:
    """What to send: bytes for this engine."""

    path: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Extra request headers; names in lower case."""
    repairs: bool = False
    """True: the answer must pass through `repair_event` or `repair_body`."""

    def __init__(
        self,
        path: str,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        repairs: bool = False,  # noqa: FBT002 # the field
    ) -> None:
        self.path = path
        self.body = body
        self.headers = headers
        self.repairs = repairs


class FaultKind(StrEnum):
    """What an engine's refusal or failure means, whatever form it came in."""

    INVALID = "invalid"
    """The request is wrong: a 400 for the caller, never retried."""
    CONTEXT_TOO_LONG = "context_too_long"
    NOT_FOUND = "not_found"
    """Unknown model or adapter."""
    UNAUTHORIZED = "unauthorized"
    """The engine refused the router's credentials."""
    UNSUPPORTED = "unsupported"
    """The engine lacks the route or feature."""
    TOO_LARGE = "too_large"
    BUSY = "busy"
    """No room: another endpoint may have some."""
    BROKEN = "broken"
    """The engine failed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An engine's refusal or failure, read from a status and body or from an in-stream event."""

    kind: FaultKind
    message: str
    """The engine's own words, safe to show to the caller; never empty."""
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None


# Made for every request: frozen, it would cost three times as much.
@dataclass(init=False, slots=True)
class TokenUsage:
    """Token counts as the engine reports them; None where it does not."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None

    def __init__(
        self,
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_tokens: int | None = None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.cached_tokens = cached_tokens


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Gauges and counters read from one scrape; None where the engine does not tell."""

    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    """Share of the KV cache in use, 0..1."""
    kv_capacity_tokens: int | None = None
    kv_reserved_tokens: int | None = None
    progress: float | None = None
    """A counter that must advance while the engine has work."""
    preemptions: float | None = None
    running_loras: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Discovery:
    """What an engine says of itself; empty or None where it does not tell."""

    models: tuple[str, ...] = ()
    """Names it serves, adapters included."""
    max_context_tokens: int | None = None
    max_in_flight: int | None = None
    """Slots or permits, where the engine tells (llama.cpp slots, TGI permits)."""
    features: frozenset[Feature] | None = None
    """Set where the engine tells more than its kind does (llama.cpp: modalities)."""
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Traits:
    """What is true of every engine of a kind."""

    kind: Kind
    routes: frozenset[Route]
    features: frozenset[Feature]
    health_path: str
    load_path: str | None
    """Where `read_load` gets its text; None where there is nothing to scrape."""
    discovery_paths: tuple[str, ...]
    """Asked one by one; a path that fails is left out of what `read_discovery` is given."""
    keep_alive_s: float
    """How long an idle connection may safely be kept; below the engine's own limit."""
    max_output_tokens: int | None = None
    """Longest answer without a stall (TGI's 1,024-token slice); None where there is none."""
    health_proves_progress: bool = False
    offers: frozenset[Enum] = field(init=False)

    def __post_init__(self) -> None:
        """Join routes and features into one set, which is what a request's needs are held to."""
        object.__setattr__(self, "offers", frozenset[Enum]((*self.routes, *self.features)))


class Engine(Protocol):
    """One kind of engine."""

    traits: Traits

    def prepare(self, question: Question, dialect: Dialect) -> Prepared:
        """Return the bytes for this engine; the caller's own bytes wherever nothing must change."""
        ...

    def read_fault(self, status: int, body: bytes) -> Fault:
        """Read a non-2xx answer in any form: JSON object, string, flat, plain text, empty."""
        ...

    def read_event_fault(self, payload: bytes) -> Fault | None:
        """Read one SSE event's data inside a 200; None where it is no error. Must be cheap."""
        ...

    def read_usage(self, tail: bytes, *, stream: bool) -> TokenUsage | None:
        """Read token counts from an answer: a whole JSON body, or the last bytes of a stream."""
        ...

    def repair_event(self, payload: bytes, question: Question) -> bytes:
        """Return one SSE event's data as OpenAI's clients expect it (`Prepared.repairs` only)."""
        ...

    def repair_body(self, body: bytes, question: Question) -> bytes:
        """Return a whole answer as OpenAI's clients expect it (`Prepared.repairs` only)."""
        ...

    def read_load(self, text: str) -> EngineLoad:
        """Read the answer of `traits.load_path`; unknown lines are passed over."""
        ...

    def read_discovery(self, answers: Mapping[str, bytes]) -> Discovery:
        """Read the answers of `traits.discovery_paths`, by path."""
        ...

    def probe(self, model: str) -> Prepared:
        """Return the smallest real request: one token, whose answer proves progress."""
        ...
