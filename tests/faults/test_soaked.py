"""What a long run is judged by."""

import json

import pytest

from tests.faults.crowd import Account, Fate
from tests.faults.soaked import Record, Sample, Strike, document, judge
from tests.faults.stillness import Stillness


def account(sent_at=1.0, took_s=1.0, fate=Fate.SERVED, sla="met", *, stream=True):
    return Account(
        id="r",
        stream=stream,
        sla_class="interactive",
        prompt=0,
        sent_at=sent_at,
        ended_at=sent_at + took_s,
        fate=fate,
        receipt={"sla": sla},
    )


def sample(at, memory_mb=60.0, tasks=9.0):
    return Sample(at, memory_mb, 40.0, tasks, 9.0, 3.0)


def record(*accounts, strikes=(), still=()):
    samples = [sample(5.0 * number) for number in range(10)]
    return Record(
        0.0, list(accounts), Stillness(_spells=list(still)), list(strikes), samples, back_s=0.0
    )


def test_a_run_in_which_all_are_served_in_time_is_as_promised():
    line = judge(record(account(), account(took_s=9.0, sla="none", stream=False)))

    assert line.flaws == []
    assert "met 100.00% of 2" in line.said


@pytest.mark.parametrize(
    ("made", "flaw"),
    [
        (account(fate=Fate.LOST), "1 lost"),
        (account(fate=Fate.WRONG), "1 lost"),
        (account(sla="missed"), "interactive met only 0.00%"),
        (account(fate=Fate.REFUSED), "interactive met only 0.00%"),
        (account(took_s=12.0, sla="none", stream=False), "interactive met only 0.00%"),
    ],
    ids=["lost", "wrong", "late", "refused", "late as a whole"],
)
def test_who_is_not_served_in_time_is_a_flaw(made, flaw):
    assert any(each.startswith(flaw) for each in judge(record(made)).flaws)


def test_whom_too_few_endpoints_could_have_served_is_not_judged():
    strike = Strike("all pools down", ("a", "b", "c"), 0.5, 1.5)
    of_two = Strike("one pool down", ("a", "b"), 0.5, 1.5)
    refused = account(fate=Fate.REFUSED)

    assert judge(record(account(), account(5.0), refused, strikes=[strike])).flaws == []
    assert judge(record(account(), account(5.0), refused, strikes=[of_two])).flaws


def test_two_faults_at_once_take_what_both_take():
    strikes = [Strike("one", ("a", "b"), 0.5, 1.2), Strike("another", ("b", "c"), 1.3, 1.9)]

    assert not record(strikes=strikes).had_capacity(account())


def test_a_machine_that_stood_still_is_not_judged_but_may_not_do_so_for_long():
    late = account(fate=Fate.LOST)
    others = [account(10.0 + number) for number in range(60)]

    assert judge(record(late, *others, still=[(1.2, 2.4)])).flaws == []
    assert any("no judgement" in each for each in judge(record(late, still=[(1.2, 2.4)])).flaws)
    assert judge(record(late, *others, still=[(1.2, 1.8)])).flaws


def test_what_grows_is_a_flaw():
    made = record(account())
    made.samples = [sample(5.0 * number, memory_mb=60.0 + 2.0 * number) for number in range(20)]
    leaking = record(account())
    leaking.samples = [sample(5.0 * number, tasks=5.0 * number) for number in range(20)]

    assert "grew by" in judge(made).flaws[0]
    assert "grew by" in judge(leaking).flaws[0]


def test_requests_held_in_the_end_are_a_flaw():
    made = record(account())
    made.left = 2.0

    assert judge(made).flaws == ["2 requests are held, or an endpoint is not used again"]


def test_the_document_tells_of_every_request_that_went_amiss():
    made = record(account(fate=Fate.LOST), account(5.0), strikes=[Strike("cut", ("a",), 0.5, 1.5)])
    told = json.loads(document(made, judge(made)))

    assert told["fates"] == {"lost": 1, "served": 1}
    assert [each["beside"] for each in told["amiss"]] == [["cut -0.5..+0.5 s"]]
    assert len(told["samples"]) == 10
    assert json.loads(document(made, None))["falls_short"] is None
