"""What an emulated engine is: its kind's own knobs, under the engine's own names, and its faults.

Defaults are those of the real engine on an H100 unless a line says otherwise.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from engines.emulator.profiles import Profile
from engines.engine import Kind


@dataclass(frozen=True, slots=True)
class Memory:
    """How the KV cache is cut up."""

    block_tokens: int = 16
    prefix_caching: bool = True
    """Jobs without `prefix` never hit it."""
    prefix_block_tokens: int = 16
    """Tokens that one id of `Job.prefix` stands for; a multiple of `block_tokens`."""
    kv_tokens: int | None = None
    """Capacity; None takes the profile's."""


class Policy(StrEnum):
    """vLLM's `--scheduling-policy`."""

    FCFS = "fcfs"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Vllm:
    """vLLM (V1 scheduler)."""

    max_num_seqs: int = 1024
    max_num_batched_tokens: int = 8192
    scheduling_policy: Policy = Policy.FCFS
    long_prefill_token_threshold: int = 0
    """Longest chunk while others are there; 0 is no bound."""
    scheduler_reserve_full_isl: bool = True
    """Admit only what fits as a whole prompt."""
    watermark: float = 0.0
    """Share of blocks that an admission leaves free."""
    max_num_queued_reqs: int | None = None
    max_num_queued_tokens: int | None = None
    max_model_len: int = 8192
    async_scheduling: bool = True
    """Plan one step ahead of the one that runs."""

    @property
    def kind(self) -> Kind:
        """The kind of engine."""
        return Kind.VLLM

    @property
    def depth(self) -> int:
        """Steps in flight at once."""
        return 2 if self.async_scheduling else 1

    @property
    def graph_tokens(self) -> int:
        """Most tokens that captured CUDA graphs cover: twice the slots, 512 at most."""
        return min(2 * self.max_num_seqs, 512)


@dataclass(frozen=True, slots=True)
class Tgi:
    """text-generation-inference (v3 backend)."""

    max_concurrent_requests: int = 128
    max_batch_prefill_tokens: int = 4096
    """What a latency pool should set; TGI's own default is about one second of peak compute."""
    prefill_chunking: bool = True
    """False: a prefill pauses every decode, and the next two knobs say when one may."""
    waiting_served_ratio: float = 0.3
    max_waiting_tokens: int = 20
    max_batch_size: int | None = None
    max_total_tokens: int = 8192
    """Prompt and output of one request."""
    slice_tokens: int = 1024
    """Output after which a request goes back to the end of the queue."""
    graph_sequences: int = 32

    @property
    def kind(self) -> Kind:
        """The kind of engine."""
        return Kind.TGI

    @property
    def depth(self) -> int:
        """Steps in flight at once."""
        return 1

    @property
    def graph_tokens(self) -> int:
        """Largest batch with a CUDA graph."""
        return self.graph_sequences


@dataclass(frozen=True, slots=True)
class Sglang:
    """SGLang."""

    max_running_requests: int = 256
    chunked_prefill_size: int = 8192
    max_prefill_tokens: int = 16_384
    enable_mixed_chunk: bool = False
    new_token_ratio: float = 0.4
    """Share of the bound on output that admission sets aside; SGLang lets it decay from 0.7
    towards 0.1 while nothing is retracted."""
    default_new_tokens: int = 4096
    """What admission assumes where the caller set no bound; SGLang clips longer ones to it."""
    max_queued_requests: int | None = None
    enable_priority_scheduling: bool = False
    schedule_low_priority_values_first: bool = False
    priority_preemption_threshold: int = 10
    context_length: int = 8192

    @property
    def kind(self) -> Kind:
        """The kind of engine."""
        return Kind.SGLANG

    @property
    def depth(self) -> int:
        """Steps in flight at once (overlap scheduling)."""
        return 2

    @property
    def graph_tokens(self) -> int:
        """Largest decode batch with a CUDA graph."""
        return self.max_running_requests


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp's server: fixed slots, each with its own part of the context."""

    n_parallel: int = 4
    n_batch: int = 2048
    n_ctx_slot: int = 2048
    """Context of one slot, prompt and output together."""

    @property
    def kind(self) -> Kind:
        """The kind of engine."""
        return Kind.LLAMACPP

    @property
    def depth(self) -> int:
        """Steps in flight at once."""
        return 1

    @property
    def graph_tokens(self) -> int:
        """Largest batch that costs no extra."""
        return self.n_batch


Knobs = Vllm | Tgi | Sglang | LlamaCpp


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One emulated engine."""

    profile: Profile
    knobs: Knobs
    memory: Memory = field(default=Memory())

    @property
    def kv_tokens(self) -> int:
        """Capacity of the KV cache."""
        return self.memory.kv_tokens or self.profile.kv_tokens


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with an engine; the default is nothing."""

    hang: bool = False
    """No step completes, while health and metrics answer as ever."""
    slow_factor: float = 1.0
    """Factor on the time of every step planned from then on."""
    fail_steps: bool = False
    """Every step fails, with everything in it."""
    reset_after_tokens: int | None = None
    """Answers of jobs submitted from then on break off after so many tokens."""
    refuse_status: int | None = None
    """Every job is refused at once with this status."""
    frozen_metrics: bool = False
    """Gauges keep the values that they had when this was set."""
    first_token_delay_s: float = 0.0
    """Added to the way of every first token."""
    draining: bool = False
    """Takes no more jobs and finishes the ones that it has."""
    dead: bool = False
    """The process is gone, and all its jobs with it."""


HEALTHY = Faults()
