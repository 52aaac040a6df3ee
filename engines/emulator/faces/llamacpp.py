"""llama.cpp's HTTP: any model name is served, a stream begins with its first token.

A caller who leaves before a whole answer does not free the slot.
Source: recordings of a live server (xllamacpp 2026.10).
"""

from collections.abc import Mapping, Sequence

import orjson

from engines.emulator import text
from engines.emulator.faces import reading
from engines.emulator.faces.exposition import Exposition
from engines.emulator.faces.face import DONE, MARK, Headers, around, cached, usage
from engines.emulator.faces.reading import Document
from engines.emulator.faces.words import (
    Answer,
    Ask,
    Form,
    Histogram,
    Problem,
    Quirks,
    Site,
    Spoken,
    Times,
    Told,
    Usage,
    document,
)
from engines.emulator.jobs import FailureCause, RefusalCause, Refused
from engines.emulator.spec import LlamaCpp

_FINGERPRINT = "b0-emulated"
_INVALID = "invalid_request_error"
_UNBOUNDED = 1 << 30


class LlamaCppFace:
    """See the module."""

    quirks = Quirks(status_with_first_token=True, runs_on_without_stream=True)
    generating: Mapping[str, Form] = {
        "/v1/chat/completions": Form.CHAT,
        "/chat/completions": Form.CHAT,
        "/v1/completions": Form.COMPLETION,
    }

    def read(self, path: str, headers: Headers, body: bytes, site: Site) -> Ask | Problem:
        """Read a request."""
        form = self.generating[path]
        sent = _parsed(body, form)
        if isinstance(sent, Problem):
            return sent
        prompts = reading.prompts_of(sent, form)
        context = _knobs(site).n_ctx_slot
        if prompts[0].tokens >= context:
            return _too_long(prompts[0].tokens, site)
        max_tokens = reading.whole(sent, "max_completion_tokens", "max_tokens", "n_predict")
        if max_tokens is not None and max_tokens < 0:
            max_tokens = None
        ends = not reading.is_true(sent, "ignore_eos")
        return Ask(
            id=f"chatcmpl-{headers.get('x-emulator-id', '')}",
            form=form,
            model=str(sent.get("model") or site.model),
            stream=reading.is_true(sent, "stream"),
            usage=reading.usage_of(sent),
            prompts=prompts,
            choices=reading.whole(sent, "n") or 1,
            max_tokens=max_tokens or None,
            length=None if ends else max_tokens or _UNBOUNDED,
        )

    def stream_headers(self, ask: Ask, site: Site) -> tuple[tuple[str, str], ...]:
        """Return the headers of a stream."""
        return (
            ("server", "llama.cpp"),
            ("x-accel-buffering", "no"),
            ("content-type", "text/event-stream"),
        )

    def opening(self, ask: Ask, index: int, site: Site) -> Sequence[bytes]:
        """Return the chunk with the role, of a chat."""
        if ask.form is not Form.CHAT:
            return ()
        delta = {"role": "assistant", "content": None}
        return (orjson.dumps(_chunk(ask, index, {"delta": delta}, None)),)

    def token(self, ask: Ask, index: int, site: Site, tokens: int) -> tuple[bytes, bytes]:
        """Return what stands around a token."""
        return around(_chunk(ask, index, _said(ask, MARK), None))

    def last(self, ask: Ask, index: int, word: str, spoken: Spoken, site: Site) -> Sequence[bytes]:
        """Return the last token, and a chunk for the finish reason alone."""
        nothing: dict[str, object] = {"delta": {}} if ask.form is Form.CHAT else {"text": ""}
        said = orjson.dumps(_chunk(ask, index, _said(ask, word), None))
        return said, orjson.dumps(_chunk(ask, index, nothing, spoken.reason))

    def ending(self, ask: Ask, spoken: Sequence[Spoken], site: Site) -> Sequence[bytes]:
        """Return the usage, where it was asked for, and the end."""
        if ask.usage is Usage.NEVER:
            return (DONE,)
        chunk = _chunk(ask, 0, {}, None)
        counts = _usage(ask, spoken)
        return orjson.dumps(chunk | {"choices": [], "usage": counts}), DONE

    def whole(self, ask: Ask, spoken: Sequence[Spoken], times: Times, site: Site) -> Answer:
        """Return a whole answer."""
        output = sum(one.tokens for one in spoken)
        generated_s = max(1e-6, times.total_s - times.first_token_s)
        prompt_s = max(1e-6, times.first_token_s - times.queued_s)
        fresh = ask.prompt_tokens - cached(spoken)
        answer = {
            "choices": [_choice(ask, index, one) for index, one in enumerate(spoken)],
            "created": ask.created,
            "model": ask.model,
            "system_fingerprint": _FINGERPRINT,
            "object": ask.form.value,
            "usage": _usage(ask, spoken),
            "id": ask.id,
            "timings": {
                "cache_n": cached(spoken),
                "prompt_n": fresh,
                "prompt_ms": 1e3 * prompt_s,
                "prompt_per_second": fresh / prompt_s,
                "predicted_n": output,
                "predicted_ms": 1e3 * generated_s,
                "predicted_per_second": output / generated_s,
            },
        }
        return _served(document(answer))

    def refused(self, refused: Refused, ask: Ask, site: Site) -> Problem:
        """Say why a request is not taken."""
        if refused.cause is RefusalCause.TOO_LONG:
            return _too_long(ask.prompt_tokens, site)
        return self.told(refused.status)

    def failed(self, cause: FailureCause) -> Problem:
        """Say why an answer broke off."""
        return Problem(500, "Compute error.", "server_error")

    def told(self, status: int) -> Problem:
        """Say something that goes with a status."""
        kind = "unavailable_error" if status == 503 else "server_error"  # noqa: PLR2004 (HTTP)
        return Problem(status, f"emulated failure with status {status}", kind)

    def answer(self, problem: Problem) -> Answer:
        """Return the error's object."""
        return _served(document({"error": _error(problem)}, problem.status))

    def event(self, problem: Problem, ask: Ask) -> Sequence[bytes]:
        """Return the same object inside a stream."""
        return orjson.dumps({"error": _error(problem)}), DONE

    def page(self, method: str, path: str, body: bytes, site: Site, told: Told) -> Answer | None:
        """Answer discovery, metrics, slots and tokens."""
        match method, path:
            case "GET", "/health" | "/v1/health":
                page = document({"status": "ok"})
            case "GET", "/v1/models" | "/models":
                page = document(_models(site))
            case "GET", "/props":
                page = document(_props(site))
            case "GET", "/slots":
                page = document(_slots(site, told))
            case "GET", "/metrics":
                page = Answer(200, _metrics(told), "text/plain; version=0.0.4")
            case "POST", "/tokenize":
                page = _tokenize(body)
            case _:
                return None
        return _served(page)

    def not_found(self) -> Answer:
        """Answer with the error's object."""
        return self.answer(Problem(404, "File Not Found", "not_found_error"))

    def histograms(self) -> dict[str, Histogram]:
        """Return none to speak of: llama.cpp has no histograms."""
        names = ("ttft", "itl", "e2e", "queue", "prompt", "output")
        return {name: Histogram(()) for name in names}


def _knobs(site: Site) -> LlamaCpp:
    return site.spec.knobs if isinstance(site.spec.knobs, LlamaCpp) else LlamaCpp()


def _served(answer: Answer) -> Answer:
    headers = (("server", "llama.cpp"), *answer.headers)
    return Answer(answer.status, answer.body, answer.content_type, headers)


def _parsed(body: bytes, form: Form) -> Document | Problem:
    name = "messages" if form is Form.CHAT else "prompt"
    try:
        sent = reading.parsed(body)
    except orjson.JSONDecodeError as error:
        message = (
            f"[json.exception.parse_error.101] parse error at line {error.lineno}, column "
            f"{error.colno}: syntax error while parsing value"
        )
        return Problem(400, message, _INVALID)
    if isinstance(sent, dict) and name in sent:
        return sent
    return Problem(400, f"'{name}' is required", _INVALID)


def _too_long(prompt_tokens: int, site: Site) -> Problem:
    message = (
        f"request ({prompt_tokens} tokens) exceeds the available context size "
        f"({_knobs(site).n_ctx_slot} tokens), try increasing it"
    )
    return Problem(400, message, "exceed_context_size_error")


def _error(problem: Problem) -> dict[str, object]:
    return {"code": problem.status, "message": problem.message, "type": problem.type}


def _usage(ask: Ask, spoken: Sequence[Spoken]) -> dict[str, object]:
    return usage(ask, spoken) | {"prompt_tokens_details": {"cached_tokens": cached(spoken)}}


def _said(ask: Ask, word: str) -> dict[str, object]:
    return {"delta": {"content": word}} if ask.form is Form.CHAT else {"text": word}


def _chunk(
    ask: Ask, index: int, said: Mapping[str, object], reason: str | None
) -> dict[str, object]:
    return {
        "choices": [{"finish_reason": reason, "index": index, **said}],
        "created": ask.created,
        "id": ask.id,
        "model": ask.model,
        "system_fingerprint": _FINGERPRINT,
        "object": "chat.completion.chunk" if ask.form is Form.CHAT else "text_completion",
    }


def _choice(ask: Ask, index: int, spoken: Spoken) -> dict[str, object]:
    said: dict[str, object] = {"text": spoken.text}
    if ask.form is Form.CHAT:
        said = {"message": {"role": "assistant", "content": spoken.text}}
    return {"finish_reason": spoken.reason, "index": index, **said}


def _models(site: Site) -> dict[str, object]:
    card = {
        "id": site.model,
        "aliases": [site.model],
        "object": "model",
        "created": site.started,
        "owned_by": "llamacpp",
        "meta": {"n_ctx": _knobs(site).n_ctx_slot, "n_ctx_train": 8192},
    }
    return {"object": "list", "data": [card]}


def _props(site: Site) -> dict[str, object]:
    knobs = _knobs(site)
    return {
        "default_generation_settings": {"n_ctx": knobs.n_ctx_slot},
        "total_slots": knobs.n_parallel,
        "model_alias": site.model,
        "model_path": f"{site.model}.gguf",
        "modalities": {"vision": False, "video": False, "audio": False},
        "chat_template_caps": {"supports_tools": False},
        "build_info": _FINGERPRINT,
    }


def _slots(site: Site, told: Told) -> list[dict[str, object]]:
    knobs = _knobs(site)
    return [
        {"id": index, "n_ctx": knobs.n_ctx_slot, "is_processing": index < told.gauges.running}
        for index in range(knobs.n_parallel)
    ]


def _metrics(told: Told) -> bytes:
    gauges = told.gauges
    page = Exposition()
    page.counter("llamacpp:prompt_tokens_total", gauges.prompt_tokens)
    page.counter("llamacpp:prompt_tokens_cached_total", gauges.cached_tokens)
    page.counter("llamacpp:tokens_predicted_total", gauges.generated_tokens)
    page.counter("llamacpp:n_decode_total", gauges.steps)
    page.gauge("llamacpp:requests_processing", gauges.running)
    page.gauge("llamacpp:requests_deferred", gauges.waiting)
    busy = gauges.generated_tokens / gauges.steps if gauges.steps else 0.0
    page.gauge("llamacpp:n_busy_slots_per_decode", busy)
    return page.text()


def _tokenize(body: bytes) -> Answer:
    try:
        sent = reading.parsed(body)
    except orjson.JSONDecodeError:
        sent = {}
    said = sent.get("content") if isinstance(sent, dict) else ""
    return document({"tokens": text.token_ids(str(said))})
