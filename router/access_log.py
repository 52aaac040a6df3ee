"""The access log: one line a request, written when it ends.

A line's fields are closed (`RequestLine`): never a prompt, an answer or a key. Nothing here waits:
see `router.lines`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypedDict

from router.json_line import json_line
from router.lines import LineWriter

# Written as a call because of the field named `class`, which is its name everywhere outside Python.
RequestLine = TypedDict(
    "RequestLine",
    {
        "request_id": str,
        "trace_id": str,
        "route": str,
        "model": str,
        "class": str,
        "tenant": str,
        "caller": str,
        "stream": bool,
        "status": int,
        "outcome": str,
        "pool": str | None,
        "endpoint": str | None,
        "reason": str | None,
        "dropped_reason": str | None,
        "attempts": int,
        "hedged": bool,
        "queue_s": float,
        "overhead_s": float,
        "first_token_s": float | None,
        "per_token_s": float | None,
        "duration_s": float,
        "prompt_tokens": int | None,
        "output_tokens": int | None,
        "met": bool | None,
    },
    total=False,
)
"""All that is said of one request; times in seconds from its arrival."""


REPEATED: Final = (
    *("route", "model", "class", "tenant", "stream", "status", "outcome"),
    *("attempts", "pool", "endpoint", "reason", "dropped_reason"),
)
"""Fields that are much the same from one request to the next."""
Repeated = tuple[str | int | None, ...]
"""Values of `REPEATED`, in that order; None for those that a request has not."""
MAX_KNOWN: Final = 1024
"""Combinations of them that are kept as text; all are forgotten when there are more."""


class AccessLog:
    """One JSON line per request."""

    def __init__(self, writer: LineWriter, clock: Callable[[], float]) -> None:
        """`clock` tells seconds since 1970."""
        self._writer = writer
        self._clock = clock
        self._known: dict[Repeated, bytes] = {}
        self._second = -1
        self._date = b""

    def ended(self, line: RequestLine, repeated: Repeated | None = None) -> None:
        """Write a request down; never waits, never raises.

        `line` has at least one field. Fields that are `repeated` from one request to the next are
        turned into text once.
        """
        text = json_line(line)
        known = b"" if repeated is None else self._known.get(repeated) or self._text_of(repeated)
        self._writer.append(b'{"time":"%b",%b%b' % (self._time(), known, text[1:]))

    def _text_of(self, repeated: Repeated) -> bytes:
        fields = {
            name: value for name, value in zip(REPEATED, repeated, strict=True) if value is not None
        }
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        text = self._known[repeated] = json_line(fields)[1:-2] + b","
        return text

    def _time(self) -> bytes:
        """Return the time as RFC 3339 has it, in UTC, to the microsecond."""
        moment = self._clock()
        second = int(moment)
        if second != self._second:
            self._second = second
            self._date = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%b.%06dZ" % (self._date, int((moment - second) * 1e6))
