"""vLLM's HTTP: real statuses before a stream, objects for errors, everything under `vllm:`.

Source: recordings of vLLM 0.32.0; vllm/entrypoints/openai, 0.33.0.
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
from engines.emulator.spec import Vllm

VERSION = "0.33.0"
_FINGERPRINT = f"vllm-{VERSION}-emulated"
_BUSY = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a "
    "different instance."
)
_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
_SHUT = "cannot schedule new futures after shutdown"
_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    503: "Service Unavailable",
}
_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_E2E = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class VllmFace:
    """See the module."""

    quirks = Quirks(comment=b": keep-alive\n\n")
    generating: Mapping[str, Form] = {
        "/v1/chat/completions": Form.CHAT,
        "/v1/completions": Form.COMPLETION,
    }

    def read(self, path: str, headers: Headers, body: bytes, site: Site) -> Ask | Problem:
        """Read a request; whatever is wrong with it is said at once."""
        sent = _parsed(headers, body)
        if isinstance(sent, Problem):
            return sent
        form = self.generating[path]
        prompts = reading.prompts_of(sent, form)
        problem = _flaw(sent, form, site) or _length_flaw(sent, prompts[0].tokens, site)
        if problem is not None:
            return problem
        longest = _context(site) - max(prompt.tokens for prompt in prompts)
        max_tokens = reading.whole(sent, "max_completion_tokens", "max_tokens")
        if max_tokens is None:
            max_tokens = longest if form is Form.CHAT else 16
        max_tokens = min(max_tokens, longest)
        prefix = "chatcmpl-" if form is Form.CHAT else "cmpl-"
        return Ask(
            id=prefix + headers.get("x-request-id", headers.get("x-emulator-id", "")),
            form=form,
            model=str(sent.get("model") or site.model),
            stream=reading.is_true(sent, "stream"),
            usage=reading.usage_of(sent),
            prompts=prompts,
            choices=reading.whole(sent, "n") or 1,
            max_tokens=max_tokens,
            length=max_tokens if reading.is_true(sent, "ignore_eos") else None,
            priority=_priority(sent, headers),
            wants_load=headers.get("endpoint-load-metrics-format", "").upper(),
        )

    def stream_headers(self, ask: Ask, site: Site) -> tuple[tuple[str, str], ...]:
        """Return the headers of a stream."""
        return (("content-type", "text/event-stream; charset=utf-8"), *_echo(ask, site))

    def opening(self, ask: Ask, index: int, site: Site) -> Sequence[bytes]:
        """Return the chunk with the role, of a chat."""
        if ask.form is not Form.CHAT:
            return ()
        delta = {"role": "assistant", "content": ""}
        return (orjson.dumps(_chunk(ask, index, {"delta": delta}, None)),)

    def token(self, ask: Ask, index: int, site: Site, tokens: int) -> tuple[bytes, bytes]:
        """Return what stands around a token."""
        chunk = _chunk(ask, index, _said(ask, MARK), None)
        if ask.usage is Usage.ALWAYS:
            chunk["usage"] = usage(ask, (Spoken("", tokens, ""),))
        return around(chunk)

    def last(self, ask: Ask, index: int, word: str, spoken: Spoken, site: Site) -> Sequence[bytes]:
        """Return the last token's chunk, which has the finish reason."""
        return (orjson.dumps(_chunk(ask, index, _said(ask, word), spoken.reason)),)

    def ending(self, ask: Ask, spoken: Sequence[Spoken], site: Site) -> Sequence[bytes]:
        """Return the usage, where it was asked for, and the end."""
        if ask.usage is Usage.NEVER:
            return (DONE,)
        chunk = _chunk(ask, 0, {}, None) | {
            "choices": [],
            "usage": usage(ask, spoken),
            "system_fingerprint": _FINGERPRINT,
        }
        return orjson.dumps(chunk), DONE

    def whole(self, ask: Ask, spoken: Sequence[Spoken], times: Times, site: Site) -> Answer:
        """Return a whole answer."""
        choices = [_choice(ask, index, one) for index, one in enumerate(spoken)]
        counts = usage(ask, spoken)
        details = {"cached_tokens": cached(spoken)} if site.quirks.reports_cached_tokens else None
        answer = {
            "id": ask.id,
            "object": ask.form.value,
            "created": ask.created,
            "model": ask.model,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": _FINGERPRINT,
            "usage": counts | {"prompt_tokens_details": details},
            "kv_transfer_params": None,
        }
        load = {
            "named_metrics": {
                "num_requests_waiting": float(times.waiting),
                "kv_cache_usage_perc": times.kv_usage,
            }
        }
        headers = _echo(ask, site)
        if ask.wants_load == "JSON":
            told = f"JSON {orjson.dumps(load).decode()}"
            headers = (*headers, ("endpoint-load-metrics", told))
        return document(answer, headers=headers)

    def refused(self, refused: Refused, ask: Ask, site: Site) -> Problem:
        """Say why a request is not taken."""
        match refused.cause:
            case RefusalCause.TOO_LONG:
                return _too_long(ask.prompt_tokens, site)
            case RefusalCause.DRAINING:
                return Problem(500, _SHUT, "InternalServerError")
            case RefusalCause.DEAD:
                return self.failed(FailureCause.DIED)
            case RefusalCause.QUEUE_FULL | RefusalCause.OVERLOADED | RefusalCause.TOLD_TO:
                return self.told(refused.status)

    def failed(self, cause: FailureCause) -> Problem:
        """Say why an answer broke off."""
        return Problem(500, _DEAD, "InternalServerError")

    def told(self, status: int) -> Problem:
        """Say something that goes with a status."""
        message = _BUSY if status == 503 else f"emulated failure with status {status}"  # noqa: PLR2004 (HTTP)
        return Problem(status, message, _TYPES.get(status, "InternalServerError"))

    def answer(self, problem: Problem) -> Answer:
        """Return the object that OpenAI's clients know, with the status as code."""
        return document(_error(problem), problem.status)

    def event(self, problem: Problem, ask: Ask) -> Sequence[bytes]:
        """Return the same object inside a stream."""
        return orjson.dumps(_error(problem)), DONE

    def page(self, method: str, path: str, body: bytes, site: Site, told: Told) -> Answer | None:
        """Answer discovery, metrics and tokens."""
        match method, path:
            case "GET", "/health" | "/ping":
                page = Answer(200, content_type=None)
            case "GET", "/version":
                page = document({"version": VERSION})
            case "GET", "/load":
                page = document({"server_load": 0})
            case "GET", "/v1/models":
                page = document(_models(site))
            case "GET", "/metrics":
                page = Answer(200, _metrics(site, told), METRICS_TYPE)
            case "POST", "/tokenize":
                page = self._tokenize(body, site)
            case _:
                return None
        return page

    def not_found(self) -> Answer:
        """Answer as FastAPI does."""
        return document({"detail": "Not Found"}, 404)

    def histograms(self) -> dict[str, Histogram]:
        """Return vLLM's buckets."""
        return {
            "ttft": Histogram(_TTFT),
            "itl": Histogram(_ITL),
            "e2e": Histogram(_E2E),
            "queue": Histogram(_E2E),
            "prompt": Histogram(_TOKENS),
            "output": Histogram(_TOKENS),
        }

    def _tokenize(self, body: bytes, site: Site) -> Answer:
        sent = _parsed({"content-type": "application/json"}, body)
        if isinstance(sent, Problem):
            return self.answer(sent)
        said = sent.get("prompt")
        said = said if isinstance(said, str) else reading.chat_text(sent.get("messages"))
        ids = text.token_ids(said)
        strings = text.tokens(said) if reading.is_true(sent, "return_token_strs") else None
        return document(
            {
                "count": len(ids),
                "max_model_len": _context(site),
                "tokens": ids,
                "token_strs": strings,
            }
        )


def _echo(ask: Ask, site: Site) -> tuple[tuple[str, str], ...]:
    """Return the header that `--enable-request-id-headers` adds."""
    if not site.quirks.echoes_request_id:
        return ()
    return (("x-request-id", ask.id.partition("-")[2]),)


def _context(site: Site) -> int:
    knobs = site.spec.knobs
    return knobs.max_model_len if isinstance(knobs, Vllm) else 0


def _parsed(headers: Headers, body: bytes) -> Document | Problem:
    said = "1 validation error:\n  "
    if "application/json" not in headers.get("content-type", "application/json"):
        only = f"{said}Unsupported Media Type: Only 'application/json' is allowed"
        return Problem(400, only, "Bad Request")
    try:
        sent = reading.parsed(body)
    except orjson.JSONDecodeError as error:
        what = {"type": "json_invalid", "loc": f"body.{error.pos}", "msg": "JSON decode error"}
        return Problem(400, f"{said}{what}", "Bad Request", f"body.{error.pos}")
    if isinstance(sent, dict):
        return sent
    what = {
        "type": "model_attributes_type",
        "loc": "body",
        "msg": "Input should be a valid dictionary or object to extract fields from",
    }
    return Problem(400, f"{said}{what}", "Bad Request", "body")


def _flaw(sent: Document, form: Form, site: Site) -> Problem | None:
    model = sent.get("model")
    if model and model not in site.names:
        known = ", ".join(site.names)
        message = f"The model `{model}` does not exist. Valid aliases: {known}."
        return Problem(404, message, "NotFoundError", "model")
    name = "messages" if form is Form.CHAT else "prompt"
    if name not in sent:
        what = {"type": "missing", "loc": f"body.{name}", "msg": "Field required"}
        return Problem(400, f"1 validation error:\n  {what}", "Bad Request", f"body.{name}")
    if not sent[name]:
        empty = "Cannot apply chat template to an empty conversation. Provide at least one message."
        return Problem(400, empty, "BadRequestError")
    return _value_flaw(sent)


def _value_flaw(sent: Document) -> Problem | None:
    choices, temperature = reading.whole(sent, "n"), reading.number(sent, "temperature")
    message, param = "", None
    if choices is not None and choices < 1:
        message = f"n must be at least 1, got {choices}."
    elif temperature is not None and temperature < 0:
        message, param = f"temperature must be non-negative, got {temperature}.", "temperature"
    elif sent.get("stream_options") and not sent.get("stream"):
        message = "Stream options can only be defined when `stream=True`."
        param = "stream_options"
    return Problem(400, message, "BadRequestError", param) if message else None


def _length_flaw(sent: Document, prompt_tokens: int, site: Site) -> Problem | None:
    context = _context(site)
    max_tokens = reading.whole(sent, "max_completion_tokens", "max_tokens")
    if max_tokens is not None and max_tokens < 1:
        message = f"max_tokens must be at least 1, got {max_tokens}. "
        message += f"(parameter=max_tokens, value={max_tokens})"
        return Problem(400, message, "BadRequestError", "max_tokens")
    if max_tokens is not None and max_tokens > context:
        message = (
            f"max_tokens={max_tokens} cannot be greater than max_model_len={context}. Please "
            f"request fewer output tokens. (parameter=max_tokens, value={max_tokens})"
        )
        return Problem(400, message, "BadRequestError", "max_tokens")
    return _too_long(prompt_tokens, site) if prompt_tokens >= context else None


def _too_long(prompt_tokens: int, site: Site) -> Problem:
    message = (
        f"This model's maximum context length is {_context(site)} tokens. However, your prompt "
        f"contains at least {prompt_tokens} input tokens, which exceeds this limit even without "
        "any output tokens. Please reduce the length of the input prompt. "
        f"(parameter=input_tokens, value={prompt_tokens})"
    )
    return Problem(400, message, "BadRequestError", "input_tokens")


def _priority(sent: Document, headers: Headers) -> int:
    """Return the header's priority, which goes before the body's; what is no number counts not."""
    try:
        return int(headers["x-vllm-priority"])
    except (KeyError, ValueError):
        return reading.whole(sent, "priority") or 0


def _error(problem: Problem) -> dict[str, object]:
    error = {
        "message": problem.message,
        "type": problem.type,
        "param": problem.param,
        "code": problem.status,
    }
    return {"error": error}


def _said(ask: Ask, word: str) -> dict[str, object]:
    return {"delta": {"content": word}} if ask.form is Form.CHAT else {"text": word}


def _chunk(
    ask: Ask, index: int, said: Mapping[str, object], reason: str | None
) -> dict[str, object]:
    choice = {"index": index, **said, "logprobs": None, "finish_reason": reason}
    if reason is not None:
        choice["stop_reason"] = None
    name = "chat.completion.chunk" if ask.form is Form.CHAT else "text_completion"
    chunk: dict[str, object] = {
        "id": ask.id,
        "object": name,
        "created": ask.created,
        "model": ask.model,
        "choices": [choice],
    }
    return chunk


def _choice(ask: Ask, index: int, spoken: Spoken) -> dict[str, object]:
    common = {"index": index, "logprobs": None, "finish_reason": spoken.reason, "stop_reason": None}
    if ask.form is Form.CHAT:
        return {**common, "message": {"role": "assistant", "content": spoken.text}}
    return {**common, "text": spoken.text}


def _models(site: Site) -> dict[str, object]:
    cards = [
        {
            "id": name,
            "object": "model",
            "created": site.started,
            "owned_by": "vllm",
            "root": name,
            "parent": None if name == site.model else site.model,
            "max_model_len": _context(site),
        }
        for name in site.names
    ]
    return {"object": "list", "data": cards}


def _metrics(site: Site, told: Told) -> bytes:
    gauges = told.gauges
    page = Exposition(f'engine="0",model_name="{site.model}"')
    page.gauge("vllm:num_requests_running", gauges.running)
    page.gauge("vllm:num_requests_waiting", gauges.waiting)
    page.gauge("vllm:num_requests_waiting_by_reason", gauges.waiting, 'reason="capacity"')
    page.gauge("vllm:kv_cache_usage_perc", gauges.kv_usage)
    page.counter("vllm:num_preemptions_total", gauges.preemptions)
    page.counter("vllm:prompt_tokens_total", gauges.prompt_tokens + gauges.cached_tokens)
    page.counter("vllm:generation_tokens_total", gauges.generated_tokens)
    page.counter("vllm:prefix_cache_queries_total", gauges.prompt_tokens + gauges.cached_tokens)
    page.counter("vllm:prefix_cache_hits_total", gauges.cached_tokens)
    page.counter("vllm:request_success_total", gauges.finished, 'finished_reason="length"')
    page.counter("vllm:admission_rejections_total", gauges.refused, 'reason="max_num_queued_reqs"')
    page.gauge("vllm:engine_sleep_state", 1, 'sleep_state="awake"')
    page.summary("vllm:iteration_tokens_total", gauges.steps, gauges.prompt_tokens)
    block = site.spec.memory.block_tokens
    labels = f'block_size="{block}",num_gpu_blocks="{gauges.kv_capacity_tokens // block}"'
    page.gauge("vllm:cache_config_info", 1, labels)
    for name, key in (
        ("time_to_first_token_seconds", "ttft"),
        ("inter_token_latency_seconds", "itl"),
        ("e2e_request_latency_seconds", "e2e"),
        ("request_queue_time_seconds", "queue"),
        ("request_prompt_tokens", "prompt"),
        ("request_generation_tokens", "output"),
    ):
        page.histogram(f"vllm:{name}", told.histograms[key])
    return page.text()
