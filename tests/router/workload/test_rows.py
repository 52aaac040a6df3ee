"""Traces: every form is read, every flaw is said with its line, no size is too large."""

import gzip
import json
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.workload.load import trace_names, trace_path
from router.workload.rows import MAX_LINE_CHARACTERS, Row, TraceError, read_rows

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
SERVEGEN = "arrival_s,client_id,input_tokens,output_tokens\n5.0,17,245,22\n6.5,3,252,0\n"
VIDUR = "num_prefill_tokens,num_decode_tokens,pd_ratio\n3772,54,69.8\n"
OURS = "arrival_s,prompt_tokens,output_tokens,tenant\n0,10,20,alice\n"
MOONCAKE = "\n".join(
    json.dumps({"timestamp": at, "input_length": 6758, "output_length": 500, "hash_ids": [0, at]})
    for at in (1000, 4000)
)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", AZURE, [Row(2, 0.0, 374, 44), Row(3, 4.314579, 396, 109)]),
        ("a.csv.gz", SERVEGEN, [Row(2, 0.0, 245, 22, "17"), Row(3, 1.5, 252, 1, "3")]),
        ("a.csv", VIDUR, [Row(2, None, 3772, 54)]),
        ("a.csv", "\ufeff" + OURS, [Row(2, 0.0, 10, 20, "alice")]),
        (
            "a.jsonl.gz",
            MOONCAKE,
            [Row(1, 0.0, 6758, 500, "", (0, 1000)), Row(2, 3.0, 6758, 500, "", (0, 4000))],
        ),
        ("a.jsonl", MOONCAKE + "\n\n", [Row(1, 0.0, 6758, 500, "", (0, 1000))]),
    ],
    ids=["azure", "servegen", "lengths alone", "own columns", "mooncake", "blank lines"],
)
def test_every_form_of_trace_is_read(tmp_path, name, text, rows):
    read = list(read_rows(written(tmp_path, name, text)))

    assert [row.line for row in read[: len(rows)]] == [row.line for row in rows]
    for row, wanted in zip(read, rows, strict=False):
        assert row.at_s == (None if wanted.at_s is None else pytest.approx(wanted.at_s, abs=1e-5))
        assert (row.prompt_tokens, row.output_tokens) == (
            wanted.prompt_tokens,
            wanted.output_tokens,
        )
        assert (row.client, row.prefix) == (wanted.client, wanted.prefix)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv: holds no request"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "a.csv: holds no request"),
        ("a.txt", OURS, "is no trace; .csv, .csv.gz, .jsonl or .jsonl.gz would be"),
        ("a.csv", "x,y\n1,2\n", "line 1: has the columns x, y; known sets of columns: TIMESTAMP"),
        ("a.jsonl", '{"x": 1}', "line 1: has the columns x; known sets"),
        ("a.jsonl", "[1]", "line 1: is no JSON object"),
        ("a.jsonl", "{", "line 1: is not JSON: expecting property name"),
        ("a.csv", OURS + "1,2\n", "line 3: has 2 of 4 columns"),
        ("a.csv", OURS + "1,ten,5,b\n", "line 3: column 'prompt_tokens' is 'ten', not a whole"),
        ("a.csv", OURS + "1,0,5,b\n", "column 'prompt_tokens' is 0; 1 to 100000000 would be right"),
        ("a.csv", OURS + "1,-4,5,b\n", "column 'prompt_tokens' is -4; 1 to"),
        ("a.csv", OURS + "1,5,1e9,b\n", "column 'output_tokens' is '1e9', not a whole number"),
        ("a.csv", OURS + "1,5,999999999999,b\n", "is 999999999999; 0 to"),
        ("a.csv", OURS + "soon,5,5,b\n", "column 'arrival_s' is 'soon', not a time"),
        ("a.csv", OURS + "nan,5,5,b\n", "column 'arrival_s' is 'nan', not a time"),
        ("a.csv", OURS + "3,5,5,b\n1,5,5,b\n", "line 4: goes back in time, by 2 s; sort the file"),
        ("a.csv", AZURE + "yesterday,5,5\n", "column 'TIMESTAMP' is 'yesterday', not a time"),
        (
            "a.jsonl",
            '{"timestamp":0,"input_length":1,"output_length":1,"hash_ids":"x"}',
            "prefix ids are 'x', not a list of whole numbers",
        ),
        (
            "a.jsonl",
            '{"timestamp":0,"input_length":true,"output_length":1}',
            "column 'input_length' is True, not a whole number",
        ),
        ("a.csv", '"' + "x" * MAX_LINE_CHARACTERS, f"more than {MAX_LINE_CHARACTERS} characters"),
        ("a.csv", "x" * 200_000 + "\n", "line 1: is not CSV: field larger than field limit"),
    ],
)
def test_a_flaw_is_told_with_its_place_and_what_would_be_right(tmp_path, name, text, message):
    with pytest.raises(TraceError) as caught:
        list(read_rows(written(tmp_path, name, text)))

    assert message in str(caught.value)


def test_a_long_wrong_value_is_cut_short(tmp_path):
    with pytest.raises(TraceError) as caught:
        list(read_rows(written(tmp_path, "a.csv", OURS + f"1,{'z' * 500},5,b\n")))

    assert len(str(caught.value)) < 200


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TraceError, match=r"gone\.csv: cannot be read: no such file"):
        list(read_rows(tmp_path / "gone.csv"))


@pytest.mark.parametrize("cut", [1, 12, 40])
def test_a_gzip_file_that_was_cut_off_is_told_as_such(tmp_path, cut):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(AZURE.encode())[:-cut])

    with pytest.raises(TraceError, match=r"a\.csv\.gz: cannot be read"):
        list(read_rows(path))


def test_what_only_claims_to_be_gzip_is_told_as_such(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(AZURE.encode())

    with pytest.raises(TraceError, match="cannot be read: not a gzipped file"):
        list(read_rows(path))


def test_what_is_not_text_is_told_as_such(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"arrival_s,\xff\xfe\n")

    with pytest.raises(TraceError, match="is not UTF-8"):
        list(read_rows(path))


def test_a_huge_trace_is_read_in_the_memory_of_a_line(tmp_path):
    path = tmp_path / "huge.csv.gz"
    with gzip.open(path, "wt", compresslevel=1) as out:
        out.write(OURS.splitlines()[0] + "\n")
        out.writelines(f"{at},100,100,someone\n" for at in range(5_000))
    tracemalloc.start()

    count = sum(1 for _ in read_rows(path))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 5_000
    assert peak_bytes < 300_000


def test_a_flaw_far_away_does_not_keep_the_requests_before_it(tmp_path):
    path = written(tmp_path, "a.csv", OURS + "oops\n")

    assert [row.prompt_tokens for row in islice(read_rows(path), 1)] == [10]


@given(
    rows=st.lists(
        st.tuples(st.floats(0, 1e6, allow_nan=False), st.integers(1, 10**6), st.integers(0, 10**6)),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=30, deadline=None)
def test_what_was_written_is_read_again(tmp_path_factory, rows: Iterable[tuple[float, int, int]]):
    ordered = sorted(rows)
    text = "arrival_s,input_tokens,output_tokens\n"
    text += "".join(f"{at!r},{prompt},{output}\n" for at, prompt, output in ordered)
    path = written(tmp_path_factory.mktemp("trace"), "a.csv", text)

    read = list(read_rows(path))

    assert [row.at_s for row in read] == [at - ordered[0][0] for at, _, _ in ordered]
    assert [row.prompt_tokens for row in read] == [prompt for _, prompt, _ in ordered]
    assert [row.output_tokens for row in read] == [max(1, output) for _, _, output in ordered]


@given(text=st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_text_whatever_raises_anything_but_a_trace_error(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("noise")
    for name in ("a.csv", "a.jsonl"):
        path = folder / name
        path.write_text(OURS.splitlines()[0] * (name == "a.csv") + "\n" + text, encoding="utf-8")
        with suppress(TraceError):
            list(read_rows(path))


@pytest.mark.parametrize("name", trace_names())
def test_the_traces_that_come_with_the_package_are_whole(name):
    rows = list(read_rows(trace_path(name)))

    assert len(rows) >= 1900
    assert max(row.prompt_tokens for row in rows) > 1000
