"""Reads request bodies the way OpenAI-compatible engines do, with the checks that they share."""

from collections.abc import Mapping, Sequence
from zlib import crc32

import orjson

from engines.emulator import text
from engines.emulator.faces.words import Form, Prompt, Usage

Document = Mapping[str, object]

PREFIX_TOKENS = 16
"""Tokens that a prefix key stands for."""
_TEMPLATE_TOKENS = 8
_MESSAGE_TOKENS = 4
_BLOCK_BYTES = 4 * PREFIX_TOKENS


def parsed(body: bytes) -> object:
    """Return the body's value; raises `orjson.JSONDecodeError`."""
    return orjson.loads(body)


def whole(document: Document, *names: str) -> int | None:
    """Return the first of these fields that holds a whole number."""
    for name in names:
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def number(document: Document, name: str) -> float | None:
    """Return a field that holds a number."""
    value = document.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_true(document: Document, name: str) -> bool:
    """Say whether a field is true."""
    return document.get(name) is True


def usage_of(document: Document) -> Usage:
    """Return what `stream_options` asks for."""
    options = document.get("stream_options")
    if not isinstance(options, dict) or not options.get("include_usage"):
        return Usage.NEVER
    return Usage.ALWAYS if options.get("continuous_usage_stats") else Usage.AT_END


def prompts_of(sent: Document, form: Form) -> tuple[Prompt, ...]:
    """Return the prompts of a request."""
    if form is Form.CHAT:
        return (chat_prompt(sent.get("messages")),)
    return prompts(sent.get("inputs" if form is Form.NATIVE else "prompt"))


def characters(sent: Document, form: Form) -> int:
    """Return the length of the text that a request sends."""
    if form is Form.CHAT:
        return len(chat_text(sent.get("messages")))
    return len(prompt_text(sent.get("inputs" if form is Form.NATIVE else "prompt")))


def chat_text(messages: object) -> str:
    """Return the text of a conversation, as a template would join it."""
    return "".join(
        f"{message.get('role')}\n{_content(message.get('content'))}\n"
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict)
    )


def chat_prompt(messages: object) -> Prompt:
    """Return the prompt of a conversation."""
    count = len(messages) if isinstance(messages, list) else 0
    said = chat_text(messages)
    return _prompt(said.encode(), text.count(said) + _TEMPLATE_TOKENS + _MESSAGE_TOKENS * count)


def prompts(value: object) -> tuple[Prompt, ...]:
    """Return the prompts of a completion: a string, token ids, or a list of either."""
    if isinstance(value, list):
        if value and all(isinstance(token, int) for token in value):
            return (_ids_prompt(value),)
        return tuple(prompt for part in value for prompt in prompts(part))
    said = value if isinstance(value, str) else ""
    return (_prompt(said.encode(), text.count(said)),)


def prompt_text(value: object) -> str:
    """Return a completion's prompt as text, token ids left out."""
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _prompt(data: bytes, tokens: int) -> Prompt:
    keys = text.prefix_keys(data, _BLOCK_BYTES)[: tokens // PREFIX_TOKENS]
    return Prompt(tokens, crc32(data), keys)


def _ids_prompt(ids: Sequence[int]) -> Prompt:
    data = b"".join((token & 0xFFFFFFFF).to_bytes(4, "little") for token in ids)
    return Prompt(len(ids), crc32(data), text.prefix_keys(data, _BLOCK_BYTES))


def _content(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)
