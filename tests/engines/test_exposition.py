"""Prometheus text as engines write it, and as they could."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from engines import exposition

TEXT = r"""# HELP m Says "m 7".
# TYPE m gauge
m{a="x",b="1,2"} 1.5
m{a="y"} 2 1700000000
  m 100
m_total 3
mm 4
m{a="q\"}\\n\n"} 1e1
m{broken 9
m{a="z"}
m NaN
m +Inf
m zero
other{} 5 # {trace="1"} 0.5
crlf 6
""".replace("crlf 6\n", "crlf 6\r\n")


def test_only_lines_that_were_asked_for_and_make_sense_are_read():
    samples = exposition.read(TEXT, {"m", "other", "crlf", "absent"})

    assert [(dict(sample.labels), sample.value) for sample in samples.of("m")] == [
        ({"a": "x", "b": "1,2"}, 1.5),
        ({"a": "y"}, 2.0),
        ({"a": 'q"}\\n\n'}, 10.0),
    ]
    assert samples.total("other") == 5
    assert samples.total("crlf") == 6


def test_the_first_name_that_is_there_answers():
    samples = exposition.read("b 1\nb 2\nc 30\n", {"a", "b", "c"})

    assert samples.total("a", "b", "c") == 3
    assert samples.mean("a", "b", "c") == 1.5
    assert samples.count("c") == 30


def test_a_metric_that_is_not_there_is_not_zero():
    samples = exposition.read("", {"a"})

    assert (samples.total("a"), samples.mean("a"), samples.count("a")) == (None, None, None)


def test_samples_can_be_narrowed_to_a_label():
    samples = exposition.read('a{rank="0"} 1\na{rank="1"} 2\na 4\n', {"a"}).where("rank", "0")

    assert samples.total("a") == 5


@given(
    values=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    ),
    write=st.sampled_from([generate_latest, generate_openmetrics]),
)
def test_what_prometheus_writes_is_read_back(values, write):
    registry = CollectorRegistry()
    gauge = Gauge("depth", "how deep", ["place"], registry=registry)
    for place, value in values.items():
        gauge.labels(place).set(value)

    samples = exposition.read(write(registry).decode(), {"depth"})

    assert {sample.labels["place"]: sample.value for sample in samples.of("depth")} == values


@pytest.mark.parametrize("lines", [0, 1, 2000])
def test_many_lines_that_nobody_asked_for_are_passed_over(lines):
    text = "vllm:bucket_bucket{le='1'} 3\n" * lines + "vllm:running 2\n"

    assert exposition.read(text, {"vllm:running"}).count("vllm:running") == 2
