"""The fleets and contenders that are compared, beyond the built-in ones."""

from dataclasses import replace
from typing import Any, Final

from policies.policy import LatencyPolicy
from router.simulation.contenders import CONTENDERS, Contender
from router.simulation.fleet import Fleet, read_fleet

USD_PER_HOUR: Final = 2.5
"""What one H100 is rented for, late 2026."""
_LONG: Final = {"max_model_len": 16384}
CLASSIC_TGI: Final = {
    "engine": "tgi",
    "flags": {
        "prefill_chunking": False,
        "max_batch_prefill_tokens": 8192,
        "max_total_tokens": 16384,
    },
}
CHUNKING_TGI: Final = {
    "engine": "tgi",
    "flags": {"max_batch_prefill_tokens": 4096, "max_total_tokens": 16384},
}
VLLM: Final = {"engine": "vllm", "flags": _LONG}
SGLANG: Final = {"engine": "sglang", "flags": {"context_length": 16384}}
LLAMACPP: Final = {"engine": "llamacpp", "flags": {"n_parallel": 32, "n_ctx_slot": 8192}}


def pools_of(
    predictable: dict[str, Any], throughput: dict[str, Any], counts: tuple[int, int]
) -> Fleet:
    """Return a fleet of two pools; a pool of no engine is left out."""
    pools = [
        {
            "name": name,
            "profile": name,
            "count": count,
            "usd_per_hour": USD_PER_HOUR,
            "max_in_flight": slots,
            **engine,
        }
        for name, engine, count, slots in (
            ("predictable", predictable, counts[0], 128),
            ("throughput", throughput, counts[1], 256),
        )
        if count
    ]
    return read_fleet("a fleet of the benchmark", {"pools": pools})


def told_class(name: str) -> Contender:
    """Return a contender that tells engines with priorities of their own the class."""
    return replace(CONTENDERS[name], name=f"{name}, class told", tells_class=True)


def with_prior(contender: Contender, factor: float) -> Contender:
    """Return a contender whose predictions start from times that are `factor` times as long."""
    latency: LatencyPolicy = contender.policy.latency
    wrong = replace(
        latency,
        step_s=factor * latency.step_s,
        prefill_s_per_token=factor * latency.prefill_s_per_token,
        s_per_sequence=factor * latency.s_per_sequence,
        s_per_kv_token=factor * latency.s_per_kv_token,
    )
    return replace(contender, policy=replace(contender.policy, latency=wrong))
