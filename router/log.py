"""The log of states: one line when a state changes, its fields chosen where the change happens.

Never a prompt, an answer or a key. Nothing here waits: see `router.lines`. Requests have a log of
their own: see `router.access_log`.
"""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from router.json_line import json_line
from router.lines import LineWriter


class Style(StrEnum):
    """How lines about states are written; the access log is always JSON."""

    JSON = "json"
    PLAIN = "plain"


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
    for chatty in ("httpx", "httpcore", "urllib3"):  # a line a probe, or a batch of spans
        logging.getLogger(chatty).setLevel(logging.WARNING)


_USUAL: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    *("message", "asctime"),
    "color_message",
}
"""What every record has, and uvicorn's words in colours; the rest is what the caller gave as `extra`."""
_ERROR: Final = logging.Formatter()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {name: value for name, value in record.__dict__.items() if name not in _USUAL}
    if record.exc_info:
        fields["traceback"] = _ERROR.formatException(record.exc_info)
    return fields


def _json_record(record: logging.LogRecord) -> bytes:
    return json_line(
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
