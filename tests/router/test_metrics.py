"""What is counted, and the text that a scrape gets."""

import asyncio
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from policies.facts import Ending, FailureKind, RefusalReason, SlaClass
from router import exposition as exposition_module
from router import metrics as families
from router.counters import Histogram, Series
from router.exposition import exposition
from router.lag import INTERVAL_S, watch_loop
from router.metrics import OTHER, READ, Metrics

PLACE = ("bulk", "vllm-0", SlaClass.BULK, "llama")
FORMATS = pytest.mark.parametrize(
    ("accept", "read"),
    [("text/plain", read_plain), ("application/openmetrics-text; version=1.0.0", read_open)],
    ids=["plain", "openmetrics"],
)


def end(series: Series, **facts) -> None:
    """Count one ordinary request, save for what is given."""
    outcome = facts.pop("outcome", Ending.COMPLETED)
    ordinary = {
        "queue_s": 0.01,
        "first_token_s": 0.3,
        "per_token_s": 0.02,
        "overhead_s": 0.0004,
        "prompt_tokens": 100,
        "output_tokens": 20,
    }
    series.ended(outcome, **(ordinary | facts))


def scraped(metrics: Metrics, accept: str = "", beside: CollectorRegistry | None = None) -> str:
    _, text = asyncio.run(exposition(metrics, accept, beside))
    return text.decode()


def values(
    metrics: Metrics, read=read_plain, accept: str = ""
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample's value by name and labels, as a Prometheus parser reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read(scraped(metrics, accept))
        for sample in family.samples
    }


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset((name.rstrip("_"), value) for name, value in given.items())


HERE = labels(pool="bulk", endpoint="vllm-0", class_="bulk", model="llama")
HOME = labels(pool="bulk", class_="bulk", model="llama")
GOAL = labels(class_="bulk", model="llama")


@FORMATS
def test_a_request_that_ended_is_in_the_scrape(accept, read):
    metrics = Metrics()
    end(metrics.series(*PLACE), met=True)
    end(metrics.series(*PLACE), met=False, outcome=Ending.FAILED)
    seen = values(metrics, read, accept)

    assert seen["headway_requests_total", HERE | labels(outcome="completed")] == 1
    assert seen["headway_requests_total", HERE | labels(outcome="failed")] == 1
    assert seen["headway_requests_total", HERE | labels(outcome="abandoned")] == 0
    assert seen["headway_prompt_tokens_total", HERE] == 200
    assert seen["headway_output_tokens_total", HERE] == 40
    assert seen["headway_endpoint_first_token_seconds_count", HERE] == 2
    assert seen["headway_endpoint_first_token_seconds_sum", HERE] == pytest.approx(0.6)
    assert seen["headway_first_token_seconds_bucket", HOME | labels(le="0.25")] == 0
    assert seen["headway_first_token_seconds_bucket", HOME | labels(le="0.3")] == 2
    assert seen["headway_per_output_token_seconds_count", HOME] == 2
    assert seen["headway_queue_seconds_sum", HOME] == pytest.approx(0.02)
    assert seen["headway_overhead_seconds_bucket", HOME | labels(le="+Inf")] == 2
    assert seen["headway_offered_total", GOAL] == 2
    assert seen["headway_attained_total", GOAL] == 1


def test_a_request_without_a_token_or_a_target_counts_for_neither():
    metrics = Metrics()
    end(metrics.series(*PLACE), first_token_s=None, per_token_s=None, met=None)
    seen = values(metrics)

    assert seen["headway_first_token_seconds_count", HOME] == 0
    assert seen["headway_per_output_token_seconds_count", HOME] == 0
    assert seen["headway_offered_total", GOAL] == 0


NO_ROOM_WOULD_MEND = {
    RefusalReason.UNKNOWN_MODEL,
    RefusalReason.UNSUPPORTED,
    RefusalReason.TOO_LONG,
}


@pytest.mark.parametrize("reason", RefusalReason)
def test_a_refusal_is_a_miss_unless_no_room_would_have_mended_it(reason):
    metrics = Metrics()
    metrics.refused(reason, SlaClass.BULK, "llama")
    seen = values(metrics)
    offered = None if reason in NO_ROOM_WOULD_MEND else 1

    assert seen["headway_refused_total", labels(reason=reason, class_="bulk")] == 1
    assert seen.get(("headway_offered_total", GOAL)) == offered
    assert seen.get(("headway_attained_total", GOAL), 0) == 0


def test_a_retry_is_counted_by_the_failure_before_it():
    metrics = Metrics()
    metrics.retried(FailureKind.BUSY)
    seen = values(metrics)

    assert seen["headway_retries_total", labels(reason="busy")] == 1
    assert seen["headway_retries_total", labels(reason="broken")] == 0


def test_the_same_place_has_the_same_series():
    metrics = Metrics()

    assert metrics.series(*PLACE) is metrics.series(*PLACE)
    assert metrics.series(*PLACE) is not metrics.series("bulk", "vllm-1", SlaClass.BULK, "llama")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=2), max_size=12), st.integers(1, 4))
def test_however_many_models_there_are_the_labels_stay_few(models, bound):
    metrics = Metrics(max_models=bound)
    for model in models:
        end(metrics.series("bulk", "vllm-0", SlaClass.BULK, model))
        metrics.refused(RefusalReason.SATURATED, SlaClass.BULK, model)
    first = list(dict.fromkeys(models))[:bound]
    counts = Counter[str]()
    for (name, place), value in values(metrics).items():
        if name == "headway_requests_total":
            counts[dict(place)["model"]] += int(value)

    assert set(counts) <= {*first, OTHER}
    assert counts.total() == len(models)


def test_an_endpoint_that_was_removed_is_no_longer_scraped_but_its_pools_history_is():
    metrics = Metrics()
    end(metrics.series(*PLACE))
    metrics.forget("vllm-0")
    text = scraped(metrics)

    assert "vllm-0" not in text
    assert values(metrics)["headway_first_token_seconds_count", HOME] == 1


@FORMATS
def test_a_gauge_is_read_at_the_moment_of_the_scrape(accept, read):
    metrics = Metrics()
    in_flight = {"vllm-0": 1}
    metrics.read(
        families.IN_FLIGHT,
        lambda: [((name, SlaClass.BULK), count) for name, count in in_flight.items()],
    )
    in_flight["vllm-0"] = 7
    seen = values(metrics, read, accept)

    assert seen["headway_in_flight", labels(endpoint="vllm-0", class_="bulk")] == 7


@FORMATS
def test_what_is_running_is_said(accept, read):
    metrics = Metrics()
    metrics.read(families.BUILD, lambda: [(("0.1.0", "3.11"), 1)])
    seen = values(metrics, read, accept)

    assert seen["headway_build_info", labels(version="0.1.0", python="3.11")] == 1


def test_a_family_that_is_counted_cannot_be_read_from_elsewhere():
    with pytest.raises(ValueError, match="'headway_requests' is counted, not read"):
        Metrics().read(families.REQUESTS, list)


@FORMATS
@settings(max_examples=50, deadline=None)
@given(value=st.text(), number=st.floats())
def test_whatever_a_label_or_number_is_a_parser_reads_it_back(accept, read, value, number):
    metrics = Metrics()
    metrics.read(families.ENGINE_KV_USAGE, lambda: [((value,), number)])
    (seen,) = [
        sample
        for family in read(scraped(metrics, accept))
        if family.name == families.ENGINE_KV_USAGE.name
        for sample in family.samples
    ]

    assert seen.labels == {"endpoint": value}
    assert seen.value == number or (math.isnan(seen.value) and math.isnan(number))


@FORMATS
def test_however_it_is_sliced_the_text_is_the_same(accept, read, monkeypatch):
    metrics = Metrics()
    for number in range(20):
        end(metrics.series("bulk", f"vllm-{number}", SlaClass.BULK, "llama"))
    whole = scraped(metrics, accept)
    monkeypatch.setattr(exposition_module, "SLICE_LINES", 1)

    assert scraped(metrics, accept) == whole


async def test_between_slices_others_get_a_turn(monkeypatch):
    metrics = Metrics()
    end(metrics.series(*PLACE))
    monkeypatch.setattr(exposition_module, "SLICE_LINES", 10)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(other())
        _, text = await exposition(metrics, "")
        task.cancel()

    assert turns >= text.count(b"\n") // 10


async def test_requests_may_end_and_begin_while_a_scrape_goes_on(monkeypatch):
    metrics = Metrics()
    for number in range(10):
        end(metrics.series("bulk", f"vllm-{number}", SlaClass.BULK, "llama"))
    monkeypatch.setattr(exposition_module, "SLICE_LINES", 1)

    async def traffic() -> None:
        for number in range(10, 200):
            end(metrics.series("bulk", f"vllm-{number}", SlaClass.BULK, f"model {number}"))
            metrics.refused(RefusalReason.SATURATED, SlaClass.BULK, f"model {number}")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(traffic())
        _, text = await exposition(metrics, "")
        task.cancel()

    assert len(list(read_plain(text.decode()))) > 10


@FORMATS
def test_the_processes_own_figures_stand_beside(accept, read):
    beside = CollectorRegistry()
    Gauge("process_things", "Things.", registry=beside).set(3)
    names = {family.name for family in read(scraped(Metrics(), accept, beside))}

    assert {"process_things", "headway_requests"} <= names


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain;version=0.0.4", "nonsense;;=,", "text/plain;version=two"],
)
def test_who_does_not_ask_for_openmetrics_gets_the_format_for_everybody(accept):
    content_type, text = asyncio.run(exposition(Metrics(), accept))

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# EOF" not in text


def test_every_name_says_headway_and_its_unit_and_every_family_is_in_the_table():
    metrics = Metrics()
    for family in READ:
        metrics.read(family, list)
    declared = [value for value in vars(families).values() if isinstance(value, families.Family)]
    published = [family for family, _ in metrics.families()]

    assert set(declared) == set(published)
    assert all(family.name.startswith("headway_") for family in declared)
    assert all(family.name.endswith(family.unit) for family in declared)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), max_size=20))
def test_a_histograms_buckets_are_what_le_says(observed):
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in observed:
        histogram.observe(value)
    below = 0
    for bound, count in zip((*histogram.bounds_s, math.inf), histogram.counts, strict=True):
        below += count

        assert below == sum(value <= bound for value in observed)
    assert histogram.total_s == pytest.approx(sum(observed))


async def test_the_loops_lag_is_how_late_a_timer_was():
    now = 0.0
    seen: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds + (0.5 if len(seen) == 1 else 0.0)
        if len(seen) == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await watch_loop(seen.append, lambda: now, sleep)

    assert seen == pytest.approx([0.0, 0.5])
    assert now == pytest.approx(3 * INTERVAL_S + 0.5)
