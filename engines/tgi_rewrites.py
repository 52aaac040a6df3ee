"""What TGI wants other than OpenAI's bodies say, as one table of fields and rules.

TGI refuses ordinary bodies (`top_p: 1`, `stop: "x"`, `stream_options: null`) and takes
`presence_penalty: 0` for a repetition penalty of 2. What it cannot do at all is not mended here:
its traits keep such requests away.
Source: TGI's router/src/lib.rs, `ChatRequest`, `CompletionRequest`, `GrammarType`; validation.rs.
"""

from collections.abc import Callable, Mapping

from engines.fields import as_list, as_object

SLICE_TOKENS = 1024
"""Output that TGI produces without putting the request back into its queue."""

BASE_MODEL = "tgi"
"""The name that means no adapter; any other name is taken for one."""

_DROPPED = object()


def rewritten(
    document: Mapping[str, object], model: str | None, bound_tokens: int | None
) -> Mapping[str, object]:
    """Return a body that TGI understands as OpenAI means `document`.

    `model` is the adapter that is meant, None for the base model. `bound_tokens` is the bound on
    the output where the caller set none; None means one slice.
    """
    changed: dict[str, object] = {}
    for field, value in document.items():
        rule = RULES.get(field, _kept)
        kept = _DROPPED if value is None else rule(value)
        if kept is not _DROPPED:
            changed[field] = kept
    changed["model"] = model or BASE_MODEL
    changed["max_tokens"] = _bound(document, bound_tokens)
    return changed


def _bound(document: Mapping[str, object], bound_tokens: int | None) -> object:
    """Return the caller's bound, under whichever name; TGI takes the two names for one field."""
    for field in ("max_completion_tokens", "max_tokens"):
        if document.get(field) is not None:
            return document[field]
    return bound_tokens or SLICE_TOKENS


def _kept(value: object) -> object:
    return value


def _dropped(_value: object) -> object:
    return _DROPPED


def _below_one(value: object) -> object:
    """Drop a share of 1 or more: all tokens are candidates, which is what no `top_p` means."""
    return _DROPPED if isinstance(value, int | float) and value >= 1 else value


def _unsigned(value: object) -> object:
    return _DROPPED if isinstance(value, int) and value < 0 else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _not_empty(value: object) -> object:
    return value or _DROPPED


def _stream_options(value: object) -> object:
    """Keep only a wish for usage: its members must not be null, and the rest is unknown to TGI."""
    wants_usage = as_object(value).get("include_usage") is True
    return {"include_usage": True} if wants_usage else _DROPPED


def _response_format(value: object) -> object:
    """Put OpenAI's JSON schema where TGI looks for it; plain text needs no format."""
    form = as_object(value)
    if form.get("type") == "text":
        return _DROPPED
    asked = as_object(form.get("json_schema"))
    if form.get("type") != "json_schema" or "schema" not in asked:
        return value
    members = {name: asked[name] for name in ("name", "schema") if asked.get(name) is not None}
    return {"type": "json_schema", "value": members}


def _messages(value: object) -> object:
    """Mend messages with neither text nor calls, or with both, which TGI cannot tell apart."""
    turns = as_list(value)
    mended = [_message(turn) for turn in turns]
    return mended if any(new is not old for new, old in zip(mended, turns, strict=True)) else value


def _message(turn: object) -> object:
    message = as_object(turn)
    if message.get("tool_calls"):
        # With any text beside them, even an empty one, the calls would be lost.
        if "content" in message and not message["content"]:
            return {name: said for name, said in message.items() if name != "content"}
        return turn
    if "content" in message and message["content"] is None:
        return {**message, "content": ""}
    return turn


RULES: Mapping[str, Callable[[object], object]] = {
    "logit_bias": _dropped,
    "max_completion_tokens": _dropped,
    "max_tokens": _dropped,
    "messages": _messages,
    "model": _dropped,
    "presence_penalty": _dropped,
    "response_format": _response_format,
    "seed": _unsigned,
    "stop": _listed,
    "stream_options": _stream_options,
    "suffix": _not_empty,
    "tools": _not_empty,
    "top_p": _below_one,
}
