"""What TGI's JSON types refuse although OpenAI allows it: a 422 in plain text.

Source: the serde types of router/src/lib.rs at db931fc.
"""

from collections.abc import Mapping

from engines.emulator.faces.words import Form

_NEVER_NULL = ("stream", "stream_options")
_FORMATS = frozenset({"json", "json_object", "regex", "json_schema"})


def type_flaw(sent: Mapping[str, object], form: Form, *, strict: bool) -> str | None:
    """Return what serde would say of a body; None where it takes it.

    Not `strict`: only what is missing counts.
    """
    name = {Form.CHAT: "messages", Form.COMPLETION: "prompt", Form.NATIVE: "inputs"}[form]
    if name not in sent:
        return f"missing field `{name}`"
    if not strict or form is Form.NATIVE:
        return None
    return _field_flaw(sent) or _format_flaw(sent.get("response_format"))


def _field_flaw(sent: Mapping[str, object]) -> str | None:
    stop, bias, seed = sent.get("stop"), sent.get("logit_bias"), sent.get("seed")
    if isinstance(stop, str):
        return f'stop: invalid type: string "{stop}", expected a sequence'
    if isinstance(bias, dict):
        return "logit_bias: invalid type: map, expected a sequence"
    if isinstance(seed, int) and seed < 0:
        return f"seed: invalid value: integer `{seed}`, expected u64"
    if "max_tokens" in sent and "max_completion_tokens" in sent:
        return "duplicate field `max_tokens`"
    for name in _NEVER_NULL:
        if name in sent and sent[name] is None:
            return f"{name}: invalid type: null"
    return None


def _format_flaw(response_format: object) -> str | None:
    if not isinstance(response_format, dict):
        return None
    kind = response_format.get("type")
    if kind not in _FORMATS:
        return f"response_format: unknown variant `{kind}`"
    return None if "value" in response_format else "response_format: missing field `value`"
