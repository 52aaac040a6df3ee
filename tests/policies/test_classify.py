import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.classify import RANK, Why, classify, standard_of
from policies.facts import ANYTHING, OnMiss, RequestFacts, SlaClass, Targets
from policies.lengths import Lengths
from policies.policy import Classes, Classification, ClassPolicy, ModelPolicy, Policy
from tests.policies.builders import BULK, INTERACTIVE, STANDARD, ask

times = st.none() | st.floats(0.001, 1000.0)
targets = st.builds(Targets, times, times, times)


@pytest.mark.parametrize(
    ("wanted", "sla_class", "why"),
    [
        (Targets(), STANDARD, Why.MODEL),
        (Targets(first_token_s=1.0), INTERACTIVE, Why.TARGETS),
        (Targets(first_token_s=1.001), STANDARD, Why.MODEL),
        (Targets(per_token_s=0.06), INTERACTIVE, Why.TARGETS),
        (Targets(per_token_s=0.061), STANDARD, Why.MODEL),
        (Targets(deadline_s=0.5), BULK, Why.TARGETS),
        (Targets(first_token_s=5.0, deadline_s=9.0), STANDARD, Why.MODEL),
        (Targets(first_token_s=5.0, per_token_s=0.01), INTERACTIVE, Why.TARGETS),
        (Targets(first_token_s=0.2, deadline_s=9.0), INTERACTIVE, Why.TARGETS),
    ],
)
def test_targets_decide_the_class_where_none_is_named(wanted, sla_class, why):
    asked = ask(targets=wanted)

    assert (asked.sla_class, asked.why) == (sla_class, why)


def test_a_caller_with_no_wish_gets_the_default_class():
    asked = ask(wish=ANYTHING)

    assert (asked.sla_class, asked.why) == (STANDARD, Why.MODEL)


def test_a_caller_s_timeout_bounds_the_wait_and_says_nothing_of_class():
    asked = ask(patience_s=5.0, now=100.0)

    assert asked.sla_class is STANDARD
    assert asked.finish_by == asked.wait_until == 105.0


def test_the_earlier_of_deadline_and_timeout_counts():
    assert ask(BULK, patience_s=5.0).finish_by == 5.0
    assert ask(BULK, patience_s=500.0).finish_by == 60.0


@pytest.mark.parametrize("named", SlaClass)
@pytest.mark.parametrize("ceiling", SlaClass)
def test_no_class_is_above_the_callers_ceiling(named, ceiling):
    asked = ask(named, ceiling=ceiling)

    assert asked.rank == max(RANK[named], RANK[ceiling])
    assert asked.why is (Why.CEILING if RANK[named] < RANK[ceiling] else Why.NAMED)


def test_a_model_has_its_own_default_class_and_targets():
    policy = Policy(
        classification=Classification(default_class=BULK),
        models={"m": ModelPolicy(STANDARD, standard=Targets(first_token_s=7.0))},
    )

    mine, other = ask(policy=policy, wish=ANYTHING), ask(policy=policy, wish=ANYTHING, model="o")

    assert (mine.sla_class, mine.targets) == (STANDARD, Targets(7.0, 0.10))
    assert (other.sla_class, other.targets) == (BULK, Targets(deadline_s=60.0))


@given(wanted=targets, sla_class=st.sampled_from(SlaClass))
def test_each_target_is_the_callers_where_given_and_else_the_policys(wanted, sla_class):
    asked = ask(sla_class, targets=wanted)

    own = Policy().of_class(sla_class).targets
    for name in ("first_token_s", "per_token_s", "deadline_s"):
        given_value = getattr(wanted, name)
        expected = getattr(own, name) if given_value is None else given_value
        assert getattr(asked.targets, name) == expected


@given(
    wanted=targets, sla_class=st.none() | st.sampled_from(SlaClass), on_miss=st.sampled_from(OnMiss)
)
def test_nobody_waits_past_a_deadline_or_for_an_answer_that_is_not_wanted(
    wanted, sla_class, on_miss
):
    asked = ask(sla_class, targets=wanted, on_miss=on_miss, now=10.0)

    if asked.finish_by is not None:
        assert asked.wait_until <= asked.finish_by
    if on_miss is OnMiss.REJECT and asked.first_token_by is not None:
        assert asked.wait_until <= asked.first_token_by
    assert asked.wait_until > 10.0


def test_a_late_answer_is_waited_for_where_it_is_wanted():
    assert ask(INTERACTIVE, on_miss=OnMiss.SERVE).wait_until == 2.0
    assert ask(INTERACTIVE, on_miss=OnMiss.REJECT).wait_until == 0.5
    assert ask(INTERACTIVE, targets=Targets(first_token_s=9.0)).wait_until == 9.0


def test_what_the_caller_does_not_say_of_a_miss_the_class_says():
    policy = Policy(classes=Classes(standard=ClassPolicy(on_miss=OnMiss.REJECT)))

    assert ask(STANDARD, policy=policy).on_miss is OnMiss.REJECT
    assert ask(STANDARD, policy=policy, on_miss=OnMiss.SERVE).on_miss is OnMiss.SERVE


def test_a_length_in_token_ids_is_exact():
    assert ask(known_prompt_tokens=7, prompt_bytes=4000).prompt_tokens == 7


def test_a_length_in_bytes_is_estimated():
    asked = ask(prompt_bytes=1000)

    assert (asked.prompt_tokens, asked.prompt_samples) == (271, 0)


def test_the_callers_bound_caps_the_expected_output_and_choices_multiply_it():
    asked = ask(max_tokens=200, choices=3)

    assert (asked.output_p50_tokens, asked.output_p90_tokens) == (390.0, 600.0)
    assert asked.answer_tokens == 200


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"known_prompt_tokens": 4096}, True),
        ({"known_prompt_tokens": 4097}, False),
        ({"max_tokens": 1024}, True),
        ({"max_tokens": 1025}, False),
        ({"max_tokens": 1024, "choices": 8}, True),
        ({}, True),
    ],
)
def test_what_is_long_does_not_fit_predictable_pools(changes, fits):
    assert ask(**changes).fits_predictable is fits


def test_what_was_learned_is_used():
    lengths, asked = Lengths(), RequestFacts("r", "m", frozenset(), prompt_bytes=1000)
    for _ in range(300):
        lengths.learn(asked, RANK[STANDARD], 271, prompt_tokens=500, output_tokens=900)

    learned = classify(asked, standard_of(Policy(), "m"), lengths, 0.0)

    assert learned.prompt_tokens == pytest.approx(500, rel=0.01)
    assert learned.output_p50_tokens == pytest.approx(900, rel=0.05)
    assert (learned.prompt_samples, learned.output_samples) == (300, 256)
