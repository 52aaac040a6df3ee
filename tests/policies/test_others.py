"""What other routers leave to this one: room, permits for bulk, and their turn in its order."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from policies.facts import Ending
from policies.others import Others
from policies.policy import HealthPolicy, Hold, Holds, Policy, ProfilePolicy, Profiles
from tests.policies.builders import (
    BULK,
    STANDARD,
    dispatcher,
    facts,
    flight,
    plan,
    sent,
    state,
    waits,
)

few = st.integers(0, 6)


@given(theirs=few, room=few, slots=st.integers(1, 8))
def test_no_more_is_sent_than_there_is_room_for_until_the_next_is_heard(theirs, room, slots):
    made = dispatcher(plan("e", max_in_flight=slots))
    made.heard("e", Others((theirs, 0, 0), room=room), 0.0)

    for _ in range(16):
        made.arrive(facts(STANDARD), 0.0)

    assert made.endpoints["e"].own_in_flight == max(0, min(room, slots - theirs))


def test_a_slot_of_our_own_that_falls_free_may_be_taken_again():
    made = dispatcher(plan("e", max_in_flight=4))
    made.heard("e", Others((2, 0, 0), room=1), 0.0)
    first = sent(made.arrive(facts(STANDARD), 0.0))
    waits(made.arrive(facts(STANDARD), 0.0))

    made.ended(first, Ending.COMPLETED, 1.0)

    assert len(made.due(1.0)) == 1


@given(theirs=few, permits=few, cap=st.integers(1, 8))
def test_bulk_of_our_own_keeps_to_its_permits_whatever_others_are_said_to_have(
    theirs, permits, cap
):
    holds = Holds(bulk=Hold(max_slots=cap))
    policy = Policy(profiles=Profiles(throughput=ProfilePolicy(holds=holds)))
    endpoint = state(max_in_flight=100, policy=policy)
    endpoint.heard(Others((0, 0, theirs), bulk_permits=permits))

    while endpoint.rooms[2]:
        flight(endpoint, BULK)

    assert endpoint.own_held == (0, 0, min(permits, cap))
    assert endpoint.rooms[1]


def test_a_plan_that_changes_leaves_what_was_heard():
    endpoint = state(max_in_flight=8)
    endpoint.heard(Others((2, 0, 0), room=1, bulk_permits=0))

    endpoint.planned(plan("wide", max_in_flight=4), Policy())

    assert endpoint.slots == 3
    assert not endpoint.rooms[2]


def test_bulk_lets_bulk_of_others_go_first_where_that_is_due_sooner():
    made = dispatcher(plan("e"), plan("f"))
    made.heard("e", Others(bulk_before=61.0), 2.0)

    assert sent(made.arrive(facts(BULK), 2.0)).endpoint.id == "f"
    made.heard("f", Others(bulk_before=61.5), 2.0)
    waits(made.arrive(facts(BULK), 2.0))
    assert sent(made.arrive(facts(STANDARD), 2.0))
    assert made.due(2.0) == []

    made.heard("e", Others(bulk_before=inf), 2.1)
    (released,) = made.due(2.1)
    assert sent(released).endpoint.id == "e"


def test_bulk_that_is_due_sooner_than_that_of_others_is_sent():
    made = dispatcher(plan("e"))
    made.heard("e", Others(bulk_before=63.0), 2.0)

    sent(made.arrive(facts(BULK), 2.0))


def test_waiting_bulk_is_told_by_endpoint_with_when_the_first_is_due():
    health = HealthPolicy(failed_probes_to_down=1)
    made = dispatcher(plan("e"), plan("f"), plan("g"), policy=Policy(health=health))
    for name in "efg":
        made.heard(name, Others(bulk_permits=0), 0.0)
    for at in (1.0, 2.0):
        waits(made.arrive(facts(BULK), at))
    made.probed("g", ok=False, now=2.0)

    assert made.waiting_bulk() == {"e": (61.0, 2), "f": (61.0, 2)}
