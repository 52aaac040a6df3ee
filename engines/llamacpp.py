"""llama.cpp's server: fixed slots, OpenAI's bodies as they are, any model name accepted."""

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
from engines.fields import as_count, as_object, as_text, parsed

TELLTALES: faults.Telltales = (
    ("input is not supported", FaultKind.UNSUPPORTED),  # images and audio, said with a 500
    ("field 'n': value must be between", FaultKind.UNSUPPORTED),  # more choices than slots
)

# Counters of work done; the first moves with every step, tokens only when a request ends.
_PROGRESS = ("llamacpp:n_decode_total", "llamacpp:tokens_predicted_total")
_KV_USAGE = "llamacpp:kv_cache_usage_ratio"
_RUNNING = "llamacpp:requests_processing"
_WAITING = "llamacpp:requests_deferred"
_WANTED = frozenset({*_PROGRESS, _KV_USAGE, _RUNNING, _WAITING})

# Ignored without a word, as tried on a running server.
_IGNORED = {Feature.BEST_OF, Feature.ECHO, Feature.SUFFIX, Feature.PROMPT_LOGPROBS}
# Depends on the model; `/props` tells.
_UNTOLD = {Feature.IMAGES, Feature.AUDIO, Feature.TOOL_CHOICE_REQUIRED}


class LlamaCpp:
    """Recorded from xllamacpp 2026.10."""

    traits = Traits(
        kind=Kind.LLAMACPP,
        # Its /tokenize and /detokenize take other bodies than the public ones.
        routes=frozenset(Route) - {Route.SCORE, Route.TOKENIZE, Route.DETOKENIZE},
        features=frozenset(Feature) - _IGNORED - _UNTOLD,
        health_path="/health",
        load_path="/metrics",
        discovery_paths=("/v1/models", "/props"),
        keep_alive_s=4.0,  # it says so: Keep-Alive: timeout=5
    )

    def prepare(self, question: Question, dialect: Dialect) -> Prepared:
        """Return the caller's bytes."""
        return edits.prepare(question, dialect.upstream_model)

    def read_fault(self, status: int, body: bytes) -> Fault:
        """Read a refusal: OpenAI's object, 501 for what it was not started for."""
        return _fault(words.of_answer(status, body))

    def read_event_fault(self, payload: bytes) -> Fault | None:
        """Read an error after the status line."""
        said = words.of_event(payload)
        return None if said is None else _fault(said)

    def read_usage(self, tail: bytes, *, stream: bool) -> TokenUsage | None:
        """Read the usage, or the timings that every stream ends with even without usage."""
        return usage.read_usage(tail) or _timed(tail)

    def repair_event(self, payload: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(payload, question)

    def repair_body(self, body: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(body, question)

    def read_load(self, text: str) -> EngineLoad:
        """Read `/metrics`, which is there if the server was started with `--metrics`."""
        samples = exposition.read(text, _WANTED)
        return EngineLoad(
            running=samples.count(_RUNNING),
            waiting=samples.count(_WAITING),
            kv_usage=samples.mean(_KV_USAGE),
            progress=samples.total(*_PROGRESS),
        )

    def read_discovery(self, answers: Mapping[str, bytes]) -> Discovery:
        """Read models, slots, context of one slot, and what the model can take in."""
        props = as_object(parsed(answers.get("/props", b"")))
        settings = as_object(props.get("default_generation_settings"))
        return Discovery(
            models=cards.names(cards.cards(answers.get("/v1/models"))),
            max_context_tokens=as_count(settings.get("n_ctx")),
            max_in_flight=as_count(props.get("total_slots")),
            features=_features(props) if props else None,
            version=as_text(props.get("build_info")),
        )

    def probe(self, model: str) -> Prepared:
        """Ask for one token; it takes a slot, as `/health` does not."""
        document = {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0}
        return edits.probe(Route.COMPLETIONS.value, document)


def _fault(said: words.Words) -> Fault:
    return faults.fault(said, faults.usual_kind(said, TELLTALES))


def _features(props: Mapping[str, object]) -> frozenset[Feature]:
    """Return what the server can do with this model; a tool that must be called needs a template."""
    modalities = as_object(props.get("modalities"))
    template = as_object(props.get("chat_template_caps"))
    told = {
        Feature.IMAGES: modalities.get("vision") is True,
        Feature.AUDIO: modalities.get("audio") is True,
        Feature.TOOL_CHOICE_REQUIRED: template.get("supports_tools") is not False,
    }
    return LlamaCpp.traits.features | {feature for feature, is_there in told.items() if is_there}


def _timed(tail: bytes) -> TokenUsage | None:
    timings, _ = usage.last_object(tail, b"timings", len(tail))
    fresh, cached = as_count(timings.get("prompt_n")), as_count(timings.get("cache_n"))
    output = as_count(timings.get("predicted_n"))
    if fresh is None and output is None:
        return None
    prompt = None if fresh is None else fresh + (cached or 0)
    return TokenUsage(prompt_tokens=prompt, output_tokens=output, cached_tokens=cached)
