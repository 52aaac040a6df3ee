"""Reads one answer as it comes: when its tokens came, how many, how it ended. No I/O."""

from typing import Any, Final

import orjson

DONE: Final = b"[DONE]"


class AnswerStream:
    """An event stream in OpenAI's form, fed as it arrives. Times are the feeder's.

    Events are looked into only until the first token and where they may hold an end, an error or
    a usage; the others are counted.
    """

    __slots__ = (
        "_rest",
        "done",
        "error",
        "events",
        "finish_reason",
        "first_at",
        "last_at",
        "slowest_gap_s",
        "usage_tokens",
    )

    def __init__(self) -> None:
        self.first_at: float | None = None
        """When the first token came."""
        self.last_at = 0.0
        """When the latest token came."""
        self.slowest_gap_s = 0.0
        """Longest time between two events with tokens."""
        self.events = 0
        """Events with tokens."""
        self.usage_tokens: int | None = None
        """Output tokens as the engine counts them; None where it does not say."""
        self.finish_reason: str | None = None
        self.error: str | None = None
        """What an error inside the stream says."""
        self.done = False
        """The end came that a whole answer has."""
        self._rest = b""

    @property
    def tokens(self) -> int:
        """Output tokens: the engine's count, else one for each event."""
        return self.events if self.usage_tokens is None else self.usage_tokens

    def feed(self, data: bytes, now: float) -> None:
        """Take in what came at `now`."""
        buffered = self._rest + data if self._rest else data
        if b"\r" in buffered:
            buffered = buffered.replace(b"\r\n", b"\n")
        *whole, self._rest = buffered.split(b"\n\n")
        for event in whole:
            for line in event.split(b"\n"):
                if line.startswith(b"data:"):
                    self._read(line[5:].strip(), now)

    def _read(self, payload: bytes, now: float) -> None:
        if payload == DONE:
            self.done = True
        elif self.first_at is None or _is_special(payload):
            self._look_into(payload, now)
        else:
            self._token(now)

    def _look_into(self, payload: bytes, now: float) -> None:
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            self.error = f"an event is not JSON: {payload[:80]!r}"
            return
        if not isinstance(event, dict):
            self.error = f"an event is no object: {payload[:80]!r}"
            return
        if event.get("error"):
            self.error = _message(event["error"])
            return
        usage = event.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
            self.usage_tokens = usage["completion_tokens"]
        for choice in event.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if _says_something(choice):
                self._token(now)

    def _token(self, now: float) -> None:
        if self.first_at is None:
            self.first_at = now
        else:
            self.slowest_gap_s = max(self.slowest_gap_s, now - self.last_at)
        self.last_at = now
        self.events += 1


def _is_special(payload: bytes) -> bool:
    """Say whether an event may be more than a token."""
    return (
        b'"usage":{' in payload
        or b'"finish_reason":"' in payload
        or b'"error"' in payload
        or b'"choices":[]' in payload
        or b": " in payload[:16]  # spaces after colons: the patterns above would not be found
    )


def _says_something(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    said = delta if isinstance(delta, dict) else choice
    keys = ("content", "text", "reasoning_content", "reasoning", "tool_calls")
    return any(said.get(key) for key in keys)


def _message(error: object) -> str:
    if isinstance(error, dict):
        return str(error.get("message") or error)
    return str(error)
