from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import admission
from policies.admission import DrainRate, retry_after_s
from policies.facts import OnMiss, RefusalReason, SlaClass
from tests.policies.builders import BULK, INTERACTIVE, ask


def test_a_steady_rate_is_found_and_fades_when_nothing_ends():
    drain = DrainRate()
    for number in range(1000):
        drain.ended(number / 20)

    assert drain.per_s(50.0) == pytest.approx(20, rel=0.05)
    assert drain.per_s(100.0) < 0.01


def test_before_anything_ended_the_rate_is_zero():
    assert DrainRate().per_s(1e9) == 0.0


@given(st.integers(0, 10**6), st.floats(0, 10**4), st.floats(0, 100), st.integers(0, 99))
def test_coming_back_is_between_one_and_thirty_whole_seconds_away(ahead, per_s, patience_s, seed):
    back_s = retry_after_s(ahead, per_s, patience_s, Random(seed))

    assert 1.0 <= back_s <= 30.0
    assert back_s == int(back_s)


@given(st.integers(0, 99))
def test_who_comes_back_finds_no_longer_a_wait_than_it_would_accept(seed):
    back_s = retry_after_s(99, 10.0, 2.0, Random(seed))

    assert 8.0 <= back_s <= 12.0


def test_those_refused_together_come_back_apart():
    rng = Random(1)

    assert len({retry_after_s(199, 10.0, 0.0, rng) for _ in range(50)}) > 5


def test_without_a_rate_the_time_is_a_middling_guess():
    assert retry_after_s(5, 0.0, 1.0, Random(1)) == 5.0


def test_an_unknown_model_is_answered_with_those_that_are_known():
    refusal = admission.unknown_model("llama-4", ["qwen", "llama-3"])

    assert refusal.reason is RefusalReason.UNKNOWN_MODEL
    assert refusal.detail == "no pool serves model 'llama-4'"
    assert refusal.known == ("llama-3", "qwen")
    assert admission.unknown_model("x", []).known == ()


def test_what_is_missing_is_named():
    missing = admission.unsupported("m", [SlaClass.STANDARD, SlaClass.BULK], anywhere=False)
    apart = admission.unsupported("m", [SlaClass.BULK], anywhere=True)

    assert missing.detail == "no endpoint of model 'm' offers: bulk, standard"
    assert missing.missing == (SlaClass.BULK, SlaClass.STANDARD)
    assert apart.detail == "no endpoint of model 'm' offers together: bulk"


def test_a_prompt_that_is_too_long_is_told_its_length_and_the_limit():
    assert admission.too_long("m", 9000, 8192, exact=True).detail == (
        "the prompt has 9000 tokens; the longest context of model 'm' is 8192 tokens, "
        "prompt and answer together"
    )
    assert "about 9000 tokens" in admission.too_long("m", 9000, 8192, exact=False).detail


def test_no_endpoints_says_how_many_there_were():
    assert admission.no_endpoints("m", 1).detail == (
        "the only endpoint of model 'm' that can take this request is down or draining"
    )
    assert admission.no_endpoints("m", 3).detail == (
        "none of the 3 endpoints of model 'm' that can take this request is up"
    )


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        (ask(BULK), RefusalReason.DEADLINE, "past its deadline of 60 s"),
        (
            ask(INTERACTIVE, on_miss=OnMiss.REJECT),
            RefusalReason.DEADLINE,
            "past its first-token target of 0.5 s",
        ),
        (ask(INTERACTIVE), RefusalReason.EXPIRED, "past the 2 s that the class interactive waits"),
    ],
    ids=["deadline", "target", "wait"],
)
def test_a_late_request_is_told_which_limit_it_passed(asked, reason, words):
    refusal = admission.late(asked, 61.0, 3.0)

    assert refusal.reason is reason
    assert words in refusal.detail
    assert "within 61 s" in refusal.detail
    assert refusal.retry_after_s == 3.0


def test_giving_up_tells_who_failed_how_and_how_often():
    assert (
        admission.gave_up("e", "broken", 1).detail == "endpoint 'e' failed (broken) after 1 attempt"
    )
    assert (
        admission.gave_up("e", "broken", 3).detail
        == "endpoint 'e' failed (broken) after 3 attempts"
    )


@pytest.mark.parametrize(
    ("asked", "now", "expected"),
    [
        (ask(BULK), 59.9, False),
        (ask(BULK), 60.0, True),
        (ask(INTERACTIVE), 9.0, False),
        (ask(INTERACTIVE, on_miss=OnMiss.REJECT), 0.4, False),
        (ask(INTERACTIVE, on_miss=OnMiss.REJECT), 0.5, True),
        (ask(BULK, on_miss=OnMiss.REJECT), 9.0, False),
    ],
)
def test_an_answer_is_pointless_when_nobody_wants_it_any_more(asked, now, expected):
    assert admission.pointless(asked, now) is expected
