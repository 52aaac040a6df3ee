"""Who changed or tried to change what, when, from where and why: a line each, and never a secret.

Without a file of its own the lines go where states are logged.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from router.lines import LineWriter

logger = logging.getLogger("headway.audit")


class Audit:
    """Writes it down."""

    def __init__(self, file: Path | None, moment: Callable[[], str]) -> None:
        """`moment` tells the time; raises OSError where the file cannot be opened."""
        self._lines = None if file is None else LineWriter(file)
        self._moment = moment

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Write a line."""
        if self._lines is None:
            logger.info(event, extra=dict(fields))
            return
        line = {"time": self._moment(), "event": event, **fields}
        self._lines.append(orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Write what waits."""
        if self._lines is not None:
            self._lines.close()
