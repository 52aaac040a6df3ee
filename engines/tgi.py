"""TGI: predictable batching behind an OpenAI face that needs rewriting on the way in and out."""

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

import orjson

from engines import edits, exposition, faults, tgi_repairs, tgi_rewrites, usage, words
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
from engines.words import Words

# How a message begins says what happened. Source: TGI's router/src/infer/mod.rs, `InferError`
# (its spelling kept). The status says less: in a stream it is always 422.
_BEGINNINGS: Mapping[str, FaultKind] = {
    "Model is overloaded": FaultKind.BUSY,
    "Request failed during generation": FaultKind.BROKEN,
    "Incomplete generation": FaultKind.BROKEN,
    "Stream event serialization error": FaultKind.BROKEN,
    "Tool error": FaultKind.INVALID,
    "Template error": FaultKind.INVALID,
    "Missing template vatiable": FaultKind.INVALID,
    "unhealthy": FaultKind.BROKEN,
}
_VALIDATION = "Input validation error"

# Pieces of validation errors, in lower case. Source: router/src/validation.rs; server.rs.
TELLTALES: faults.Telltales = (
    ("`inputs` must have less than", FaultKind.CONTEXT_TOO_LONG),
    ("`inputs` tokens + `max_new_tokens` must be", FaultKind.CONTEXT_TOO_LONG),
    ("grammar is not supported", FaultKind.UNSUPPORTED),
    ("must have a 'properties' field", FaultKind.UNSUPPORTED),
    ("cannot compile regex from schema", FaultKind.UNSUPPORTED),
    ("modality is not supported", FaultKind.UNSUPPORTED),
    ("suffix is not supported", FaultKind.UNSUPPORTED),
    ("number of prompts exceeds", FaultKind.UNSUPPORTED),
    ("`stop` supports up to", FaultKind.UNSUPPORTED),
    ("`top_n_tokens` must be", FaultKind.UNSUPPORTED),
)

_RUNNING = "tgi_batch_current_size"
_WAITING = "tgi_queue_size"
_RESERVED = "tgi_batch_current_max_tokens"
_CAPACITY = "tgi_batch_max_total_tokens"
_STEPS = ("tgi_batch_inference_count", "tgi_batch_inference_success")
_WANTED = frozenset({_RUNNING, _WAITING, _RESERVED, _CAPACITY, *_STEPS})


class Tgi:
    """Read in the source of the last release, 3.3.7."""

    traits = Traits(
        kind=Kind.TGI,
        routes=frozenset({Route.CHAT, Route.COMPLETIONS}),
        # Tools are left out: it forces JSON, asks the model twice, and ends with `stop`.
        features=frozenset({Feature.JSON_SCHEMA, Feature.LOGPROBS, Feature.IMAGES}),
        health_path="/health",
        load_path="/metrics",
        discovery_paths=("/info",),
        keep_alive_s=60.0,  # hyper keeps idle connections; proxies in between seldom drop them sooner
        max_output_tokens=tgi_rewrites.SLICE_TOKENS,
    )

    def prepare(self, question: Question, dialect: Dialect) -> Prepared:
        """Return a body that TGI understands as OpenAI means it; the answer needs repair."""
        document = tgi_rewrites.rewritten(
            question.document, dialect.upstream_model, dialect.max_output_tokens
        )
        is_same = document == question.document
        body = question.body if is_same else orjson.dumps(document)
        return Prepared(question.route, body, repairs=True)

    def read_fault(self, status: int, body: bytes) -> Fault:
        """Read a refusal: a string and a type, or axum's plain text."""
        said = words.of_answer(status, body)
        return faults.fault(said, _kind(said))

    def read_event_fault(self, payload: bytes) -> Fault | None:
        """Read an error after the status line; its 422 stands for anything."""
        said = words.of_event(payload)
        return None if said is None else faults.fault(said, _kind(said))

    def read_usage(self, tail: bytes, *, stream: bool) -> TokenUsage | None:
        """Read the usage, or the details of the native routes."""
        return usage.read_usage(tail) or _detailed(tail)

    def repair_event(self, payload: bytes, question: Question) -> bytes:
        """Give an event an id, the model's public name and OpenAI's finish reason."""
        return tgi_repairs.repaired(payload, question)

    def repair_body(self, body: bytes, question: Question) -> bytes:
        """Give an answer an id, the model's public name and OpenAI's finish reason."""
        return tgi_repairs.repaired(body, question)

    def read_load(self, text: str) -> EngineLoad:
        """Read `/metrics`; the KV capacity is mostly missing there, and usage with it."""
        samples = exposition.read(text, _WANTED)
        reserved, capacity = samples.count(_RESERVED), samples.count(_CAPACITY)
        return EngineLoad(
            running=samples.count(_RUNNING),
            waiting=samples.count(_WAITING),
            kv_usage=None if reserved is None or not capacity else min(reserved / capacity, 1.0),
            kv_capacity_tokens=capacity,
            kv_reserved_tokens=reserved,
            progress=samples.total(*_STEPS),
        )

    def read_discovery(self, answers: Mapping[str, bytes]) -> Discovery:
        """Read the base model, the context and the permits; adapters are not told."""
        info = as_object(parsed(answers.get("/info", b"")))
        model = as_text(info.get("model_id"))
        return Discovery(
            models=(model,) if model else (),
            max_context_tokens=as_count(info.get("max_total_tokens")),
            max_in_flight=as_count(info.get("max_concurrent_requests")),
            version=as_text(info.get("version")),
        )

    def probe(self, model: str) -> Prepared:
        """Ask for one token; it passes the queue and the batcher, as `/health` does not."""
        document = {
            "model": tgi_rewrites.BASE_MODEL,
            "prompt": "a",
            "max_tokens": 1,
            "temperature": 0,
        }
        return edits.probe(Route.COMPLETIONS.value, document)


def _kind(said: Words) -> FaultKind:
    message = said.message or ""
    for beginning, kind in _BEGINNINGS.items():
        if message.startswith(beginning):
            return kind
    if message.startswith(_VALIDATION):
        said = replace(said, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return faults.usual_kind(said, TELLTALES)


def _detailed(tail: bytes) -> TokenUsage | None:
    details, _ = usage.last_object(tail, b"details", len(tail))
    output, prompt = (
        as_count(details.get("generated_tokens")),
        as_count(details.get("input_length")),
    )
    return None if output is None else TokenUsage(prompt_tokens=prompt, output_tokens=output)
