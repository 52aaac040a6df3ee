"""The accounts of the fault runner: what counts as served, and what cannot be taken for it."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.faults.catalogue import FAULTS, Fault, nothing
from tests.faults.crowd import Account, Fate, Moment, doubled, judged_error, read_stream
from tests.faults.gate import value_of
from tests.faults.lines import Line
from tests.faults.markov import continued
from tests.faults.matrix import Row, flaws_of, table
from tests.faults.schedules import judged
from tests.faults.written import merged
from tests.policies.fault_world import Tally

MARK = b"data: [DONE]\n\n"


def account(**changes):
    usual: dict[str, Any] = {
        "id": "r",
        "stream": True,
        "sla_class": "bulk",
        "prompt": 0,
        "sent_at": 0.0,
    }
    return Account(**(usual | changes))


def event(text):
    return b"data: %b\n\n" % json.dumps({"choices": [{"text": text}]}).encode()


def row(**fates):
    cells = {moment: Counter[Fate]() for moment in Moment}
    cells[Moment.LATER] = Counter({Fate(name): count for name, count in fates.items()})
    return Row("a fault", cells, doubled=0, back_s=0.5)


def test_a_stream_is_whole_only_with_its_mark():
    told = account()

    assert read_stream(told, event(" a") + event(" b") + MARK) == (True, None)
    assert told.text == " a b"
    assert read_stream(account(), event(" a")) == (False, None)
    assert read_stream(account(), event(" a") + MARK[:5]) == (False, None)


def test_an_error_in_a_stream_is_seen_even_with_the_mark():
    ended, error = read_stream(account(), b'data: {"error":{"code":"x"}}\n\n' + MARK)

    assert ended
    assert error is not None


@pytest.mark.parametrize(
    ("status", "body", "fate"),
    [
        (503, b'{"error":{"code":"c","message":"m"}}', Fate.REFUSED),
        (502, b'{"error":{"code":"c","message":"m"}}', Fate.FAILED),
        (502, b"oops", Fate.LOST),
        (502, b'{"error":"oops"}', Fate.LOST),
    ],
)
def test_an_error_must_say_what_is_wrong(status, body, fate):
    assert judged_error(status, body)[0] is fate


def test_what_two_engines_answered_is_doubled():
    answered = Counter({"a": 1, "b": 2})
    accounts = [account(id="a"), account(id="b"), account(id="c")]

    assert [each.id for each in doubled(lambda id_: answered[id_], accounts)] == ["b"]


def test_a_failure_that_others_could_have_prevented_is_a_flaw_and_one_with_text_out_is_none():
    fault = Fault("x", nothing)
    needless = account(fate=Fate.FAILED)
    begun = account(fate=Fate.FAILED, bytes_seen=90, text=" a")

    assert len(flaws_of(row(failed=2), fault, [needless, begun])) == 1
    assert flaws_of(row(failed=1), fault, [begun]) == []
    assert flaws_of(row(failed=1), Fault("x", nothing, spares=False), [needless]) == []


def test_whatever_is_lost_wrong_doubled_or_never_back_is_a_flaw():
    played = row(lost=1, wrong=1, served=5)
    played.doubled, played.back_s = 1, None

    assert len(flaws_of(played, Fault("x", nothing), [])) == 3


def test_the_table_has_a_line_for_each_fault_and_a_column_for_each_moment():
    lines = table([row(served=3, failed=1)]).splitlines()

    assert lines[2] == "| a fault | - | - | - | - | 3 served, 1 failed | 0 | 0 | 0.5 s |"
    assert len({line.count("|") for line in lines}) == 1


def test_there_are_enough_faults_and_no_two_of_a_name():
    names = [fault.name for fault in FAULTS]

    assert len(names) >= 24
    assert len(set(names)) == len(names)


def test_a_cut_text_is_continued_as_if_it_had_not_been_cut():
    whole = continued("once", 12)
    half = continued("once", 5)

    assert half + continued("once" + half, 7) == whole


def test_a_header_is_found_whatever_its_case():
    head = b"POST / HTTP/1.1\r\nX-Request-ID: abc\r\n\r\n"

    assert value_of(head, b"x-request-id") == "abc"
    assert value_of(head, b"missing") == ""


def test_what_is_played_again_replaces_what_was_written_and_the_rest_stays():
    first, second = FAULTS[0].name, FAULTS[1].name
    one, other = row(served=1), row(served=2)
    one.name, other.name = second, first
    before = merged("", [one], [Line("kill", "once"), Line("crowd", "full")])
    after = merged(before, [other], [Line("kill", "twice", ["too late"])])
    names = [each.split("|")[1].strip() for each in after.splitlines() if each.startswith("|")]

    assert names == ["fault", "---", first, second]
    assert "* kill: twice. Falls short: too late.\n* crowd: full.\n" in after


@pytest.mark.parametrize(
    ("counts", "flaw"),
    [
        ({"false": 3}, "false ejections"),
        ({"missed": 2}, "faults missed"),
        ({"late": 4}, "not back in time"),
    ],
    ids=["false", "missed", "late"],
)
def test_schedules_that_are_judged_wrongly_too_often_are_a_flaw(counts, flaw):
    tally = Tally(schedules=200, healthy=600, judged=100)
    tally.join(Tally(schedules=100, healthy=300, judged=50, **counts))

    assert [each.split(":")[0] for each in judged(tally).flaws] == [flaw]
    assert judged(tally).said.startswith("300 played")


def test_schedules_that_are_judged_rightly_are_none():
    assert judged(Tally(schedules=300, healthy=900, judged=150, missed=1)).flaws == []
