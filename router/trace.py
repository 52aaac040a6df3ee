"""One request's place in a trace: whose child it is, what engines are told, and what happened when.

While the request runs it is only noted down; spans are made of it once it has ended. There is none
where tracing is off. Source: W3C Trace Context, https://www.w3.org/TR/trace-context-2/.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from policies.facts import FailureKind
from router.attempt import Attempt

SAMPLED: Final = 1
"""The flag that says that a trace is kept."""
_KNOWN_FLAGS: Final = 3
"""Sampled, and that the trace's id is random: all that is passed on."""
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_REASON: Final = re.compile(rb'"(?:finish|stop)_reason"\s*:\s*"([a-z_]+)"')
_REASONS: Final = frozenset(
    {
        *("stop", "length", "tool_calls", "content_filter", "function_call"),
        *("end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"),
        *("abort", "eos_token"),
    }
)
"""Why answers end, in the words of OpenAI, Anthropic and engines; others are not told of."""
_LOOKED_AT_BYTES: Final = 4096
"""Of an answer, its end: that is where it says why it ended."""
_TRACE_BITS: Final = 128
_SPAN_BITS: Final = 64


@dataclass(frozen=True, slots=True)
class Parent:
    """The span that a request comes from."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 of them."""
    flags: int
    state: bytes
    """What other tracing systems told of the trace, as it came; empty where none did."""


class Try:
    """One attempt, as its span will tell it."""

    __slots__ = ("attempt", "ended_at", "failure", "sent_tokens", "span_id")

    def __init__(self, attempt: Attempt, span_id: str) -> None:
        self.attempt = attempt
        self.span_id = span_id
        self.failure: FailureKind | None = None
        """None: it did not fail."""
        self.ended_at = 0.0
        """When it failed."""
        self.sent_tokens: int | None = None
        """Tokens of the answer that the caller had, where another endpoint goes on from there."""


class Trace:
    """What is noted of one request; times are the router's clock's."""

    __slots__ = ("_draw", "flags", "id", "parent", "reasons", "span_id", "tries", "waits")

    def __init__(self, parent: Parent | None, draw: Callable[[int], int], *, sample: float) -> None:
        """`draw` returns so many random bits; `sample` is the share of traces begun here to keep."""
        self._draw = draw
        self.parent = parent
        self.id = _drawn(draw, _TRACE_BITS) if parent is None else parent.trace_id
        self.span_id = _drawn(draw, _SPAN_BITS)
        if parent is None:
            # By the id, as other samplers do it: what is asked of it is random already.
            kept = int(self.id[16:], 16) < sample * (1 << _SPAN_BITS)
            self.flags = SAMPLED if kept else 0
        else:
            self.flags = parent.flags & _KNOWN_FLAGS
        self.tries: list[Try] = []
        self.waits: list[tuple[float, float | None]] = []
        """From when until when it waited for a slot; until None: until its end."""
        self.reasons: tuple[str, ...] = ()
        """Why the answer's choices ended, as far as that is known."""

    @property
    def sampled(self) -> bool:
        """Whether there will be spans."""
        return bool(self.flags & SAMPLED)

    def waiting(self, now: float) -> None:
        """Note that the request waits for a slot."""
        self.waits.append((now, None))

    def sent(self, attempt: Attempt, now: float) -> Sequence[tuple[bytes, bytes]]:
        """Note an attempt; returns the headers that make the engine's spans children of its own."""
        if self.waits and self.waits[-1][1] is None:
            self.waits[-1] = self.waits[-1][0], now
        span_id = _drawn(self._draw, _SPAN_BITS)
        self.tries.append(Try(attempt, span_id))
        context = (b"traceparent", f"00-{self.id}-{span_id}-{self.flags:02x}".encode())
        if self.parent is None or not self.parent.state:
            return (context,)
        return (context, (b"tracestate", self.parent.state))

    def failed(self, kind: FailureKind, now: float) -> None:
        """Note that the last attempt failed."""
        last = self.tries[-1]
        last.failure, last.ended_at = kind, now

    def goes_on(self, sent_tokens: int) -> None:
        """Note that the rest of an answer is to come from elsewhere."""
        self.tries[-1].sent_tokens = sent_tokens

    def answered(self, tail: bytes) -> None:
        """Read why an answer ended, in the last of its bytes; nothing else is kept of them.

        Inside a JSON string quotes are escaped, so that no answer can seem to say it.
        """
        if self.sampled:
            found = [each.decode() for each in _REASON.findall(tail[-_LOOKED_AT_BYTES:])]
            self.reasons = tuple(each for each in found if each in _REASONS)


def read_parent(headers: Sequence[tuple[bytes, bytes]]) -> Parent | None:
    """Return the caller's span, names of headers in lower case; None where it sent none, or badly.

    A version that is not known yet is read as far as it is like the first.
    Source: W3C Trace Context, sections 3.2 and 4.
    """
    sent = [value for name, value in headers if name == b"traceparent"]
    found = _PARENT.fullmatch(sent[0].strip()) if len(sent) == 1 else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    states = [value.strip() for name, value in headers if name == b"tracestate"]
    return Parent(
        trace_id.decode(), span_id.decode(), int(flags, 16), b",".join(filter(None, states))
    )


def _drawn(draw: Callable[[int], int], bits: int) -> str:
    """Return an id in hexadecimal; all zeros would be none."""
    return f"{draw(bits) or 1:0{bits // 4}x}"
