import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.facts import SlaClass, Targets
from router.demo.tally import Answer, NoAnswer, Tally, met, percentile

seconds = st.floats(0.0, 100.0)
answers = st.builds(
    Answer,
    pool=st.sampled_from(["a", "b"]),
    first_token_s=seconds,
    per_token_s=st.none() | seconds,
    total_s=seconds,
)
outcomes = answers | st.builds(NoAnswer, why=st.sampled_from(["429", "503"]))
TARGETS = Targets(first_token_s=1.0, per_token_s=0.1)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (Answer("a", 1.0, 0.1, 60.0), True),
        (Answer("a", 1.0, None, 60.0), True),
        (Answer("a", 1.1, 0.1, 60.0), False),
        (Answer("a", 1.0, 0.2, 60.0), False),
    ],
    ids=["on the mark", "one token", "late first token", "slow tokens"],
)
def test_an_answer_is_in_time_when_it_keeps_every_target(answer, kept):
    assert met(answer, TARGETS) is kept


def test_a_deadline_counts_the_whole_answer():
    assert met(Answer("a", 9.0, 9.0, 60.0), Targets(deadline_s=60.0))
    assert not met(Answer("a", 0.1, 0.1, 60.1), Targets(deadline_s=60.0))


@given(values=st.lists(seconds, min_size=1), share=st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values, share):
    answer = percentile(values, share)

    assert answer in values
    assert sum(value <= answer for value in values) >= share * len(values) - 1e-9
    assert sum(value < answer for value in values) < share * len(values)


def test_there_is_no_percentile_of_nothing():
    assert percentile([], 0.5) is None


@given(st.lists(outcomes))
def test_every_request_is_counted_once(results):
    tally = Tally({SlaClass.BULK: TARGETS})
    for outcome in results:
        tally.asked(SlaClass.BULK)
        tally.ended(SlaClass.BULK, outcome)
    tally.asked(SlaClass.BULK)

    row = tally.rows[SlaClass.BULK]
    assert row.ended == len(results)
    assert row.in_flight == 1
    assert tally.answered + row.missing.total() == len(results)
    assert row.pools.total() == len(row.answers)
    assert sum(row.pool_shares().values()) == pytest.approx(1.0 if row.answers else 0.0)


def test_a_refusal_is_a_miss():
    tally = Tally({SlaClass.BULK: TARGETS})
    for outcome in (Answer("a", 0.5, 0.05, 1.0), NoAnswer("429")):
        tally.asked(SlaClass.BULK)
        tally.ended(SlaClass.BULK, outcome)

    assert tally.rows[SlaClass.BULK].attained == 0.5


def test_a_caller_that_left_is_neither_met_nor_missed():
    tally = Tally({SlaClass.BULK: TARGETS})
    tally.asked(SlaClass.BULK)
    tally.left(SlaClass.BULK)

    row = tally.rows[SlaClass.BULK]
    assert (row.in_flight, row.left, row.ended, row.attained) == (0, 1, 0, None)


def test_an_answer_of_one_token_has_no_gap():
    tally = Tally({SlaClass.BULK: TARGETS})
    for gap in (None, 0.2, None):
        tally.asked(SlaClass.BULK)
        tally.ended(SlaClass.BULK, Answer("a", 0.5, gap, 1.0))

    assert tally.rows[SlaClass.BULK].per_token_s(0.95) == 0.2
