"""What carries spans to a collector: taken at once, sent by a thread of its own.

Whoever hands over a span never waits, whatever the collector does. What does not fit is dropped;
all of it is counted, and one line is logged when the collector stops taking spans, and when it
takes them again.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

BATCH_SPANS: Final = 16
"""Spans that are sent together: few, because the event loop has to wait while they are encoded."""
_LONGEST_REASON: Final = 200

logger = logging.getLogger("headway")
_library = logging.getLogger("opentelemetry")


class Collector(SpanProcessor):
    """Takes spans that have ended."""

    def __init__(self, exporter: SpanExporter, *, most: int) -> None:
        """`most` spans wait; those beyond are dropped."""
        self._exporter = _Exporter(exporter)
        self._most = most
        # Each is changed by one thread only, so that their difference needs no lock.
        self._handed_over = 0
        self.dropped = 0
        """Spans for which there was no room."""
        self._batches = BatchSpanProcessor(
            self._exporter, max_queue_size=most, max_export_batch_size=min(BATCH_SPANS, most)
        )

    @property
    def has_room(self) -> bool:
        """Whether another span would be taken."""
        return self._handed_over - self._exporter.taken < self._most

    @property
    def exported(self) -> int:
        """Spans that the collector took."""
        return self._exporter.exported

    @property
    def failed(self) -> int:
        """Spans that it refused, or that it could not be given."""
        return self._exporter.failed

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; see `SpanProcessor`."""
        if self.has_room:
            self._handed_over += 1
            self._batches.on_end(span)
        else:
            self.dropped += 1

    def drop(self, count: int) -> None:
        """Note spans that were not even made, because there is no room."""
        self.dropped += count

    def close(self, within_s: float) -> None:
        """Send what waits, `within_s` at most, and take no more. Waits for that."""
        sending = threading.Thread(
            target=self._batches.shutdown, name="headway-last-spans", daemon=True
        )
        sending.start()
        sending.join(within_s)
        self._exporter.close()


class _Exporter(SpanExporter):
    """Counts, and tells of changes, on behalf of the library's exporter."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.taken = 0
        self.exported = 0
        self.failed = 0
        self._is_failing = False
        self._is_closed = threading.Event()
        self._reasons = _Reasons()
        # The library's own lines come again and again, and quote what a collector answered.
        _library.propagate = False
        _library.addHandler(self._reasons)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        self.taken += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001 # whatever it is, the next batch may go
            result = SpanExportResult.FAILURE
            self._reasons.last = repr(error)[:_LONGEST_REASON]
        self._note(len(spans), is_failing=result is not SpanExportResult.SUCCESS)
        return result

    def _note(self, count: int, *, is_failing: bool) -> None:
        if is_failing:
            self.failed += count
        else:
            self.exported += count
        if is_failing and not self._is_failing:
            logger.warning("spans are not taken", extra={"reason": self._reasons.last})
        elif self._is_failing and not is_failing:
            logger.info("spans are taken again")
        self._is_failing = is_failing

    def close(self) -> None:
        """Give up what is being sent."""
        if not self._is_closed.is_set():
            self._is_closed.set()
            self._inner.shutdown()
            _library.removeHandler(self._reasons)

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        self.close()


class _Reasons(logging.Handler):
    """Keeps the last reason that the library gave."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line that says what happened, not one that only says that it is given up."""
        if isinstance(record.args, tuple) and len(record.args) > 1:
            self.last = record.getMessage()[:_LONGEST_REASON]
