"""Spans as a collector gets them: OTLP over HTTP, decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent

from router.settings import Tracing
from tests.fakes.scripted import ScriptedEngine

CLIENT, INTERNAL, SERVER = Sent.SPAN_KIND_CLIENT, Sent.SPAN_KIND_INTERNAL, Sent.SPAN_KIND_SERVER


@dataclass(frozen=True, slots=True)
class Span:
    """One span; times in nanoseconds since 1970."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    """Empty where it has none."""
    start: int
    end: int
    is_error: bool
    state: str
    attributes: dict[str, Any]
    events: list[tuple[str, int, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Received:
    """All that a collector was sent."""

    spans: list[Span]
    resources: list[dict[str, Any]]

    @property
    def request(self) -> Span:
        """The one span of a request."""
        (only,) = self.requests
        return only

    @property
    def requests(self) -> list[Span]:
        """Those of requests."""
        return [span for span in self.spans if span.kind == SERVER]

    @property
    def attempts(self) -> list[Span]:
        """Those of attempts, in the order in which they began."""
        return sorted((s for s in self.spans if s.kind == CLIENT), key=lambda span: span.start)

    @property
    def waits(self) -> list[Span]:
        """Those of waits."""
        return [span for span in self.spans if span.kind == INTERNAL]


def tracing(collector: ScriptedEngine, **more: Any) -> Tracing:
    """Return settings that send spans to a collector, which is a scripted server."""
    return Tracing(f"{collector.url}/v1/traces", **more)


def received(collector: ScriptedEngine) -> Received:
    """Return what a collector was sent; complete only once the router has stopped."""
    spans, resources = [], []
    for call in collector.calls:
        assert call.path == "/v1/traces"
        for batch in ExportTraceServiceRequest.FromString(call.body).resource_spans:
            resources.append(_values(batch.resource.attributes))
            spans += [_span(each) for scope in batch.scope_spans for each in scope.spans]
    return Received(spans, resources)


def _span(sent: Sent) -> Span:
    return Span(
        sent.name,
        sent.kind,
        sent.trace_id.hex(),
        sent.span_id.hex(),
        sent.parent_span_id.hex(),
        sent.start_time_unix_nano,
        sent.end_time_unix_nano,
        sent.status.code == sent.status.STATUS_CODE_ERROR,
        sent.trace_state,
        _values(sent.attributes),
        [(e.name, e.time_unix_nano, _values(e.attributes)) for e in sent.events],
    )


def _values(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    assert kind is not None
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
