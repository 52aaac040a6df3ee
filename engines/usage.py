"""Finds token counts in an answer without reading the answer.

Engines put the counts at the end, so the last `usage` object is looked for from behind and only
its few bytes are parsed. Inside a JSON string a quote is escaped, so text that speaks of usage is
never mistaken for it.
"""

import re
from collections.abc import Mapping

from engines.engine import TokenUsage
from engines.fields import NOTHING, as_count, as_object, parsed

# Usage objects hold objects (the details), and those hold none.
_OBJECT = re.compile(rb"\s*+\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\}")


def read_usage(tail: bytes) -> TokenUsage | None:
    """Read the last counts in a whole JSON body or in the last bytes of a stream.

    Understood are OpenAI's chat, completions and embeddings (`prompt_tokens`), its Responses
    (`input_tokens` with a `total_tokens`) and Anthropic's Messages (`input_tokens` alone, which
    leaves out what came from the cache). None where there are no counts.
    """
    usage, start = last_object(tail, b"usage", len(tail))
    if "prompt_tokens" in usage:
        return _openai(usage, *_CHAT)
    if "total_tokens" in usage:
        return _openai(usage, *_RESPONSE)
    if "input_tokens" in usage:
        return _anthropic(usage)
    if "output_tokens" in usage:
        # Messages stream: the prompt was counted in the first event, if that is still here.
        opening, _ = last_object(tail, b"usage", start)
        return _anthropic({**opening, **usage})
    return None


def last_object(tail: bytes, name: bytes, end: int) -> tuple[Mapping[str, object], int]:
    """Return the last object named `name` that begins before `end`, and where its name begins.

    An empty object where there is none.
    """
    start = tail.rfind(b'"' + name + b'":', 0, end)
    if start < 0:
        return NOTHING, 0
    begin = start + len(name) + 3
    close = tail.find(b"}", begin) + 1
    if tail[begin : begin + 1] == b"{" and close > 0 and tail.find(b"{", begin + 1, close) < 0:
        # Nothing is nested, which is the rule: the first brace ends it.
        return as_object(parsed(tail[begin:close])), start
    match = _OBJECT.match(tail, begin)
    return as_object(parsed(match[0]) if match else None), start


_CHAT = ("prompt_tokens", "completion_tokens", "prompt_tokens_details")
_RESPONSE = ("input_tokens", "output_tokens", "input_tokens_details")


def _openai(usage: Mapping[str, object], prompt: str, output: str, detailed: str) -> TokenUsage:
    details = as_object(usage.get(detailed))
    return TokenUsage(
        prompt_tokens=as_count(usage.get(prompt)),
        output_tokens=as_count(usage.get(output)),
        cached_tokens=as_count(details.get("cached_tokens")),
    )


def _anthropic(usage: Mapping[str, object]) -> TokenUsage:
    fresh = as_count(usage.get("input_tokens"))
    cached = as_count(usage.get("cache_read_input_tokens"))
    written = as_count(usage.get("cache_creation_input_tokens"))
    return TokenUsage(
        prompt_tokens=None if fresh is None else fresh + (cached or 0) + (written or 0),
        # A stream's first event says 0 before anything was written: that is no count yet.
        output_tokens=as_count(usage.get("output_tokens")) or None,
        cached_tokens=cached,
    )
