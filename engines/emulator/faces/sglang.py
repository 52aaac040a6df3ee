"""SGLang's HTTP: a full queue is 200 and an event, errors are flat objects, health asks for a token.

Source: sglang/srt/entrypoints, 0.5.23.
"""

from collections.abc import Mapping, Sequence

import orjson

from engines.emulator import text
from engines.emulator.faces import reading
from engines.emulator.faces.exposition import METRICS_TYPE, Exposition
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
from engines.emulator.spec import Sglang

VERSION = "0.5.23"
_QUEUE_FULL = Problem(503, "The request queue is full.", "ServiceUnavailableError")
_EVICTED = "The request is aborted by a higher priority request."
_STREAM_TYPES = {400: "BAD_REQUEST", 500: "INTERNAL_SERVER_ERROR", 503: "SERVICE_UNAVAILABLE"}
_TYPES = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


class SglangFace:
    """See the module."""

    quirks = Quirks(early_status=True, status_with_first_token=True, health_generates=True)
    generating: Mapping[str, Form] = {
        "/v1/chat/completions": Form.CHAT,
        "/v1/completions": Form.COMPLETION,
    }

    def read(self, path: str, headers: Headers, body: bytes, site: Site) -> Ask | Problem:
        """Read a request; wrong values are real 400s, in streams too."""
        form = self.generating[path]
        sent = _parsed(body, form)
        if isinstance(sent, Problem):
            return sent
        prompts = reading.prompts_of(sent, form)
        max_tokens = reading.whole(sent, "max_completion_tokens", "max_tokens")
        if max_tokens is None and form is Form.COMPLETION:
            max_tokens = 16
        problem = _flaw(sent, prompts[0].tokens, max_tokens, site)
        if problem is not None:
            return problem
        left = _knobs(site).context_length - max(prompt.tokens for prompt in prompts)
        max_tokens = left if max_tokens is None else max_tokens
        return Ask(
            id=headers.get("x-emulator-id", ""),
            form=form,
            model=str(sent.get("model") or site.model),
            stream=reading.is_true(sent, "stream"),
            usage=reading.usage_of(sent),
            prompts=prompts,
            choices=reading.whole(sent, "n") or 1,
            max_tokens=max_tokens,
            length=max_tokens if reading.is_true(sent, "ignore_eos") else None,
            priority=_priority(sent, headers, site),
        )

    def stream_headers(self, ask: Ask, site: Site) -> tuple[tuple[str, str], ...]:
        """Return the headers of a stream."""
        return (("content-type", "text/event-stream"),)

    def opening(self, ask: Ask, index: int, site: Site) -> Sequence[bytes]:
        """Return the chunk with the role, of a chat."""
        if ask.form is not Form.CHAT:
            return ()
        return (orjson.dumps(_chunk(ask, index, "", None, role="assistant")),)

    def token(self, ask: Ask, index: int, site: Site, tokens: int) -> tuple[bytes, bytes]:
        """Return what stands around a token."""
        chunk = _chunk(ask, index, MARK, None)
        if ask.usage is Usage.ALWAYS:
            chunk["usage"] = usage(ask, (Spoken("", tokens, ""),))
        return around(chunk)

    def last(self, ask: Ask, index: int, word: str, spoken: Spoken, site: Site) -> Sequence[bytes]:
        """Return the last token and, for a chat, a chunk for the finish reason alone."""
        if ask.form is not Form.CHAT:
            return (orjson.dumps(_chunk(ask, index, word, spoken.reason)),)
        said = orjson.dumps(_chunk(ask, index, word, None))
        return said, orjson.dumps(_chunk(ask, index, None, spoken.reason))

    def ending(self, ask: Ask, spoken: Sequence[Spoken], site: Site) -> Sequence[bytes]:
        """Return the usage, where it was asked for, and the end."""
        if ask.usage is Usage.NEVER:
            return (DONE,)
        chunk = _chunk(ask, 0, None, None) | {"choices": [], "usage": _usage(ask, spoken, site)}
        return orjson.dumps(chunk), DONE

    def whole(self, ask: Ask, spoken: Sequence[Spoken], times: Times, site: Site) -> Answer:
        """Return a whole answer."""
        return document(
            {
                "id": ask.id,
                "object": ask.form.value,
                "created": ask.created,
                "model": ask.model,
                "choices": [_choice(ask, index, one) for index, one in enumerate(spoken)],
                "usage": _usage(ask, spoken, site),
                "metadata": {"weight_version": "default"},
            }
        )

    def refused(self, refused: Refused, ask: Ask, site: Site) -> Problem:
        """Say why a request is not taken."""
        if refused.cause is RefusalCause.QUEUE_FULL:
            return _QUEUE_FULL
        if refused.cause is RefusalCause.TOO_LONG:
            return _too_long(ask.prompt_tokens, ask.max_tokens or 0, site)
        return self.told(refused.status)

    def failed(self, cause: FailureCause) -> Problem:
        """Say why an answer broke off."""
        if cause is FailureCause.EVICTED:
            return Problem(503, _EVICTED, "ServiceUnavailableError")
        return Problem(500, "Generation aborted.", "InternalServerError")

    def told(self, status: int) -> Problem:
        """Say something that goes with a status."""
        if status == _QUEUE_FULL.status:
            return _QUEUE_FULL
        message = f"emulated failure with status {status}"
        return Problem(status, message, _TYPES.get(status, "InternalServerError"))

    def answer(self, problem: Problem) -> Answer:
        """Return a flat object, or the status's words as FastAPI says them."""
        if problem.is_text:
            return document({"detail": problem.message}, problem.status)
        return document({"object": "error", **_error(problem, problem.type)}, problem.status)

    def event(self, problem: Problem, ask: Ask) -> Sequence[bytes]:
        """Return the object, wrapped, inside a stream."""
        kind = _STREAM_TYPES.get(problem.status, "INTERNAL_SERVER_ERROR")
        return orjson.dumps({"error": {"object": "error", **_error(problem, kind)}}), DONE

    def page(self, method: str, path: str, body: bytes, site: Site, told: Told) -> Answer | None:
        """Answer discovery, load, metrics and tokens."""
        match method, path:
            case "GET", "/health" | "/health_generate" | "/ready" | "/ping":
                page = Answer(200, content_type=None)
            case "GET", "/v1/models":
                page = document(
                    {"object": "list", "data": [_card(name, site) for name in site.names]}
                )
            case "GET", "/server_info" | "/get_server_info":
                page = document(_server_info(site, told))
            case "GET", "/v1/loads":
                page = document(_loads(told))
            case "GET", "/metrics":
                page = Answer(200, _metrics(site, told), METRICS_TYPE)
            case "POST", "/tokenize" | "/v1/tokenize":
                page = _tokenize(body, site)
            case _:
                return None
        return page

    def not_found(self) -> Answer:
        """Answer as FastAPI does."""
        return document({"detail": "Not Found"}, 404)

    def histograms(self) -> dict[str, Histogram]:
        """Return SGLang's buckets."""
        names = ("ttft", "itl", "e2e", "queue", "prompt", "output")
        return {name: Histogram(_SECONDS) for name in names}


def _knobs(site: Site) -> Sglang:
    return site.spec.knobs if isinstance(site.spec.knobs, Sglang) else Sglang()


def _parsed(body: bytes, form: Form) -> Document | Problem:
    name = "messages" if form is Form.CHAT else "prompt"
    try:
        sent = reading.parsed(body)
    except orjson.JSONDecodeError as error:
        return Problem(400, f"There was an error parsing the body: {error.msg}", is_text=True)
    if isinstance(sent, dict) and sent.get(name):
        return sent
    return Problem(400, f"1 validation error: body.{name}: Field required", "Bad Request")


def _flaw(sent: Document, prompt_tokens: int, max_tokens: int | None, site: Site) -> Problem | None:
    temperature = reading.number(sent, "temperature")
    if temperature is not None and temperature < 0:
        message = f"temperature must be non-negative, got {temperature}."
        return Problem(400, message, "BadRequestError")
    if max_tokens is not None and max_tokens < 1:
        return Problem(400, f"max_tokens must be at least 1, got {max_tokens}.", "BadRequestError")
    if prompt_tokens + (max_tokens or 1) > _knobs(site).context_length:
        return _too_long(prompt_tokens, max_tokens or 0, site)
    return None


def _too_long(prompt_tokens: int, max_tokens: int, site: Site) -> Problem:
    context = _knobs(site).context_length
    message = (
        f"Requested token count exceeds the model's maximum context length of {context} tokens. "
        f"You requested a total of {prompt_tokens + max_tokens} tokens: {prompt_tokens} tokens "
        f"from the input messages and {max_tokens} tokens for the completion."
    )
    if prompt_tokens >= context:
        message = (
            f"The input ({prompt_tokens} tokens) is longer than the model's context length "
            f"({context} tokens)."
        )
    return Problem(400, message, "BadRequestError")


def _priority(sent: Document, headers: Headers, site: Site) -> int:
    """Return the priority; unset, it is the lowest there is."""
    try:
        return int(headers["x-override-priority"])
    except (KeyError, ValueError):
        pass
    priority = reading.whole(sent, "priority")
    if priority is not None:
        return priority
    return 1 << 30 if _knobs(site).schedule_low_priority_values_first else -(1 << 30)


def _error(problem: Problem, kind: str) -> dict[str, object]:
    return {
        "message": problem.message,
        "type": kind,
        "param": problem.param,
        "code": problem.status,
    }


def _usage(ask: Ask, spoken: Sequence[Spoken], site: Site) -> dict[str, object]:
    hit = cached(spoken)
    details = {"cached_tokens": hit} if site.quirks.reports_cached_tokens or hit else None
    return usage(ask, spoken) | {"prompt_tokens_details": details, "reasoning_tokens": 0}


def _chunk(
    ask: Ask, index: int, word: str | None, reason: str | None, role: str | None = None
) -> dict[str, object]:
    choice: dict[str, object] = {"index": index}
    if ask.form is Form.CHAT:
        delta = {"role": role, "content": word, "reasoning_content": None, "tool_calls": None}
        choice["delta"] = delta
    else:
        choice["text"] = word
    return {
        "id": ask.id,
        "object": "chat.completion.chunk" if ask.form is Form.CHAT else "text_completion",
        "created": ask.created,
        "model": ask.model,
        "choices": [{**choice, "logprobs": None, "finish_reason": reason, "matched_stop": None}],
        "usage": None,
    }


def _choice(ask: Ask, index: int, spoken: Spoken) -> dict[str, object]:
    common = {"logprobs": None, "finish_reason": spoken.reason, "matched_stop": None}
    if ask.form is Form.CHAT:
        message = {
            "role": "assistant",
            "content": spoken.text,
            "reasoning_content": None,
            "tool_calls": None,
        }
        return {"index": index, "message": message, **common}
    return {"index": index, "text": spoken.text, **common}


def _card(name: str, site: Site) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": site.started,
        "owned_by": "sglang",
        "root": name,
        "parent": None if name == site.model else site.model,
        "max_model_len": _knobs(site).context_length if name == site.model else None,
    }


def _server_info(site: Site, told: Told) -> dict[str, object]:
    knobs = _knobs(site)
    return {
        "model_path": site.model,
        "context_length": knobs.context_length,
        "max_running_requests": knobs.max_running_requests,
        "max_queued_requests": knobs.max_queued_requests,
        "enable_priority_scheduling": knobs.enable_priority_scheduling,
        "dp_size": 1,
        "status": "ready",
        "max_total_num_tokens": told.gauges.kv_capacity_tokens,
        "max_req_input_len": knobs.context_length - 6,
        "internal_states": [{"effective_max_running_requests_per_dp": knobs.max_running_requests}],
        "version": VERSION,
    }


def _loads(told: Told) -> dict[str, object]:
    gauges = told.gauges
    load = {
        "dp_rank": 0,
        "num_running_reqs": gauges.running,
        "num_waiting_reqs": gauges.waiting,
        "num_waiting_uncached_tokens": 0,
        "num_used_tokens": gauges.kv_used_tokens,
        "num_total_tokens": gauges.kv_used_tokens,
        "max_total_num_tokens": gauges.kv_capacity_tokens,
        "max_running_requests": gauges.max_running,
        "token_usage": gauges.kv_usage,
        "total_prefill_uncached_tokens": gauges.prompt_tokens,
    }
    return {"version": VERSION, "num_accelerators": 1, "loads": [load]}


def _metrics(site: Site, told: Told) -> bytes:
    gauges = told.gauges
    page = Exposition(f'engine_type="unified",model_name="{site.model}",tp_rank="0"')
    page.gauge("sglang:num_running_reqs", gauges.running)
    page.gauge("sglang:num_queue_reqs", gauges.waiting)
    page.gauge("sglang:num_used_tokens", gauges.kv_used_tokens)
    page.gauge("sglang:token_usage", gauges.kv_usage)
    page.gauge("sglang:max_total_num_tokens", gauges.kv_capacity_tokens)
    page.counter("sglang:num_retracted_reqs_total", gauges.preemptions)
    page.counter("sglang:prompt_tokens_total", gauges.prompt_tokens + gauges.cached_tokens)
    page.counter("sglang:generation_tokens_total", gauges.generated_tokens)
    page.counter("sglang:num_aborted_requests_total", gauges.aborted)
    for name, key in (
        ("time_to_first_token_seconds", "ttft"),
        ("inter_token_latency_seconds", "itl"),
        ("e2e_request_latency_seconds", "e2e"),
        ("queue_time_seconds", "queue"),
    ):
        page.histogram(f"sglang:{name}", told.histograms[key])
    return page.text()


def _tokenize(body: bytes, site: Site) -> Answer:
    try:
        sent = reading.parsed(body)
    except orjson.JSONDecodeError:
        sent = {}
    said = sent.get("prompt") if isinstance(sent, dict) else ""
    ids = text.token_ids(str(said))
    return document(
        {"tokens": ids, "count": len(ids), "max_model_len": _knobs(site).context_length}
    )
