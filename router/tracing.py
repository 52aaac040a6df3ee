"""Makes the spans of each request once it has ended, and hands them to a collector's thread.

    request (SERVER)              events: first token, seams
      ├─ queue (INTERNAL)         one for each time that it waited for a slot
      └─ POST path (CLIENT)       one an attempt; events: sent, first token. Parent of the engine's

Nothing is done while a request runs but to note when what happened: see `router.trace`.
"""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace import Span as AnySpan

from policies.facts import Ending, RequestFacts
from router import spans
from router.collector import Collector
from router.metrics import Rows
from router.proxy import End
from router.settings import Server
from router.settings import Tracing as Settings
from router.trace import Trace, Try, read_parent
from router.version import headway_version
from router.wire.inbound import Incoming

LAST_SPANS_S: Final = 3.0
"""How long a router that stops waits for the collector to take what is left."""
_NS: Final = 1e9

logger = logging.getLogger("headway")


class Tracing:
    """The spans of one process."""

    def __init__(  # all that spans are made with
        self,
        settings: Settings,
        headers: Mapping[str, str] | None,
        *,
        server: Mapping[str, object],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        draw: Callable[[int], int],
    ) -> None:
        """`server`: what each request's span says of this one; `draw` returns random bits."""
        self.wall_clock = wall_clock
        """Seconds since 1970."""
        self._clock = clock
        self._since_1970_s = 0.0
        """What the router's clock is behind, taken once for all spans of a request."""
        self._draw = draw
        self._sample = settings.sample
        self._server = server
        exporter = OTLPSpanExporter(
            settings.endpoint,
            headers=None if headers is None else dict(headers),
            timeout=settings.timeout_s,
        )
        self._collector = Collector(exporter, most=settings.max_queued_spans)
        self._ids = _GivenIds()
        provider = TracerProvider(
            ALWAYS_ON,  # what is not kept never comes here
            Resource.create(
                {
                    "service.name": settings.service_name,
                    "service.version": headway_version(),
                    "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
                }
            ),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        provider.add_span_processor(self._collector)
        self._tracer = provider.get_tracer("headway", headway_version())

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
        id_: str,
        facts: RequestFacts | None,
    ) -> Trace:
        """Make the span of a request that was answered at the door. Never raises."""
        trace = self.begin(request.head.headers)
        route = request.head.route
        if not trace.sampled or route is None:
            return trace
        try:
            told = spans.of_one_turned_away(route, status, outcome, id_, facts)
            self._since_1970_s = self.wall_clock() - self._clock()
            span = self._request_span(trace, spans.OPERATIONS[route], told, request.arrived)
            span.end(self._ns(now))
        except Exception:  # it has its answer, and its connection goes on
            logger.exception("a request could not be traced", extra={"request_id": id_})
        return trace

    def ended(self, end: End, verdict: bool | None, now: float) -> None:
        """Make the spans of a request that has ended."""
        trace = end.exchange.trace
        if trace is None or not trace.sampled:
            return
        if not self._collector.has_room:
            self._collector.drop(1 + len(trace.waits) + len(trace.tries))
            return
        self._since_1970_s = self.wall_clock() - self._clock()
        arrived = end.exchange.request.arrived
        told = spans.of_request(end, trace, verdict)
        span = self._request_span(trace, spans.span_name(end), told, arrived)
        inside = set_span_in_context(span, Context())
        for since, until in trace.waits:
            self._queue_span(inside, end, since, now if until is None else until)
        for one in trace.tries:
            self._try_span(inside, end, one, now)
        self._tell(span, end, trace)
        span.end(self._ns(now))

    def _request_span(
        self, trace: Trace, name: str, told: Mapping[str, object], arrived: float
    ) -> AnySpan:
        self._ids.trace_id, self._ids.span_id = int(trace.id, 16), int(trace.span_id, 16)
        return self._tracer.start_span(
            name,
            _outside(trace),
            SpanKind.SERVER,
            spans.attributes({**self._server, **told}),
            start_time=self._ns(arrived),
        )

    def _queue_span(self, inside: Context, end: End, since: float, until: float) -> None:
        self._ids.span_id = self._draw(64) or 1
        span = self._tracer.start_span(
            "queue",
            inside,
            attributes=spans.attributes({"headway.class": end.sla_class}),
            start_time=self._ns(since),
        )
        span.end(self._ns(until))

    def _try_span(self, inside: Context, end: End, one: Try, now: float) -> None:
        attempt, exchange = one.attempt, end.exchange
        self._ids.span_id = int(one.span_id, 16)
        span = self._tracer.start_span(
            f"POST {exchange.route}",
            inside,
            SpanKind.CLIENT,
            spans.attributes(spans.of_try(one, exchange.intake.facts.model)),
            start_time=self._ns(attempt.asked_at),
        )
        if attempt.connected_at > 0.0:
            span.add_event("headway.sent", timestamp=self._ns(attempt.connected_at))
        if attempt.in_events:
            span.add_event("headway.first_token", timestamp=self._ns(attempt.first_event_at))
        ended_at = now
        if one.failure is not None:
            ended_at = one.ended_at
            span.set_status(Status(StatusCode.ERROR))
        elif end.ending is Ending.COMPLETED:
            ended_at = attempt.last_at
        elif end.ending is Ending.ABANDONED:
            span.set_attribute("headway.outcome", Ending.ABANDONED.value)
        span.end(self._ns(ended_at))

    def _tell(self, span: AnySpan, end: End, trace: Trace) -> None:
        """Add what happened on the way, in order, and whether the request is a failure."""
        first_at = min(
            (t.attempt.first_event_at for t in trace.tries if t.attempt.in_events), default=inf
        )
        if first_at < inf:
            span.add_event("headway.first_token", timestamp=self._ns(first_at))
        for one in trace.tries:
            if one.sent_tokens is not None:
                told = spans.attributes(
                    {
                        "headway.endpoint": one.attempt.endpoint.id,
                        "headway.output_tokens": one.sent_tokens,
                    }
                )
                span.add_event("headway.seam", told, self._ns(one.ended_at))
        if spans.error_of(end, trace) is not None:
            span.set_status(Status(StatusCode.ERROR))

    def _ns(self, at: float) -> int:
        """Return a moment of the router's clock as nanoseconds since 1970."""
        return int((at + self._since_1970_s) * _NS)


class _GivenIds(IdGenerator):
    """Hands out the ids that requests and attempts have been given while they ran."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_trace_id(self) -> int:
        """See `IdGenerator`."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """See `IdGenerator`."""
        return self.span_id


def server_of(settings: Server) -> dict[str, object]:
    """Return what a request's span says of the server that took it."""
    return {
        "server.address": settings.host,
        "server.port": settings.port or None,
        "url.scheme": "http" if settings.tls is None else "https",
    }


def _outside(trace: Trace) -> Context:
    """Return the context of the caller's span; an empty one where there is none."""
    parent = trace.parent
    if parent is None:
        return Context()
    states = TraceState.from_header([parent.state.decode("latin-1")])
    context = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(trace.flags),
        trace_state=states,
    )
    return set_span_in_context(NonRecordingSpan(context), Context())
