"""What goes into an emulated engine and what comes out: jobs, answers, events and gauges."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Job:
    """One request, by its lengths alone."""

    id: str
    prompt_tokens: int
    """At least 1."""
    output_tokens: int
    """What the model will say before it stops, at least 1; `max_tokens` cuts it short."""
    max_tokens: int | None = None
    """The caller's bound; TGI reserves memory for it. None: bound by the context only."""
    priority: int = 0
    """In the engine's own sense: vLLM serves low values first, SGLang high ones."""
    prefix: tuple[int, ...] = ()
    """Identities of the leading prompt blocks (`Memory.prefix_block_tokens` tokens each): two
    jobs with the same first n ids have the same text that far."""

    def __post_init__(self) -> None:
        """Refuse lengths that no engine could serve."""
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError(
                f"job {self.id!r}: prompt_tokens={self.prompt_tokens} and "
                f"output_tokens={self.output_tokens}, both must be at least 1"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"job {self.id!r}: max_tokens={self.max_tokens}, must be at least 1")

    @property
    def length(self) -> int:
        """Tokens that it will produce."""
        if self.max_tokens is None:
            return self.output_tokens
        return min(self.output_tokens, self.max_tokens)


class RefusalCause(StrEnum):
    """Why a job was not taken."""

    OVERLOADED = "overloaded"
    """TGI: every permit is taken."""
    QUEUE_FULL = "queue_full"
    """vLLM, SGLang: a bound on the waiting queue, in requests or tokens."""
    TOO_LONG = "too_long"
    """Prompt and output do not fit the context or the KV cache."""
    DRAINING = "draining"
    DEAD = "dead"
    """No process listens."""
    TOLD_TO = "told_to"
    """`Faults.refuse_status` is set."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The engine has taken the job."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine has not taken the job; nothing more will be heard of it."""

    cause: RefusalCause
    status: int = 503
    """HTTP status of the engine's answer."""


class FailureCause(StrEnum):
    """Why a job that was taken did not finish."""

    STEP_FAILED = "step_failed"
    """The step broke: everything in it fails together."""
    RESET = "reset"
    """The connection is cut in the middle of the answer."""
    DIED = "died"
    """The engine process is gone."""
    EVICTED = "evicted"
    """Pushed out of a full queue by a more urgent job (SGLang)."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The caller has the first token."""

    job_id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """The caller has one more token (reported in `Detail.TOKENS` only)."""

    job_id: str
    at_s: float
    index: int
    """0 is the first token, which is also reported as FirstToken."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The caller has the whole answer. Comes after the job's last token."""

    job_id: str
    at_s: float
    first_token_s: float
    """When the first token came, on the same clock."""
    output_tokens: int
    slowest_gap_s: float
    """Longest time between two tokens; 0 for a single token."""
    queued_s: float
    """From submission to the first step that worked on it."""
    cached_tokens: int
    """Prompt tokens that came from the prefix cache, at the first admission."""
    preemptions: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The caller will get nothing more."""

    job_id: str
    at_s: float
    cause: FailureCause
    output_tokens: int
    """Tokens that were delivered before."""


Event = FirstToken | Tokens | Finished | Failed


@dataclass(frozen=True, slots=True)
class Gauges:
    """What an engine would say of itself at one moment."""

    running: int
    waiting: int
    """Accepted and not yet in any step."""
    kv_capacity_tokens: int
    kv_used_tokens: int
    """Held or reserved, in whole blocks."""
    max_running: int
    """Slots or permits."""
    steps: int
    """Steps that have completed; the count of progress."""
    prefill_steps: int
    prompt_tokens: int
    """Computed, cumulative."""
    cached_tokens: int
    """Taken from the prefix cache, cumulative."""
    generated_tokens: int
    preemptions: int
    finished: int
    failed: int
    aborted: int
    refused: int

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache in use, 0..1."""
        return self.kv_used_tokens / self.kv_capacity_tokens
