"""What is written down: one line a request when it ends, one line when a state changes.

A line's fields are closed (`RequestLine`) or chosen where the change happens; never a prompt, an
answer or a key. Nothing here waits: see `router.lines`.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypedDict

import orjson

from router.lines import LineWriter

# Written as a call because of the field named `class`, which is its name everywhere outside Python.
RequestLine = TypedDict(
    "RequestLine",
    {
        "request_id": str,
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


class Style(StrEnum):
    """How lines about states are written; requests are always JSON."""

    JSON = "json"
    PLAIN = "plain"


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
        text = _json_line(line)
        known = b"" if repeated is None else self._known.get(repeated) or self._text_of(repeated)
        self._writer.append(b'{"time":"%b",%b%b' % (self._time(), known, text[1:]))

    def _text_of(self, repeated: Repeated) -> bytes:
        fields = {
            name: value for name, value in zip(REPEATED, repeated, strict=True) if value is not None
        }
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        text = self._known[repeated] = _json_line(fields)[1:-2] + b","
        return text

    def _time(self) -> bytes:
        """Return the time as RFC 3339 has it, in UTC, to the microsecond."""
        moment = self._clock()
        second = int(moment)
        if second != self._second:
            self._second = second
            self._date = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%b.%06dZ" % (self._date, int((moment - second) * 1e6))


class LineHandler(logging.Handler):
    """Hands log records to a `LineWriter`."""

    def __init__(self, writer: LineWriter, style: Style) -> None:
        super().__init__()
        self._writer = writer
        self._written = _json_record if style is Style.JSON else _plain_record

    def emit(self, record: logging.LogRecord) -> None:
        """Append one record."""
        self._writer.append(self._written(record))


def start_logging(writer: LineWriter, style: Style, level: str) -> None:
    """Send every logger's lines of at least `level` (`info`, …) to one place, and only there."""
    logging.basicConfig(handlers=[LineHandler(writer, style)], level=level.upper(), force=True)
    for chatty in ("httpx", "httpcore"):  # a line a probe
        logging.getLogger(chatty).setLevel(logging.WARNING)


_USUAL: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
"""What every record has; the rest are the fields that the caller gave as `extra`."""
_ERROR: Final = logging.Formatter()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {name: value for name, value in record.__dict__.items() if name not in _USUAL}
    if record.exc_info:
        fields["traceback"] = _ERROR.formatException(record.exc_info)
    return fields


def _json_record(record: logging.LogRecord) -> bytes:
    return _json_line(
        {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
    )


def _plain_record(record: logging.LogRecord) -> bytes:
    """Return a line for people, a traceback below it; ambiguous values are quoted."""
    fields = _fields(record)
    traceback = fields.pop("traceback", None)
    words = [
        _moment(record.created).isoformat(timespec="milliseconds"),
        record.levelname,
        *record.getMessage().splitlines(),
        *(f"{name}={_word(value)}" for name, value in fields.items()),
    ]
    text = f"{' '.join(words)}\n" + (f"{traceback}\n" if traceback else "")
    return text.encode(errors="backslashreplace")


def _word(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and not {" ", "=", '"'} & set(text) else json.dumps(text)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _json_line(fields: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(
            fields, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        )
    except TypeError:  # half a character, or a number beyond 64 bits; a caller may send either
        return json.dumps(fields, default=str).encode() + b"\n"
