"""A job inside an engine, and one engine step: the mutable records of the step loop."""

from dataclasses import dataclass, field

from engines.emulator.jobs import Job


@dataclass(slots=True, eq=False)
class Sequence:
    """One job's progress.

    A stay lasts from an admission to the departure that follows; a job has one, or several where
    it is preempted, retracted or sliced.
    """

    job: Job
    order: int
    """Counts submissions."""
    arrived_s: float
    spread: float
    """Place among the events of one step, 0..1: who is served first by the API server."""
    prompt: int
    """Tokens to compute before the next token of this stay: the prompt, and what was generated
    before where that has to be recomputed."""
    end: int
    """Tokens that it will produce in all."""
    target: int
    """Tokens that it will have produced when this stay ends."""
    computed: int = 0
    produced: int = 0
    """Tokens produced in earlier stays."""
    has_first: bool = False
    """The step that gave the first token of this stay is complete."""
    joined: int = -1
    """Batch clock when it joined the decodes; -1 outside."""
    leave_at: int = -1
    """Batch clock of its last token of this stay."""
    stay: int = 0
    """Counts stays: what was planned for an earlier one is void."""
    blocks: int = 0
    """Private blocks held, growth in the decode batch not included."""
    keys: tuple[int, ...] = ()
    """Keyed blocks held."""
    slot: int = -1
    cut: bool = False
    """The connection will break after the last token."""
    is_given_up: bool = False
    """Nobody waits for it; it is in a step that is not complete."""
    interrupted: tuple[int, int] | None = None
    """The batch clocks between which it decoded in the stay before this one."""
    first_s: float | None = None
    """When its very first token was delivered."""
    last_s: float = 0.0
    """When the latest token known here was delivered."""
    slowest_gap_s: float = 0.0
    started_s: float | None = None
    cached_tokens: int = 0
    preemptions: int = 0

    @property
    def decoding(self) -> bool:
        """It is among the decodes."""
        return self.joined >= 0

    @property
    def remaining_prompt(self) -> int:
        """Prompt tokens yet to compute in this stay."""
        return self.prompt - self.computed

    def tokens(self, completed: int) -> int:
        """Return the tokens produced by the steps that are complete, `completed` decode steps."""
        if not self.has_first:
            return self.produced
        return self.produced + 1 + self.decoded_until(completed) - self.joined

    def decoded_until(self, completed: int) -> int:
        """Return the batch clock of its latest decode step that is complete."""
        return max(self.joined, min(completed, self.leave_at))

    def restart(self, completed: int) -> None:
        """Begin another stay from nothing: what was produced becomes part of the prompt."""
        if self.has_first and self.decoding:
            self.interrupted = (self.joined, self.decoded_until(completed))
        self.produced = self.tokens(completed)
        self.prompt = self.job.prompt_tokens + self.produced
        self.has_first = False
        self.computed = 0
        self.joined = self.leave_at = -1
        self.blocks = 0
        self.keys = ()
        self.stay += 1


Entry = tuple[Sequence, int]
"""A sequence and the stay that something was planned for."""


def valid(entries: list[Entry]) -> list[Sequence]:
    """Return the sequences whose stay is still the one that was planned for."""
    if not entries:
        return []
    return [sequence for sequence, stay in entries if sequence.stay == stay]


@dataclass(slots=True, eq=False)
class Step:
    """One forward pass, as planned."""

    prefill: int = 0
    """Prefill tokens."""
    attention: float = 0.0
    """Sum over prefill chunks of chunk x (context before it + chunk / 2)."""
    decodes: int = 0
    kv_tokens: int = 0
    """KV tokens that the decodes read."""
    clock: int = -1
    """Batch clock of a step with decodes."""
    first: list[Entry] = field(default_factory=list)
    """Whose prompt is complete with this step: each gets a token."""
    leaving: list[Entry] = field(default_factory=list)
    """Whose stay ends with this step."""
    started: list[Sequence] = field(default_factory=list)
    """Who was admitted with this step."""
    reports: bool = False
    """Somebody's first token or end comes of it."""
    is_plain: bool = False
    """Nothing but decodes, none of them the last of its stay."""
    gpu_s: float = 0.0
    """When the GPU is through with it."""
    done_s: float = 0.0
    """When the host knows."""

    def add_chunk(self, sequence: Sequence, tokens: int) -> None:
        """Count a prefill chunk and advance the sequence by it."""
        self.prefill += tokens
        self.attention += tokens * (sequence.computed + tokens / 2)
        sequence.computed += tokens
