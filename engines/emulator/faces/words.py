"""The values that faces and the server exchange: a site, a question, a problem, an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import orjson

from engines.emulator.jobs import Gauges, Job
from engines.emulator.spec import EngineSpec
from engines.emulator.text import natural_length


class Form(Enum):
    """What a route generates."""

    CHAT = "chat.completion"
    COMPLETION = "text_completion"
    NATIVE = "native"
    """TGI's own `/generate` and `/generate_stream`."""


class Usage(Enum):
    """When a stream tells its token counts."""

    NEVER = "never"
    AT_END = "at_end"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Quirks:
    """Ways of an engine that can be switched off, to see what depends on them."""

    early_status: bool = False
    """A stream's status is 200 before anything was checked; problems come as events."""
    status_with_first_token: bool = False
    """A stream's head is sent with its first event."""
    space_after_data: bool = True
    comment_interval_s: float | None = None
    """A comment line on a stream that is silent for so long."""
    comment: bytes = b":\n\n"
    strict_types: bool = False
    """Bodies that OpenAI allows are refused for their types (TGI's 422 in plain text)."""
    health_waits_for_step: bool = False
    """Health is answered when the step that runs is complete."""
    health_generates: bool = False
    """Health asks for a token and waits for it."""
    health_poll_s: float = 1.0
    """How often it looks."""
    health_timeout_s: float = 20.0
    runs_on_without_stream: bool = False
    """A caller who leaves before a whole answer does not stop it."""
    echoes_request_id: bool = False
    """vLLM: `X-Request-Id` comes back as a header (`--enable-request-id-headers`)."""
    body_limit: int | None = None
    """Longest body in bytes."""
    reports_cached_tokens: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One served engine."""

    name: str
    model: str
    spec: EngineSpec
    quirks: Quirks
    started: int = 0
    """Unix seconds."""
    mean_output_tokens: float = 128.0
    """How long answers are that nobody bounds."""
    adapters: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Model names that it serves."""
        return (self.model, *self.adapters)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, by what matters of it."""

    tokens: int
    seed: int
    """Of its answer."""
    keys: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer; the face gives it its form."""

    status: int
    message: str
    type: str = ""
    param: str | None = None
    is_text: bool = False
    """Said in plain text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to generate, as the engine understands it."""

    id: str
    form: Form
    model: str
    stream: bool
    usage: Usage
    prompts: tuple[Prompt, ...]
    choices: int = 1
    max_tokens: int | None = None
    length: int | None = None
    """Tokens to generate exactly (`ignore_eos`); None leaves it to the prompt."""
    priority: int = 0
    created: int = 0
    characters: int = 0
    wants_load: str = ""
    """vLLM: the format in which the answer's header tells the engine's load."""
    details: bool = False
    flaw: Problem | None = None
    """Found before the engine was asked, and told when the engine would have been."""

    def jobs(self, serial: int, site: Site) -> tuple[Job, ...]:
        """Return what the engine has to do, one job a choice, with ids made of `serial`."""
        return tuple(
            Job(
                id=f"{serial}/{index}",
                prompt_tokens=prompt.tokens,
                output_tokens=self.length or natural_length(prompt.seed, site.mean_output_tokens),
                max_tokens=self.max_tokens,
                priority=self.priority,
                prefix=prompt.keys,
            )
            for index, prompt in enumerate(self.expanded)
        )

    @property
    def expanded(self) -> tuple[Prompt, ...]:
        """The prompt of each choice, in order."""
        return tuple(prompt for prompt in self.prompts for _ in range(self.choices))

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts, each counted once."""
        return sum(prompt.tokens for prompt in self.prompts)


@dataclass(frozen=True, slots=True)
class Spoken:
    """What was generated for one choice."""

    text: str
    tokens: int
    reason: str
    """`length` or `stop`."""
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Times:
    """How long a whole answer took, in seconds, and how the engine fares."""

    total_s: float
    queued_s: float
    first_token_s: float
    """From arrival."""
    waiting: int = 0
    kv_usage: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What metrics are made of."""

    gauges: Gauges
    histograms: Mapping[str, "Histogram"] = field(default_factory=dict)


@dataclass(slots=True)
class Histogram:
    """Observations in cumulative buckets."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        """Start empty."""
        self.counts = [0] * len(self.bounds)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.total += value
        self.count += 1
        for index, bound in enumerate(self.bounds):
            if value <= bound:
                self.counts[index] += 1


def document(
    answer: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """Answer with a JSON document."""
    return Answer(status, orjson.dumps(answer), headers=headers)
