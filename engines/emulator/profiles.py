"""How long things take: timing profiles of a model on a GPU.

A step that computes P prefill tokens beside D decode sequences with K tokens of KV cache takes

    base + per_prefill x max(0, P - hidden_prefill) + per_attention x Q + per_sequence x D + per_kv x K

on the GPU, with Q the sum over prefill chunks of chunk x (context before it + chunk / 2). Around
that stands the host: it needs time to launch a step, and sees nothing finish while it launches.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Hiccups:
    """Rare lateness of the host, per step; it delays what is seen, not the GPU."""

    share: float = 0.0
    """Share of steps that have one, 0..1."""
    tail: tuple[tuple[float, float], ...] = ()
    """(share of hiccups that last longer, seconds), from (1.0, shortest) to (0.0, longest)."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Host time to launch a step with prefill: log-normal around a median, seldom much longer."""

    busy_s: float = 0.0
    """Median inside a busy engine."""
    idle_s: float = 0.0
    """Median where the engine had nothing to do."""
    sigma: float = 0.0
    """Standard deviation of the logarithm; 0 is constant."""
    hiccups: Hiccups = Hiccups()


@dataclass(frozen=True, slots=True)
class Front:
    """What a request costs the API server in front of an engine, a single process."""

    accept_s: float = 0.0
    """Work before the engine has it."""
    accept_per_token_s: float = 0.0
    """The same, per prompt token."""
    transit_s: float = 0.0
    """Latency on the way to the engine that keeps nobody busy."""
    transit_per_token_s: float = 0.0
    """The same, per prompt token."""
    open_s: float = 0.0
    """Work on the first token."""
    open_per_token_s: float = 0.0
    """Latency of the first token that keeps nobody busy, per prompt token."""
    turns: float = 0.0
    """Turns of the event loop that a request takes on its way to the engine, and its first token
    on the way back. The busier the server is with tokens, the more of them wait for a step's."""
    event_s: float = 0.0
    """Work per streamed token."""
    close_s: float = 0.0
    """Work after the last token."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One model on one GPU (or tensor-parallel group)."""

    base_s: float
    per_prefill_s: float
    hidden_prefill: int
    """Prefill tokens that cost nothing, because reading the weights takes as long."""
    per_attention_s: float
    per_sequence_s: float
    per_kv_s: float
    kv_tokens: int
    """KV cache tokens that fit."""
    jitter: float = 0.0
    """Sigma of a log-normal factor on the GPU time of steps with prefill."""
    graph_tokens: int = 512
    """Most tokens in a step that CUDA graphs can cover; an engine with few slots captures fewer."""
    plan_s: float = 0.0
    """Host time to plan a step and to hand out what the one before yielded."""
    plan_per_sequence_s: float = 0.0
    """The same, per decode sequence."""
    captured: Launch = Launch()
    """A step that the engine's CUDA graphs cover."""
    uncaptured: Launch = Launch()
    """One that they could cover, had the engine captured more of them."""
    large: Launch = Launch()
    """One that no CUDA graph covers."""
    eager_decode_s: float = 0.0
    """Extra time of a decode step beyond the graphs."""
    hiccups: Hiccups = Hiccups()
    front: Front = field(default=Front())


_H100_HICCUPS = Hiccups(
    share=0.032,
    tail=((1.0, 0.001), (0.44, 0.005), (0.27, 0.010), (0.044, 0.020), (0.005, 0.035), (0.0, 0.055)),
)
_H100_LAUNCH_HICCUPS = Hiccups(
    share=0.04, tail=((1.0, 0.008), (0.5, 0.018), (0.2, 0.035), (0.0, 0.055))
)
_H100_FRONT = Front(
    accept_s=0.0012,
    accept_per_token_s=0.35e-6,
    transit_s=0.0009,
    transit_per_token_s=0.9e-6,
    open_s=0.0012,
    open_per_token_s=1.0e-6,
    turns=10.0,
    event_s=0.000072,
    close_s=0.0015,
)

H100_8B = Profile(
    base_s=0.00646,
    per_prefill_s=22.0e-6,
    hidden_prefill=120,
    per_attention_s=1.0e-9,
    per_sequence_s=12e-6,
    per_kv_s=0.0415e-6,
    kv_tokens=464_000,
    jitter=0.02,
    plan_s=0.00025,
    plan_per_sequence_s=25e-6,
    captured=Launch(0.0108, 0.0103, 0.26, _H100_LAUNCH_HICCUPS),
    uncaptured=Launch(0.0195, 0.0170, 0.25, _H100_LAUNCH_HICCUPS),
    large=Launch(0.0240, 0.0200, 0.23, _H100_LAUNCH_HICCUPS),
    hiccups=_H100_HICCUPS,
    front=_H100_FRONT,
)
"""Llama-3.1-8B, bf16, one H100. Measured for this project; the constants are fitted to the step
logs of vLLM 0.26.0."""

_MODEST_HICCUPS = Hiccups(share=0.001, tail=((1.0, 0.02), (0.0, 0.05)))
_MODEST_FRONT = Front(
    accept_s=0.002,
    accept_per_token_s=2e-6,
    open_s=0.001,
    turns=10.0,
    event_s=0.000046,
    close_s=0.0008,
)

A100_8B = Profile(
    base_s=0.0105,
    per_prefill_s=66.5e-6,
    hidden_prefill=90,
    per_attention_s=2.9e-9,
    per_sequence_s=4.4e-6,
    per_kv_s=0.096e-6,
    kv_tokens=467_000,
    jitter=0.04,
    plan_s=0.00025,
    plan_per_sequence_s=25e-6,
    captured=Launch(0.011, 0.013, 0.25),
    uncaptured=Launch(0.021, 0.019, 0.25),
    large=Launch(0.024, 0.021, 0.25),
    hiccups=_MODEST_HICCUPS,
    front=_MODEST_FRONT,
)
"""Llama-3.1-8B, bf16, one A100-80. Source: Vidur's A100 tables (9.8 ms at 1 token, 75.6 at 1024,
275 at 4096); BLIS for the cost per sequence."""

H100_70B_TP4 = Profile(
    base_s=0.019,
    per_prefill_s=62e-6,
    hidden_prefill=83,
    per_attention_s=2.6e-9,
    per_sequence_s=6e-6,
    per_kv_s=0.037e-6,
    kv_tokens=2_050_000,
    jitter=0.04,
    plan_s=0.0003,
    plan_per_sequence_s=25e-6,
    captured=Launch(0.014, 0.016, 0.25),
    uncaptured=Launch(0.026, 0.024, 0.25),
    large=Launch(0.030, 0.026, 0.25),
    hiccups=_MODEST_HICCUPS,
    front=_MODEST_FRONT,
)
"""Llama-70B, bf16, four H100. Source: Vidur's linear operators (14.5 ms, 53.5 us a token) and an
estimate of the all-reduce and the overhead of 80 layers."""

A100_70B_TP4 = Profile(
    base_s=0.031,
    per_prefill_s=170e-6,
    hidden_prefill=80,
    per_attention_s=7e-9,
    per_sequence_s=6e-6,
    per_kv_s=0.06e-6,
    kv_tokens=2_050_000,
    jitter=0.04,
    plan_s=0.0003,
    plan_per_sequence_s=25e-6,
    captured=Launch(0.014, 0.016, 0.25),
    uncaptured=Launch(0.026, 0.024, 0.25),
    large=Launch(0.030, 0.026, 0.25),
    hiccups=_MODEST_HICCUPS,
    front=_MODEST_FRONT,
)
"""Llama-70B, bf16, four A100. Source: Vidur (25.0 ms, 160 us a token) and the same estimate."""

CPU_135M = Profile(
    base_s=0.012,
    per_prefill_s=0.0083,
    hidden_prefill=1,
    per_attention_s=0.0,
    per_sequence_s=0.0021,
    per_kv_s=0.5e-6,
    kv_tokens=16_384,
    jitter=0.05,
    hiccups=Hiccups(share=0.01, tail=((1.0, 0.002), (0.0, 0.02))),
    front=Front(accept_s=0.001, event_s=0.00003),
)
"""SmolLM2-135M Q4_1 in llama.cpp on two CPU cores: 8.4 ms a prompt token, 15 ms a token alone,
56-81 tokens/s with 1-4 slots. Measured for this project."""

STEADY = Profile(
    base_s=0.010,
    per_prefill_s=20e-6,
    hidden_prefill=0,
    per_attention_s=0.0,
    per_sequence_s=0.0,
    per_kv_s=0.0,
    kv_tokens=100_000,
)
"""No noise, no host, round numbers: 10 ms a step and 20 us a prompt token. For tests."""

PROFILES: dict[str, Profile] = {
    "h100-8b": H100_8B,
    "a100-8b": A100_8B,
    "h100-70b-tp4": H100_70B_TP4,
    "a100-70b-tp4": A100_70B_TP4,
    "cpu-135m": CPU_135M,
    "steady": STEADY,
}
