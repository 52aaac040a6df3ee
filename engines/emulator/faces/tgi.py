"""TGI's HTTP: 200 before anything was checked, 422 for everything in a stream, strict bodies.

Errors are an object whose `error` is a string, or plain text where the body did not parse.
Source: router/src/{server,lib,validation}.rs at db931fc.
"""

from collections.abc import Mapping, Sequence

import orjson

from engines.emulator import text
from engines.emulator.faces import reading
from engines.emulator.faces.exposition import Exposition
from engines.emulator.faces.face import DONE, MARK, Headers, around, usage
from engines.emulator.faces.reading import Document
from engines.emulator.faces.tgi_types import type_flaw
from engines.emulator.faces.words import (
    Answer,
    Ask,
    Form,
    Histogram,
    Problem,
    Prompt,
    Quirks,
    Site,
    Spoken,
    Times,
    Told,
    Usage,
    document,
)
from engines.emulator.jobs import FailureCause, RefusalCause, Refused
from engines.emulator.spec import Tgi

_FINGERPRINT = "3.3.6-dev0-emulated"
_OVERLOADED = Problem(429, "Model is overloaded", "overloaded")
_STREAMED_STATUS = 422
"""What every in-stream error of the OpenAI routes says, whatever happened."""
_DURATIONS = tuple(0.0001 * 1.5**power for power in range(1, 36))
_MOST_STOPS = 4
_MOST_TOP_TOKENS = 5
_MOST_PROMPTS = 4


class TgiFace:
    """See the module."""

    quirks = Quirks(
        early_status=True,
        strict_types=True,
        comment_interval_s=15.0,
        health_waits_for_step=True,
        body_limit=2_000_000,
    )
    generating: Mapping[str, Form] = {
        "/v1/chat/completions": Form.CHAT,
        "/v1/completions": Form.COMPLETION,
        "/generate": Form.NATIVE,
        "/generate_stream": Form.NATIVE,
    }

    def read(self, path: str, headers: Headers, body: bytes, site: Site) -> Ask | Problem:
        """Read a request. What validation finds is told only where a stream would tell it."""
        if site.quirks.body_limit is not None and len(body) > site.quirks.body_limit:
            too_long = "Failed to buffer the request body: length limit exceeded"
            return Problem(413, too_long, is_text=True)
        form = self.generating[path]
        sent = _parsed(headers, body, form, site)
        if isinstance(sent, Problem):
            return sent
        parameters = sent.get("parameters") if form is Form.NATIVE else sent
        parameters = parameters if isinstance(parameters, dict) else {}
        prompts = reading.prompts_of(sent, form)
        model = sent.get("model") or site.model
        most = reading.whole(parameters, "max_new_tokens", "max_tokens", "max_completion_tokens")
        return Ask(
            id=headers.get("x-emulator-id", ""),
            form=form,
            model=site.model if model == "tgi" else str(model),
            stream=path == "/generate_stream" or reading.is_true(sent, "stream"),
            usage=reading.usage_of(sent),
            prompts=prompts,
            max_tokens=100 if most is None and form is Form.NATIVE else most,
            characters=reading.characters(sent, form),
            details=reading.is_true(parameters, "details"),
            flaw=_flaw(parameters, form, len(prompts)) or _length_flaw(most, prompts, site),
        )

    def stream_headers(self, ask: Ask, site: Site) -> tuple[tuple[str, str], ...]:
        """Return the headers of a stream."""
        return (
            ("content-type", "text/event-stream"),
            ("x-compute-type", "gpu+optimized"),
            ("x-compute-characters", str(ask.characters)),
            ("x-accel-buffering", "no"),
            ("cache-control", "no-cache"),
        )

    def opening(self, ask: Ask, index: int, site: Site) -> Sequence[bytes]:
        """Return nothing: every chunk has the role."""
        return ()

    def token(self, ask: Ask, index: int, site: Site, tokens: int) -> tuple[bytes, bytes]:
        """Return what stands around a token."""
        if ask.form is Form.NATIVE:
            return around(_native(tokens, MARK, None, None))
        middle = None if ask.form is Form.CHAT else ""
        return around(_chunk(ask, index, MARK, middle))

    def last(self, ask: Ask, index: int, word: str, spoken: Spoken, site: Site) -> Sequence[bytes]:
        """Return the last token's event."""
        if ask.form is Form.NATIVE:
            details = {
                "finish_reason": _native_reason(spoken),
                "generated_tokens": spoken.tokens,
                "seed": None,
                "input_length": ask.prompt_tokens,
            }
            given = details if ask.details else None
            return (orjson.dumps(_native(spoken.tokens, word, spoken.text, given)),)
        if ask.form is Form.CHAT:
            return (orjson.dumps(_chunk(ask, index, word, spoken.reason)),)
        chunk = _chunk(ask, index, word, _native_reason(spoken))
        return (orjson.dumps(chunk | {"usage": usage(ask, (spoken,))}),)

    def ending(self, ask: Ask, spoken: Sequence[Spoken], site: Site) -> Sequence[bytes]:
        """Return the usage, where a chat asked for it, and the end; native streams just stop."""
        if ask.form is Form.NATIVE:
            return ()
        if ask.form is Form.COMPLETION or ask.usage is Usage.NEVER:
            return (DONE,)
        chunk = _chunk(ask, 0, "", None) | {"choices": [], "usage": usage(ask, spoken)}
        return orjson.dumps(chunk), DONE

    def whole(self, ask: Ask, spoken: Sequence[Spoken], times: Times, site: Site) -> Answer:
        """Return a whole answer, with its times in headers."""
        if ask.form is Form.NATIVE:
            answer = _native_whole(spoken[0], details=ask.details)
        else:
            answer = {
                "object": ask.form.value,
                "id": "",
                "created": ask.created,
                "model": ask.model,
                "system_fingerprint": _FINGERPRINT,
                "choices": [_choice(ask, index, one) for index, one in enumerate(spoken)],
                "usage": usage(ask, spoken),
            }
        return Answer(200, orjson.dumps(answer), headers=_timing(ask, spoken, times))

    def refused(self, refused: Refused, ask: Ask, site: Site) -> Problem:
        """Say why a request is not taken."""
        if refused.cause is RefusalCause.OVERLOADED:
            return _OVERLOADED
        if refused.cause is RefusalCause.TOO_LONG:
            return _too_long(ask.prompts, ask.max_tokens, site)
        return self.told(refused.status)

    def failed(self, cause: FailureCause) -> Problem:
        """Say why an answer broke off."""
        if cause is FailureCause.STEP_FAILED:
            message = "Request failed during generation: Server error: CUDA out of memory"
            return Problem(424, message, "generation")
        return Problem(500, "Incomplete generation", "incomplete_generation")

    def told(self, status: int) -> Problem:
        """Say something that goes with a status."""
        if status == _OVERLOADED.status:
            return _OVERLOADED
        return Problem(status, f"emulated failure with status {status}", "emulated")

    def answer(self, problem: Problem) -> Answer:
        """Return text where the body did not parse, and else an object with a string."""
        if problem.is_text:
            return Answer(problem.status, problem.message.encode(), "text/plain; charset=utf-8")
        return document({"error": problem.message, "error_type": problem.type}, problem.status)

    def event(self, problem: Problem, ask: Ask) -> Sequence[bytes]:
        """Return a problem inside a stream."""
        if ask.form is Form.NATIVE:
            return (orjson.dumps({"error": problem.message, "error_type": problem.type}),)
        error = {"message": problem.message, "http_status_code": _STREAMED_STATUS}
        return orjson.dumps({"error": error}), DONE

    def page(self, method: str, path: str, body: bytes, site: Site, told: Told) -> Answer | None:
        """Answer discovery, metrics and tokens."""
        match method, path:
            case "GET", "/health" | "/ping" | "/":
                page = Answer(200, content_type=None)
            case "GET", "/info":
                page = document(_info(site))
            case "GET", "/v1/models":
                card = {"id": site.model, "object": "model", "created": 0, "owned_by": site.model}
                page = document({"object": "list", "data": [card]})
            case "GET", "/metrics":
                page = Answer(200, _metrics(told), "text/plain; charset=utf-8")
            case "POST", "/tokenize":
                page = _tokenize(body)
            case _:
                return None
        return page

    def not_found(self) -> Answer:
        """Answer as axum does: with nothing."""
        return Answer(404, content_type=None)

    def histograms(self) -> dict[str, Histogram]:
        """Return TGI's buckets."""
        names = ("ttft", "itl", "e2e", "queue", "prompt", "output")
        return {name: Histogram(_DURATIONS) for name in names}


def _knobs(site: Site) -> Tgi:
    return site.spec.knobs if isinstance(site.spec.knobs, Tgi) else Tgi()


def _parsed(headers: Headers, body: bytes, form: Form, site: Site) -> Document | Problem:
    if "application/json" not in headers.get("content-type", ""):
        expected = "Expected request with `Content-Type: application/json`"
        return Problem(415, expected, is_text=True)
    try:
        sent = reading.parsed(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        message = f"Failed to parse the request body as JSON: {error.msg} at {where}"
        return Problem(400, message, is_text=True)
    flaw: str | None = "invalid type: expected struct"
    if isinstance(sent, dict):
        flaw = type_flaw(sent, form, strict=site.quirks.strict_types)
        if flaw is None:
            return sent
    message = f"Failed to deserialize the JSON body into the target type: {flaw}"
    return Problem(422, f"{message} at line 1 column {len(body)}", is_text=True)


def _flaw(parameters: Document, form: Form, prompts: int) -> Problem | None:
    """Return what the validation or the route finds wrong with values."""
    if form is Form.COMPLETION and parameters.get("suffix") is not None:
        message = "Suffix is not supported and can be achieved by preprocessing the prompt."
        return Problem(422, message, "suffix not supported")
    if prompts > _MOST_PROMPTS:
        message = f"Number of prompts exceeds the maximum allowed batch size of {_MOST_PROMPTS}"
        return Problem(422, message, "batch size exceeded")
    stops, top = parameters.get("stop"), reading.whole(parameters, "top_logprobs", "top_n_tokens")
    top_p = reading.number(parameters, "top_p")
    message = ""
    if top_p is not None and not 0.0 < top_p < 1.0:
        message = "`top_p` must be > 0.0 and < 1.0"
    elif isinstance(stops, list) and len(stops) > _MOST_STOPS:
        message = f"`stop` supports up to {_MOST_STOPS} stop sequences. Given: {len(stops)}"
    elif top is not None and top > _MOST_TOP_TOKENS:
        message = f"`top_n_tokens` must be >= 0 and <= {_MOST_TOP_TOKENS}. Given: {top}"
    return _invalid(message) if message else None


def _length_flaw(most: int | None, prompts: Sequence[Prompt], site: Site) -> Problem | None:
    if most is not None and most < 1:
        return _invalid("`max_new_tokens` must be strictly positive")
    longest = max((prompt.tokens for prompt in prompts), default=0)
    knobs = _knobs(site)
    fits = longest + min(most or 1, knobs.slice_tokens) <= knobs.max_total_tokens
    return None if fits else _too_long(prompts, most, site)


def _too_long(prompts: Sequence[Prompt], most: int | None, site: Site) -> Problem:
    total = _knobs(site).max_total_tokens
    longest = max((prompt.tokens for prompt in prompts), default=0)
    if longest >= total:
        return _invalid(f"`inputs` must have less than {total - 1} tokens. Given: {longest}")
    return _invalid(
        f"`inputs` tokens + `max_new_tokens` must be <= {total}. Given: {longest} `inputs` "
        f"tokens and {most or 1} `max_new_tokens`"
    )


def _invalid(message: str) -> Problem:
    return Problem(422, f"Input validation error: {message}", "validation")


def _native_reason(spoken: Spoken) -> str:
    return "eos_token" if spoken.reason == "stop" else spoken.reason


def _native(
    index: int, word: str, whole: str | None, details: Mapping[str, object] | None
) -> dict[str, object]:
    token = {"id": 5, "text": word, "logprob": -0.5, "special": False}
    return {"index": index, "token": token, "generated_text": whole, "details": details}


def _native_whole(spoken: Spoken, *, details: bool) -> dict[str, object]:
    answer: dict[str, object] = {"generated_text": spoken.text}
    if details:
        answer["details"] = {
            "finish_reason": _native_reason(spoken),
            "generated_tokens": spoken.tokens,
            "seed": None,
            "prefill": [],
            "tokens": [],
        }
    return answer


def _chunk(ask: Ask, index: int, word: str, reason: str | None) -> dict[str, object]:
    choice: dict[str, object] = {"index": index}
    if ask.form is Form.CHAT:
        choice["delta"] = {"role": "assistant", "content": word}
    else:
        choice["text"] = word
    chunk: dict[str, object] = {
        "object": "chat.completion.chunk" if ask.form is Form.CHAT else "text_completion",
        "id": "",
        "created": ask.created,
        "model": ask.model,
        "system_fingerprint": _FINGERPRINT,
        "choices": [{**choice, "logprobs": None, "finish_reason": reason}],
    }
    if ask.form is Form.CHAT:
        chunk["usage"] = None
    return chunk


def _choice(ask: Ask, index: int, spoken: Spoken) -> dict[str, object]:
    if ask.form is Form.CHAT:
        said: dict[str, object] = {"message": {"role": "assistant", "content": spoken.text}}
        reason = spoken.reason
    else:
        said, reason = {"text": spoken.text}, _native_reason(spoken)
    return {"index": index, **said, "logprobs": None, "finish_reason": reason}


def _timing(ask: Ask, spoken: Sequence[Spoken], times: Times) -> tuple[tuple[str, str], ...]:
    output = sum(one.tokens for one in spoken)
    inference_s = times.total_s - times.queued_s
    milliseconds = {
        "x-total-time": times.total_s,
        "x-validation-time": 0.0,
        "x-queue-time": times.queued_s,
        "x-inference-time": inference_s,
        "x-time-per-token": inference_s / max(1, output),
    }
    return (
        ("x-compute-type", "gpu+optimized"),
        ("x-compute-time", f"{times.total_s:.6f}"),
        ("x-compute-characters", str(ask.characters)),
        *((name, str(int(1000 * seconds))) for name, seconds in milliseconds.items()),
        ("x-prompt-tokens", str(ask.prompt_tokens)),
        ("x-generated-tokens", str(output)),
    )


def _tokenize(body: bytes) -> Answer:
    try:
        sent = reading.parsed(body)
    except orjson.JSONDecodeError:
        sent = {}
    said = sent.get("inputs") if isinstance(sent, dict) else None
    found: list[dict[str, object]] = []
    start = 0
    for token, identity in zip(text.tokens(str(said)), text.token_ids(str(said)), strict=True):
        found.append({"id": identity, "text": token, "start": start, "stop": start + len(token)})
        start += len(token)
    return document(found)


def _info(site: Site) -> dict[str, object]:
    knobs = _knobs(site)
    return {
        "model_id": site.model,
        "model_sha": None,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": knobs.max_concurrent_requests,
        "max_best_of": 2,
        "max_stop_sequences": _MOST_STOPS,
        "max_input_tokens": knobs.max_total_tokens - 1,
        "max_total_tokens": knobs.max_total_tokens,
        "validation_workers": 2,
        "max_client_batch_size": _MOST_PROMPTS,
        "router": "text-generation-router",
        "version": "3.3.6-dev0",
        "sha": None,
        "docker_label": None,
    }


def _metrics(told: Told) -> bytes:
    gauges = told.gauges
    page = Exposition()
    page.counter("tgi_request_count", 2 * (gauges.finished + gauges.failed + gauges.refused))
    page.counter("tgi_request_success", gauges.finished)
    page.counter("tgi_request_failure", gauges.refused, 'err="overloaded"')
    page.counter("tgi_request_failure", gauges.failed, 'err="generation"')
    decodes = gauges.steps - gauges.prefill_steps
    for name in ("tgi_batch_inference_count", "tgi_batch_inference_success"):
        page.counter(name, gauges.prefill_steps, 'method="prefill"')
        page.counter(name, decodes, 'method="decode"')
    page.gauge("tgi_queue_size", gauges.waiting)
    page.gauge("tgi_batch_current_size", gauges.running)
    page.gauge("tgi_batch_current_max_tokens", gauges.kv_used_tokens)
    page.histogram("tgi_request_duration", told.histograms["e2e"])
    page.histogram("tgi_request_queue_duration", told.histograms["queue"])
    page.histogram("tgi_request_mean_time_per_token_duration", told.histograms["itl"])
    return page.text()
