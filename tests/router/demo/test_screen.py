import json
import tomllib
from io import StringIO

import pytest
from rich.console import Console

from engines.launch.profiles import Profile
from policies.facts import SlaClass, Targets
from router.demo import screen
from router.demo.stage import Pool, configuration
from router.demo.tally import Answer, NoAnswer, Tally

POOLS = [
    Pool("predictable", Profile.PREDICTABLE, "http://127.0.0.1:9001", 2),
    Pool("throughput", Profile.THROUGHPUT, "http://127.0.0.1:9002", 8),
]


@pytest.fixture
def tally():
    counted = Tally(
        {
            SlaClass.INTERACTIVE: Targets(first_token_s=1.0, per_token_s=0.1),
            SlaClass.BULK: Targets(deadline_s=60.0),
        }
    )
    for outcome in (
        Answer("predictable", 0.25, 0.05, 1.0),
        Answer("throughput", 1.5, 0.05, 2.0),
        NoAnswer("503"),
        Answer("predictable", 0.25, 0.05, 1.0),
    ):
        counted.asked(SlaClass.INTERACTIVE)
        counted.ended(SlaClass.INTERACTIVE, outcome)
    counted.asked(SlaClass.BULK)
    return counted


def shown(renderable, width=80):
    written = StringIO()
    Console(file=written, width=width).print(renderable)
    return written.getvalue()


def lines_of(text, first):
    """Return the words of the line that begins with a class, and of the two below it."""
    lines = [line.split() for line in text.splitlines()]
    at = next(at for at, words in enumerate(lines) if words[:1] == [first])
    return lines[at : at + 3]


def test_a_class_is_shown_with_its_targets_and_where_it_ran_even_in_80_columns(tally):
    assert lines_of(shown(screen.table(tally, "so far")), "interactive") == [
        ["interactive", "4", "0", "1", "x", "503", "250", "1,500", "50", "50%",
         "predictable", "67%"],
        ["TTFT", "1", "s", "throughput", "33%"],
        ["TPOT", "0.1", "s"],
    ]  # fmt: skip


def test_a_class_without_an_answer_yet_shows_no_figures(tally):
    first, second, _ = lines_of(shown(screen.table(tally, "so far")), "bulk")

    assert first == ["bulk", "0", "1", "-", "-", "-", "-", "-", "-"]
    assert second == ["whole", "60", "s"]


@pytest.mark.parametrize(("seconds", "words"), [(30.0, "12 s of 30 s"), (None, "until Ctrl-C")])
def test_the_title_says_how_long_it_goes_on(tally, seconds, words):
    assert words in shown(screen.live(tally, 12.0, seconds))


def test_the_last_line_is_json_with_a_figure_for_each_column(tally):
    tally.left(SlaClass.BULK)
    said = json.loads(json.dumps(screen.summary(tally, 12.34, "http://127.0.0.1:1")))

    assert said["seconds"] == 12.3
    assert said["classes"]["interactive"] == {
        "requests": 4,
        "unfinished": 0,
        "answered": 3,
        "no_answer": {"503": 1},
        "ttft_p50_ms": 250.0,
        "ttft_p95_ms": 1500.0,
        "tpot_p50_ms": 50.0,
        "attained": 0.5,
        "pools": {"predictable": 0.6667, "throughput": 0.3333},
    }
    assert said["classes"]["bulk"]["unfinished"] == 1
    assert said["classes"]["bulk"]["ttft_p50_ms"] is None


def test_the_invitation_names_the_address_for_curl_and_for_the_sdk():
    text = screen.invitation("http://127.0.0.1:8080", POOLS)

    assert "curl -N http://127.0.0.1:8080/v1/chat/completions" in text
    assert 'OpenAI(base_url="http://127.0.0.1:8080/v1"' in text
    assert "throughput: llama.cpp with 8 slots, http://127.0.0.1:9002" in text


def test_the_curl_command_sends_a_body_that_is_json():
    _, _, body = screen.invitation("http://127.0.0.1:8080", POOLS).partition("-d '")

    assert json.loads(body.partition("'")[0])["stream"] is True


def test_the_configuration_holds_a_pool_for_each_engine():
    document = tomllib.loads(configuration(8080, POOLS))

    assert document["server"] == {"host": "127.0.0.1", "port": 8080}
    assert [pool["profile"] for pool in document["pools"]] == ["predictable", "throughput"]
    assert document["pools"][1]["endpoints"] == [
        {
            "id": "llamacpp-throughput",
            "engine": "llamacpp",
            "url": "http://127.0.0.1:9002",
            "max_in_flight": 8,
        }
    ]
