"""Makes the spans of each request once it has ended, and hands them to a collector's thread.

    request (SERVER)              events: first token, seams
      ├─ queue (INTERNAL)         one for each time that it waited for a slot
      └─ POST path (CLIENT)       one an attempt; events: sent, first token. Parent of the engine's

Nothing is done while a request runs but to note when what happened: see `router.trace`. Spans are
made whole, by their constructor: the library's usual way, a call for every part of one, is for
spans that are under way, and takes several times as long.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from policies.facts import RequestFacts
from router import spans
from router.collector import Collector
from router.metrics import Rows
from router.proxy import End
from router.settings import Server
from router.settings import Tracing as Settings
from router.spans import Kind, Part
from router.trace import Trace, read_parent
from router.version import headway_version
from router.wire.inbound import Incoming

LAST_SPANS_S: Final = 3.0
"""How long a router that stops waits for the collector to take what is left."""
_NS: Final = 1e9
_KINDS: Final = {
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.INTERNAL: SpanKind.INTERNAL,
}
_GOOD: Final = Status()
_BAD: Final = Status(StatusCode.ERROR)

logger = logging.getLogger("headway")


class Tracing:
    """The spans of one process."""

    def __init__(  # all that spans are made with
        self,
        settings: Settings,
        headers: Mapping[str, str] | None,
        *,
        server: Server,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        draw: Callable[[int], int],
    ) -> None:
        """`headers` None: as the environment says; `draw` returns so many random bits."""
        self.wall_clock = wall_clock
        """Seconds since 1970."""
        self._clock = clock
        self._draw = draw
        self._sample = settings.sample
        self._server = spans.attributes(
            {
                "server.address": server.host,
                "server.port": server.port or None,
                "url.scheme": "http" if server.tls is None else "https",
            }
        )
        exporter = OTLPSpanExporter(
            settings.endpoint,
            headers=None if headers is None else dict(headers),
            timeout=settings.timeout_s,
        )
        self._collector = Collector(exporter, most=settings.max_queued_spans)
        self._scope = InstrumentationScope("headway", headway_version())
        self._resource = Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": headway_version(),
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            }
        )

    def begin(self, headers: Sequence[tuple[bytes, bytes]]) -> Trace:
        """Return a request's place in a trace: in its caller's, or in one that begins here."""
        return Trace(read_parent(headers), self._draw, sample=self._sample)

    def counts(self) -> Rows:
        """Return what became of spans, by outcome."""
        collector = self._collector
        return [
            (("exported",), collector.exported),
            (("failed",), collector.failed),
            (("dropped",), collector.dropped),
        ]

    def close(self) -> None:
        """Send what is left; waits for that, but not for long."""
        self._collector.close(LAST_SPANS_S)

    def turned_away(  # all that is known of it
        self,
        request: Incoming,
        now: float,
        *,
        status: int,
        outcome: str,
        request_id: str,
        facts: RequestFacts | None,
    ) -> Trace:
        """Make the span of a request that was answered at the door. Never raises."""
        trace, route = self.begin(request.head.headers), request.head.route
        if not trace.sampled or route is None:
            return trace
        try:
            only = spans.turned_away(
                trace,
                route,
                (request.arrived, now),
                status=status,
                outcome=outcome,
                request_id=request_id,
                facts=facts,
            )
            self._hand_over(trace, only, ())
        except Exception:  # it has its answer, and its connection goes on
            logger.exception("a request could not be traced", extra={"request_id": request_id})
        return trace

    def ended(self, end: End, verdict: bool | None, now: float) -> None:
        """Make the spans of a request that has ended."""
        trace = end.exchange.trace
        if trace is None or not trace.sampled:
            return
        if self._collector.has_room:
            whole = spans.whole(end, trace, verdict, now)
            self._hand_over(trace, whole, spans.inside(end, trace, now))
        else:
            self._collector.drop(1 + len(trace.waits) + len(trace.tries))

    def _hand_over(self, trace: Trace, whole: Part, inside: Iterable[Part]) -> None:
        """Turn a request's parts into spans; what is inside it comes first, as it ended first."""
        behind_s = self.wall_clock() - self._clock()
        trace_id, flags, state = int(trace.id, 16), TraceFlags(trace.flags), _state(trace)

        def context(span_id: int, *, is_remote: bool = False) -> SpanContext:
            return SpanContext(trace_id, span_id, is_remote, flags, state)

        def hand_over(part: Part, own: SpanContext, parent: SpanContext | None) -> None:
            span = ReadableSpan(
                part.name,
                own,
                parent,
                self._resource,
                part.told,
                [
                    Event(name, spans.attributes(told), int((at + behind_s) * _NS))
                    for name, at, told in part.moments
                ],
                kind=_KINDS[part.kind],
                status=_BAD if part.is_failure else _GOOD,
                start_time=int((part.began_at + behind_s) * _NS),
                end_time=int((part.ended_at + behind_s) * _NS),
                instrumentation_scope=self._scope,
            )
            self._collector.on_end(span)

        own = context(int(trace.span_id, 16))
        for part in inside:
            drawn = self._draw(64) or 1 if part.span_id is None else int(part.span_id, 16)
            hand_over(part, context(drawn), own)
        parent = trace.parent
        whole.told.update(self._server)
        hand_over(
            whole, own, None if parent is None else context(int(parent.span_id, 16), is_remote=True)
        )


def _state(trace: Trace) -> TraceState | None:
    """Return what other systems told of a trace, as far as it can be read."""
    if trace.parent is None or not trace.parent.state:
        return None
    return TraceState.from_header([trace.parent.state.decode("latin-1")])
