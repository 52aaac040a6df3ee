"""What becomes of spans on their way to a collector."""

import logging
import subprocess
import sys
import threading
from time import monotonic

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from policies.facts import Reason
from router.collector import BATCH_SPANS, Collector
from router.spans import LONGEST_TEXT, attributes

CONFIGURATION = """
[tracing]
[[pools]]
name = "p"
profile = "throughput"
models = ["m"]
endpoints = [{ engine = "vllm", url = "http://127.0.0.1:9" }]
"""


class Exporter(SpanExporter):
    """Does as it is told, once it is let; `results` are given one a batch, the last for ever."""

    def __init__(self, *results: SpanExportResult | Exception) -> None:
        self.results = list(results) or [SpanExportResult.SUCCESS]
        self.let = threading.Event()
        self.let.set()
        self.batches: list[int] = []
        self.begun = threading.Event()
        self.shut_down = 0

    def export(self, spans):
        self.begun.set()
        self.let.wait(10.0)
        self.batches.append(len(spans))
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result

    def shutdown(self):
        self.shut_down += 1


@pytest.fixture
def made():
    """Return a function that makes a collector, and what hands it spans."""
    collectors = []

    def make(exporter: Exporter, most: int = 1000):
        collector = Collector(exporter, most=most)
        provider = TracerProvider(ALWAYS_ON, shutdown_on_exit=False)
        provider.add_span_processor(collector)
        tracer = provider.get_tracer("test")
        collectors.append(collector)

        def hand_over(count: int) -> None:
            for _ in range(count):
                tracer.start_span("s").end()

        return collector, hand_over

    yield make
    for each in collectors:
        each.close(1.0)


def test_what_waits_is_sent_at_the_end_in_small_batches(made):
    exporter = Exporter()
    collector, hand_over = made(exporter)
    hand_over(BATCH_SPANS - 1)
    hand_over(BATCH_SPANS)
    collector.close(5.0)

    assert sum(exporter.batches) == 2 * BATCH_SPANS - 1
    assert max(exporter.batches) <= BATCH_SPANS
    assert (collector.exported, collector.failed, collector.dropped) == (2 * BATCH_SPANS - 1, 0, 0)
    assert exporter.shut_down == 1


def test_what_does_not_fit_is_dropped_and_counted(made):
    exporter = Exporter()
    exporter.let.clear()
    collector, hand_over = made(exporter, most=BATCH_SPANS)
    hand_over(BATCH_SPANS)
    assert exporter.begun.wait(10.0)
    hand_over(BATCH_SPANS)
    assert not collector.has_room
    hand_over(7)
    collector.drop(2)
    exporter.let.set()
    collector.close(5.0)

    assert collector.dropped == 9
    assert collector.exported == 2 * BATCH_SPANS


def test_a_collector_that_stops_taking_spans_is_logged_once_and_so_is_its_return(made, caplog):
    failure, success = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    exporter = Exporter(RuntimeError("odd"), failure, failure, success)
    collector, hand_over = made(exporter)
    with caplog.at_level(logging.INFO, logger="headway"):
        hand_over(4 * BATCH_SPANS)
        collector.close(5.0)

    lines = [record for record in caplog.records if record.name == "headway"]
    assert [record.getMessage() for record in lines] == [
        "spans are not taken",
        "spans are taken again",
    ]
    assert lines[0].__dict__["reason"] == "RuntimeError('odd')"
    assert (collector.failed, collector.exported) == (3 * BATCH_SPANS, BATCH_SPANS)


def test_the_last_spans_are_waited_for_only_so_long(made):
    exporter = Exporter()
    exporter.let.clear()
    collector, hand_over = made(exporter)
    hand_over(1)
    began_at = monotonic()
    collector.close(0.05)
    took_s = monotonic() - began_at
    exporter.let.set()

    assert took_s < 5.0
    assert exporter.shut_down == 1


def test_only_what_can_be_encoded_is_told():
    given = {
        "text": "é" * 1000,
        "half a pair": "\ud800",
        "enum": Reason.HOME,
        "none": None,
        "infinite": float("inf"),
        "no number": float("nan"),
        "large": 1 << 63,
        "yes": True,
        "many": ("a", "b"),
        "no items": (),
        "other": object(),
    }

    assert attributes(given) == {
        "text": "é" * LONGEST_TEXT,
        "half a pair": "?",
        "enum": "home",
        "yes": True,
        "many": ("a", "b"),
    }


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 # ourselves
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


def test_a_router_that_traces_without_the_packages_says_what_to_install(tmp_path):
    path = tmp_path / "headway.toml"
    path.write_text(CONFIGURATION)
    script = "import sys; sys.modules['opentelemetry'] = None; from router.__main__ import main; sys.exit(main())"
    done = run(script, "serve", str(path))

    assert done.returncode == 2
    assert done.stderr == (
        "headway.toml.tracing: needs packages that are missing: pip install 'headway[otel]'\n"
    )


def test_a_router_that_does_not_trace_loads_nothing_of_it(tmp_path):
    path = tmp_path / "headway.toml"
    path.write_text(CONFIGURATION.replace("[tracing]", ""))
    script = (
        "import sys, time; from pathlib import Path; from random import Random;"
        "from engines.registry import ENGINES; from router.app import Router;"
        "from router.config import load; from router.credentials import Secrets;"
        "Router(load(Path(sys.argv[1])), Secrets(), engines=ENGINES, clock=time.monotonic,"
        " rng=Random(), access_log=None, logs={});"
        "print('opentelemetry' in sys.modules)"
    )
    done = run(script, str(path))

    assert (done.stdout, done.stderr) == ("False\n", "")
