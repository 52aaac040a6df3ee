"""Variants get their share exactly, keep what is theirs, and shadows cost nobody anything."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.commands import Send
from policies.dispatcher import Dispatcher
from policies.explaining import Goes
from policies.facts import Ending, FailureKind, Reason, RefusalReason, Refuse
from policies.policy import ModelPolicy, Policy, Shadow, Sticky, Variant
from policies.variants import Split
from tests.policies.builders import FAST, WIDE, dispatcher, facts, plan, refused, sent, waits

NEW = Variant(0.1, endpoints=("new",))


def canary(share: float = 0.1, **more: object) -> Policy:
    variant = Variant(share, endpoints=("new",))
    own = ModelPolicy(variants={"canary": variant}, **more)  # type: ignore[arg-type] # its fields
    return Policy(models={"m": own})


def shadowed(share: float = 1.0, most: int = 8) -> Policy:
    shadow = Shadow(share, endpoints=("new",), max_in_flight=most)
    return Policy(models={"m": ModelPolicy(shadow=shadow)})


def two(policy: Policy, slots: int = 1000) -> Dispatcher:
    return dispatcher(
        plan("old", max_in_flight=slots), plan("new", max_in_flight=slots), policy=policy
    )


@given(share=st.floats(0.001, 0.999), window=st.integers(1, 400), skipped=st.integers(0, 50))
def test_over_any_window_a_share_is_exact_to_one_request(share, window, skipped):
    split = Split("m", ModelPolicy(variants={"canary": Variant(share, endpoints=("new",))}))
    names = [split.choose(facts()) for _ in range(skipped + window)][skipped:]

    assert abs(names.count("canary") - share * window) <= 1 + 1e-6


def test_ten_percent_of_a_thousand_requests_is_a_hundred():
    router = two(canary())
    places = [sent(router.arrive(facts(), 0.0)).endpoint.id for _ in range(1000)]

    assert Counter(places) == {"old": 900, "new": 100}


def test_a_session_keeps_to_its_variant_and_a_growing_share_takes_none_back():
    sessions = [facts(session=f"s{number}") for number in range(2000)]
    at_ten, at_thirty = (
        {
            each.session
            for each in sessions
            if Split(
                "m", ModelPolicy(variants={"canary": Variant(share, endpoints=("new",))})
            ).choose(each)
            == "canary"
        }
        for share in (0.1, 0.3)
    )

    assert at_ten < at_thirty
    assert 140 < len(at_ten) < 260
    assert 520 < len(at_thirty) < 680


def test_requests_without_a_session_make_up_for_uneven_sessions():
    split = Split("m", ModelPolicy(variants={"canary": NEW}))
    names = [
        split.choose(facts(session="always the same" if number % 2 else None))
        for number in range(20)
    ]

    assert len({names[at] for at in range(1, 20, 2)}) == 1
    assert abs(names.count("canary") - 2) <= 9


def test_tenants_are_kept_together_where_the_policy_says_so():
    own = ModelPolicy(variants={"canary": Variant(0.5, endpoints=("new",))}, sticky=Sticky.TENANT)
    split = Split("m", own)

    for tenant in "abcdefgh":
        assert len({split.choose(facts(tenant=tenant, session=str(n))) for n in range(9)}) == 1


def test_nothing_sticks_where_the_policy_says_so():
    router = two(canary(0.5, sticky=Sticky.NOTHING))
    places = [sent(router.arrive(facts(session="s"), 0.0)).endpoint.id for _ in range(10)]

    assert Counter(places) == {"old": 5, "new": 5}


def test_three_variants_share_pools_and_what_is_left_over_is_the_rest():
    own = ModelPolicy(
        variants={"a": Variant(0.25, pools=("throughput",)), "b": Variant(0.25, endpoints=("b",))}
    )
    router = dispatcher(
        plan("a", max_in_flight=99),
        plan("b", FAST, pool="third", max_in_flight=99),
        plan("c", FAST, max_in_flight=99),
        policy=Policy(models={"m": own}),
    )
    flights = [sent(router.arrive(facts(), 0.0)) for _ in range(40)]

    assert Counter(each.endpoint.id for each in flights) == {"a": 10, "b": 10, "c": 20}
    assert {each.ask.part.name for each in flights if each.ask.part} == {"a", "b", "rest"}


def test_a_variant_may_be_another_model_and_the_engine_is_asked_for_that():
    own = ModelPolicy(variants={"tuned": Variant(0.5, model="m-tuned")})
    router = dispatcher(
        plan("one", models=frozenset({"m", "m-tuned"}), max_in_flight=99),
        policy=Policy(models={"m": own}),
    )
    parts = [sent(router.arrive(facts(), 0.0)).ask.part for _ in range(10)]

    assert Counter((part.name, part.model) for part in parts if part) == {
        ("tuned", "m-tuned"): 5,
        ("rest", None): 5,
    }


def test_at_a_full_share_the_others_get_nothing():
    router = two(canary(1.0))

    assert {sent(router.arrive(facts(), 0.0)).endpoint.id for _ in range(50)} == {"new"}


def test_at_no_share_an_endpoint_gets_nothing_even_if_others_are_down():
    router = two(canary(0.0))
    for _ in range(3):
        router.probed("old", ok=False, now=0.0)

    assert refused(router.arrive(facts(), 0.0)).reason is RefusalReason.NO_ENDPOINTS


def test_where_a_variant_is_down_others_take_its_requests_and_say_so():
    router = two(canary(1.0))
    for _ in range(3):
        router.probed("new", ok=False, now=0.0)
    flight = sent(router.arrive(facts(), 0.0))

    assert flight.endpoint.id == "old"
    assert flight.ask.part is not None
    assert (flight.ask.part.name, flight.ask.part.elsewhere) == ("canary", True)


def test_a_full_variant_lets_its_requests_wait():
    router = two(canary(1.0), slots=1)
    first = sent(router.arrive(facts(), 0.0))
    ticket = waits(router.arrive(facts(), 0.0)).ticket
    router.ended(first, Ending.COMPLETED, 0.1)
    (answer,) = router.due(0.1)

    assert isinstance(answer, Send)
    assert answer.ticket is ticket
    assert answer.flight.endpoint.id == "new"


def test_a_request_that_failed_at_its_variant_is_tried_at_the_others():
    router = two(canary(1.0))
    flight = sent(router.arrive(facts(), 0.0))
    again = sent(router.failed(flight, FailureKind.BROKEN, 0.1))

    assert again.endpoint.id == "old"
    assert again.ask.part is not None
    assert again.ask.part.elsewhere


def test_a_request_that_the_variant_cannot_serve_goes_to_the_others():
    own = ModelPolicy(variants={"canary": Variant(1.0, endpoints=("new",))})
    router = dispatcher(
        plan("old"), plan("new", max_context_tokens=100), policy=Policy(models={"m": own})
    )

    assert sent(router.arrive(facts(known_prompt_tokens=5000), 0.0)).endpoint.id == "old"
    assert sent(router.arrive(facts(known_prompt_tokens=50), 0.0)).endpoint.id == "new"


def test_a_change_of_shares_holds_from_the_next_request_on():
    router = two(canary(0.0))
    before = {sent(router.arrive(facts(), 0.0)).endpoint.id for _ in range(20)}
    router.reconfigure([plan("old"), plan("new")], canary(1.0), 1.0)
    router.reconfigure(
        [plan("old", max_in_flight=99), plan("new", max_in_flight=99)], canary(1.0), 1.0
    )
    after = {sent(router.arrive(facts(), 1.0)).endpoint.id for _ in range(20)}

    assert (before, after) == ({"old"}, {"new"})


def test_discovery_in_between_does_not_disturb_a_share():
    router = two(canary(0.5))
    plans = [plan("old", max_in_flight=999), plan("new", max_in_flight=999)]
    places = []
    for _ in range(10):
        router.reconfigure(plans, canary(0.5), 0.0)
        places.append(sent(router.arrive(facts(), 0.0)).endpoint.id)

    assert Counter(places) == {"old": 5, "new": 5}


def test_what_waits_for_a_variant_that_is_gone_is_served_by_the_others():
    router = two(canary(1.0), slots=1)
    sent(router.arrive(facts(), 0.0))
    ticket = waits(router.arrive(facts(), 0.0)).ticket
    router.reconfigure([plan("old"), plan("new")], Policy(), 0.1)
    (answer,) = router.due(0.1)

    assert isinstance(answer, Send)
    assert (answer.ticket, answer.flight.endpoint.id) == (ticket, "old")


def test_an_explanation_foretells_the_variant_without_taking_a_turn():
    router = two(canary(0.5))
    for _ in range(20):
        for _ in range(3):
            told = router.explain(facts(), 0.0)
        flight = sent(router.arrive(facts(), 0.0))

        assert isinstance(told.decision, Goes)
        assert told.decision.endpoint_id == flight.endpoint.id
        assert told.ask is not None
        assert told.ask.part == flight.ask.part
        assert {each.verdict for each in told.candidates} == {
            "chosen",
            f"serves another variant than {told.ask.part.name!r}" if told.ask.part else "",
        }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Variant(0.1), "must name endpoints, pools or a model"),
        (lambda: Shadow(0.1), "must name endpoints or pools"),
        (
            lambda: ModelPolicy(
                variants={"a": Variant(0.6, model="x"), "b": Variant(0.6, model="y")}
            ),
            "add up to 1.2, more than 1",
        ),
        (lambda: ModelPolicy(variants={"rest": NEW}), "give the variant another name"),
    ],
    ids=["variant of nothing", "shadow of nothing", "too much", "the rest's name"],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Shadows


def test_a_shadow_gets_copies_and_no_callers():
    router = two(shadowed(0.25))
    flights = [sent(router.arrive(facts(), 0.0)) for _ in range(8)]
    copies = [copy for each in flights if (copy := router.copied(each, 0.0)) is not None]

    assert {each.endpoint.id for each in flights} == {"old"}
    assert [(each.endpoint.id, each.reason) for each in copies] == [("new", Reason.SHADOW)] * 2


def test_copies_are_bounded_and_what_is_dropped_is_counted():
    router = two(shadowed(most=2))
    flights = [sent(router.arrive(facts(), 0.0)) for _ in range(5)]
    copies = [router.copied(each, 0.0) for each in flights]

    assert [each is not None for each in copies] == [True, True, False, False, False]
    assert router.copies["m"].dropped == 3
    assert copies[0] is not None
    router.copy_ended(copies[0], Ending.COMPLETED, 1.0, output_tokens=5)
    router.copy_ended(copies[0], Ending.COMPLETED, 1.0, output_tokens=5)
    assert router.copies["m"].in_flight == 1
    assert router.copied(flights[0], 1.0) is not None


def test_nothing_is_copied_while_anybody_waits():
    router = two(shadowed(), slots=1)
    flight = sent(router.arrive(facts(), 0.0))
    waits(router.arrive(facts(), 0.0))

    assert router.copied(flight, 0.0) is None


def test_what_a_shadow_does_teaches_nothing_of_the_model_but_tells_of_its_endpoint():
    router = two(shadowed())
    flight = sent(router.arrive(facts(), 0.0))
    for _ in range(3):
        copy = router.copied(flight, 0.0)
        assert copy is not None
        router.copy_ended(copy, Ending.FAILED, 0.1)

    assert not router.endpoints["new"].health.takes_requests
    assert router.copied(flight, 0.2) is None
    assert router.endpoints["old"].in_flight == 1


def test_a_shadow_that_changes_keeps_count_of_what_is_under_way():
    router = two(shadowed(most=1))
    flight = sent(router.arrive(facts(), 0.0))
    copy = router.copied(flight, 0.0)
    router.reconfigure([plan("old"), plan("new")], shadowed(0.5, most=1), 0.1)

    assert router.copies["m"].in_flight == 1
    assert copy is not None
    router.reconfigure([plan("old"), plan("new")], Policy(), 0.2)
    router.copy_ended(copy, Ending.ABANDONED, 0.3)
    assert not router.copies


def test_a_model_whose_only_endpoint_is_its_shadow_is_still_served():
    router = dispatcher(plan("new"), policy=shadowed())

    assert sent(router.arrive(facts(), 0.0)).endpoint.id == "new"


def test_a_request_is_not_copied_to_an_endpoint_that_cannot_serve_it():
    router = dispatcher(
        plan("old"), plan("new", WIDE, models=frozenset({"other"})), policy=shadowed()
    )
    flight = sent(router.arrive(facts(), 0.0))

    assert router.copied(flight, 0.0) is None
    assert not isinstance(router.arrive(facts(), 0.0), Refuse)
