"""vLLM: takes OpenAI's bodies as they are, and orders by priority if it was started so."""

from collections.abc import Mapping

from engines import cards, edits, exposition, faults, usage, words
from engines.engine import (
    Dialect,
    Discovery,
    EngineLoad,
    Fault,
    FaultKind,
    Feature,
    Kind,
    Prepared,
    Question,
    Route,
    TokenUsage,
    Traits,
)
from engines.exposition import Sample, Samples
from engines.fields import as_object, as_text, parsed

TELLTALES: faults.Telltales = (
    ("tool choice requires --enable-auto-tool-choice", FaultKind.UNSUPPORTED),
    ("is not a multimodal model", FaultKind.UNSUPPORTED),
    ("is not currently supported", FaultKind.UNSUPPORTED),
    ("the model does not support", FaultKind.UNSUPPORTED),
)

_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
_STEPS = "vllm:iteration_tokens_total_count"
_TOKENS = ("vllm:generation_tokens_total", "vllm:generation_tokens")
_PREEMPTIONS = ("vllm:num_preemptions_total", "vllm:num_preemptions")
_LORAS = "vllm:lora_requests_info"
_CACHE = "vllm:cache_config_info"
_WANTED = frozenset(
    {_RUNNING, _WAITING, *_KV_USAGE, _STEPS, *_TOKENS, *_PREEMPTIONS, _LORAS, _CACHE}
)

_TRAITS = Traits(
    kind=Kind.VLLM,
    routes=frozenset(Route),
    # `best_of` is ignored, `suffix` refused.
    features=frozenset(Feature) - {Feature.BEST_OF, Feature.SUFFIX},
    health_path="/health",
    load_path="/metrics",
    discovery_paths=("/v1/models", "/version"),
    keep_alive_s=4.0,  # uvicorn closes after 5
)


class Vllm:
    """Read in 0.33.0 and recorded from 0.32.0; older metric names are understood too."""

    def __init__(self) -> None:
        self.traits = _TRAITS

    def prepare(self, question: Question, dialect: Dialect) -> Prepared:
        """Return the caller's bytes; priority travels in a header, which beats the body's.

        Priority is 8 x class + urgency, 0 (interactive, most urgent) to 23, and lower is sooner.
        """
        if not dialect.honours_priority:
            return edits.prepare(question, dialect.upstream_model)
        priority = b"%d" % (question.sla_rank * 8 + question.urgency)
        headers = ((b"x-vllm-priority", priority),)
        return edits.prepare(question, dialect.upstream_model, headers=headers)

    def read_fault(self, status: int, body: bytes) -> Fault:
        """Read a refusal: mostly OpenAI's object, FastAPI's `detail` for missing routes."""
        said = words.of_answer(status, body)
        return faults.fault(said, faults.usual_kind(said, TELLTALES))

    def read_event_fault(self, payload: bytes) -> Fault | None:
        """Read an error after the status line: `{"error": {…, "code": 500}}`."""
        said = words.of_event(payload)
        return None if said is None else faults.fault(said, faults.usual_kind(said, TELLTALES))

    def read_usage(self, tail: bytes, *, stream: bool) -> TokenUsage | None:
        """Read the usage; a stream has it where the caller or the server asked for it."""
        return usage.read_usage(tail)

    def repair_event(self, payload: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(payload, question)

    def repair_body(self, body: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(body, question)

    def read_load(self, text: str) -> EngineLoad:
        """Read `/metrics`; data-parallel engines behind one address are added up."""
        samples = exposition.read(text, _WANTED)
        return EngineLoad(
            running=samples.count(_RUNNING),
            waiting=samples.count(_WAITING),
            kv_usage=samples.mean(*_KV_USAGE),
            kv_capacity_tokens=_capacity_tokens(samples),
            progress=samples.total(_STEPS, *_TOKENS),
            preemptions=samples.total(*_PREEMPTIONS),
            running_loras=_running_loras(samples),
        )

    def read_discovery(self, answers: Mapping[str, bytes]) -> Discovery:
        """Read models (adapters among them), context and version."""
        found = cards.cards(answers.get("/v1/models"))
        version = as_object(parsed(answers.get("/version", b"")))
        return Discovery(
            models=cards.names(found),
            max_context_tokens=cards.context_tokens(found),
            version=as_text(version.get("version")),
        )

    def probe(self, model: str) -> Prepared:
        """Ask for one token; it passes the queue and the scheduler, as `/health` does not."""
        document = {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0}
        return edits.probe(Route.COMPLETIONS.value, document)


def _capacity_tokens(samples: Samples) -> int | None:
    capacities = [_capacity_of(sample) for sample in samples.of(_CACHE)]
    told = [capacity for capacity in capacities if capacity is not None]
    return sum(told) if told else None


def _capacity_of(sample: Sample) -> int | None:
    """Read an engine's KV cache size from its configuration; older versions tell it in blocks."""
    labels = sample.labels
    tokens = labels.get("kv_cache_size_tokens", "")
    if tokens.isdecimal():
        return int(tokens)
    block, blocks = labels.get("block_size", ""), labels.get("num_gpu_blocks", "")
    return int(block) * int(blocks) if block.isdecimal() and blocks.isdecimal() else None


def _running_loras(samples: Samples) -> frozenset[str]:
    """Return the adapters in use; the value is a timestamp, and stale lines stay beside the last."""
    latest = max(samples.of(_LORAS), key=lambda sample: sample.value, default=None)
    names = latest.labels.get("running_lora_adapters", "") if latest else ""
    return frozenset(name.strip() for name in names.split(",") if name.strip())
