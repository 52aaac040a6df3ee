import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.facts import Reason
from policies.fleet import slots_of
from policies.flight import Flight
from policies.health import State
from policies.others import Others
from policies.policy import Hold, Policy
from tests.policies.builders import BULK, FAST, INTERACTIVE, STANDARD, ask, flight, state

classes = st.sampled_from([INTERACTIVE, STANDARD, BULK])


def counts(endpoint):
    return (
        endpoint.in_flight,
        endpoint.own_in_flight,
        endpoint.held,
        endpoint.pending_prompt_tokens,
        endpoint.kv_tokens,
    )


def test_a_request_in_flight_is_counted_in_every_way():
    endpoint = state()

    flight(endpoint, BULK, known_prompt_tokens=100)

    assert counts(endpoint) == (1, 1, [0, 0, 1], 100, 100)


def test_the_first_token_ends_the_prompt_s_being_pending():
    endpoint = state()
    taken = flight(endpoint, known_prompt_tokens=100)

    endpoint.began(taken, 0.7)
    endpoint.grew(taken, 5)

    assert counts(endpoint) == (1, 1, [0, 1, 0], 0, 105)
    assert endpoint.first_token_s(0.7) == 0.7


def test_a_slot_is_given_back_once():
    endpoint = state()
    taken, other = flight(endpoint), flight(endpoint)

    assert endpoint.give(taken)
    assert not endpoint.give(taken)

    assert endpoint.in_flight == 1
    assert other.held


def test_an_answer_that_comes_as_a_whole_is_never_pending_and_teaches_no_first_token():
    endpoint = state()

    taken = flight(endpoint, known_prompt_tokens=100, streams=False)
    assert endpoint.pending_prompt_tokens == 0

    endpoint.began(taken, 3.0)
    endpoint.give(taken)
    assert counts(endpoint) == (0, 0, [0, 0, 0], 0, 0)
    assert endpoint.first_token_s(3.0) is None


@given(
    st.lists(
        st.tuples(classes, st.integers(0, 9000), st.booleans(), st.integers(0, 50)), max_size=12
    ),
    st.randoms(use_true_random=False),
)
def test_when_all_have_ended_nothing_is_left(requests, shuffle):
    endpoint = state(max_in_flight=6)
    flights = []
    for sla_class, prompt_tokens, began, tokens in requests:
        taken = flight(endpoint, sla_class, known_prompt_tokens=prompt_tokens)
        flights.append(taken)
        if began:
            endpoint.began(taken, 1.0)
            endpoint.grew(taken, tokens)

    shuffle.shuffle(flights)
    for taken in flights:
        endpoint.give(taken)

    assert counts(endpoint) == (0, 0, [0, 0, 0], 0, 0)
    assert endpoint.rooms == [True, True, True]


@pytest.mark.parametrize(
    ("hold", "slots", "worth"),
    [
        (Hold(), 32, 32),
        (Hold(share=0.5), 32, 16),
        (Hold(share=0.25, max_slots=8), 32, 8),
        (Hold(share=0.25, max_slots=8), 256, 8),
        (Hold(share=0.25), 2, 1),
        (Hold(share=0.5), 1, 1),
        (Hold(share=0.0), 32, 0),
        (Hold(max_slots=0), 32, 0),
    ],
)
def test_a_share_is_worth_whole_slots_and_at_least_one(hold, slots, worth):
    assert slots_of(hold, slots) == worth


def fill(endpoint, sla_class, **changes):
    """Take slots for a class as long as there is room for it."""
    taken = []
    while endpoint.rooms[ask(sla_class).rank]:
        taken.append(flight(endpoint, sla_class, **changes))
    return taken


def test_bulk_holds_a_quarter_of_a_predictable_endpoint_and_with_standard_a_half():
    endpoint = state("fast", FAST, max_in_flight=32)

    assert len(fill(endpoint, BULK, known_prompt_tokens=1)) == 8
    assert len(fill(endpoint, STANDARD)) == 8
    assert len(fill(endpoint, INTERACTIVE)) == 16
    assert endpoint.rooms == [False, False, False]


def test_interactive_requests_may_hold_all_of_it():
    endpoint = state("fast", FAST, max_in_flight=32)

    assert len(fill(endpoint, INTERACTIVE)) == 32


def test_bulk_is_held_back_while_too_much_prompt_is_pending():
    endpoint = state(max_in_flight=256)

    taken = fill(endpoint, BULK, known_prompt_tokens=3000)
    assert len(taken) == 3

    endpoint.began(taken[0], 1.0)
    assert endpoint.rooms == [True, True, True]


def test_other_routers_requests_count_as_if_they_were_its_own():
    endpoint = state("fast", FAST, max_in_flight=4)
    taken = flight(endpoint, known_prompt_tokens=10)

    endpoint.heard(Others((2, 0, 1), pending_prompt_tokens=500, kv_tokens=900))
    assert counts(endpoint) == (4, 1, [2, 1, 1], 510, 910)
    assert endpoint.rooms == [False, False, False]

    endpoint.heard(Others((1, 0, 0), pending_prompt_tokens=5, kv_tokens=9))
    assert counts(endpoint) == (2, 1, [1, 1, 0], 15, 19)

    endpoint.heard(Others())
    endpoint.give(taken)
    assert counts(endpoint) == (0, 0, [0, 0, 0], 0, 0)


def test_a_trial_has_room_for_one_request_and_passes_with_its_first_token():
    endpoint = state()
    for _ in range(3):
        endpoint.sickened(0.0, trial=False, alone=False)
    assert endpoint.rooms == [False, False, False]

    endpoint.try_again()
    taken = flight(endpoint)
    assert taken.trial
    assert endpoint.rooms == [False, False, False]

    endpoint.began(taken, 1.0)
    assert endpoint.health.state is State.UP
    assert endpoint.rooms == [True, True, True]


def test_a_trial_passes_with_a_whole_answer():
    endpoint = state()
    endpoint.try_again()
    taken = flight(endpoint)

    endpoint.give(taken)
    endpoint.worked(trial=taken.trial)

    assert endpoint.health.state is State.UP


def test_a_trial_that_was_given_up_leaves_room_for_another():
    endpoint = state()
    endpoint.try_again()

    endpoint.give(flight(endpoint))

    assert endpoint.health.state is State.TRIAL
    assert endpoint.rooms == [True, True, True]


def test_a_smaller_plan_leaves_what_is_in_flight_and_closes_the_room():
    endpoint = state(max_in_flight=4)
    taken = [flight(endpoint) for _ in range(3)]

    endpoint.planned(state(max_in_flight=2).plan, Policy())
    assert endpoint.rooms == [False, False, False]

    endpoint.give(taken[0])
    endpoint.give(taken[1])
    assert endpoint.rooms == [True, True, True]


def test_an_attempt_knows_nothing_of_a_slot_before_it_takes_one():
    endpoint = state()

    assert not endpoint.give(Flight(1, ask(), endpoint, Reason.HOME, 0.0))
    assert endpoint.in_flight == 0
