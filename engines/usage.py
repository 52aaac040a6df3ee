"""Finds token counts in an answer without reading the answer.

Engines put the counts at the end, so the last `usage` object is looked for from behind and only
its few bytes are parsed. Inside a JSON string a quote is escaped, so text that speaks of usage is
never mistaken for it.
"""

import re
from collections.abc import Mapping

from engines.engine import TokenUsage
from engines.fields import as_count, as_object, parsed

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
        return _openai(usage, "prompt", "completion")
    if "total_tokens" in usage:
        return _openai(usage, "input", "output")
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
    start = tail.rfind(b'"%b":' % name, 0, end)
    match = _OBJECT.match(tail, start + len(name) + 3) if start >= 0 else None
    return as_object(parsed(match[0]) if match else None), max(start, 0)


def _openai(usage: Mapping[str, object], prompt: str, output: str) -> TokenUsage:
    details = as_object(usage.get(f"{prompt}_tokens_details"))
    return TokenUsage(
        prompt_tokens=as_count(usage.get(f"{prompt}_tokens")),
        output_tokens=as_count(usage.get(f"{output}_tokens")),
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
