import pytest

from policies import admission
from policies.facts import OnMiss, RefusalReason, SlaClass
from tests.policies.builders import BULK, INTERACTIVE, ask


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
