"""Endpoints that are tried by canaries, by a dispatcher that is watched."""

from random import Random

import pytest

from policies.commands import Send, Wait
from policies.dispatcher import Dispatcher
from policies.facts import Ending, FailureKind
from policies.health import Cause, State
from policies.policy import Policy
from tests.policies.builders import facts, plan


def watched(*plans):
    return Dispatcher(plans, Policy(), Random(1), watched=True)


def pair():
    return watched(plan("a"), plan("b"))


def refuse(made, now, kind=FailureKind.NOT_REACHED):
    """Have the next request fail at the endpoint that it is sent to."""
    answer = made.arrive(facts(), now)
    assert isinstance(answer, Send)
    id_ = answer.flight.endpoint.id
    again = made.failed(answer.flight, kind, now)
    if isinstance(again, Send):
        made.ended(again.flight, Ending.ABANDONED, now)
    return id_


def put_down(made, id_, now=0.0):
    made.endpoints[id_].put_down(Cause.FAILED, now)
    made.watch(now)


def state_of(made, id_):
    return made.endpoints[id_].health.state


def test_a_trial_is_a_canary_and_no_caller_s_request():
    made = pair()
    put_down(made, "a")
    made.endpoints["a"].try_again()
    sent = [made.arrive(facts(), 2.0).flight.endpoint.id for _ in range(3)]

    assert sent == ["b", "b", "b"]
    assert made.canaries(2.0, 30.0) == ["a"]
    assert made.canaries(2.0, 30.0) == []


def test_a_canary_that_is_answered_brings_an_endpoint_back_slowly():
    made = pair()
    put_down(made, "a")
    made.endpoints["a"].try_again()
    made.canaries(2.0, 30.0)
    made.canary_ended("a", well=True, now=2.1)

    assert state_of(made, "a") is State.UP
    assert made.endpoints["a"].slots == 1


def test_a_canary_that_fails_doubles_the_time_and_keeps_the_cause():
    made = pair()
    put_down(made, "a")
    made.endpoints["a"].try_again()
    made.canaries(2.0, 30.0)
    made.canary_ended("a", well=False, now=2.0)

    assert state_of(made, "a") is State.DOWN
    assert made.endpoints["a"].health.retry_at == 4.0
    assert made.endpoints["a"].health.cause is Cause.FAILED


def test_an_endpoint_that_takes_no_canaries_is_tried_by_a_request():
    made = watched(plan("a"))
    endpoint = made.endpoints["a"]
    endpoint.put_down(Cause.FAILED, 0.0)
    endpoint.try_again()
    waiting = made.arrive(facts(), 2.0)
    made.canaries(2.0, 30.0)
    made.canary_ended("a", well=None, now=2.1)
    (answer,) = made.due(2.1)

    assert isinstance(waiting, Wait)
    assert isinstance(answer, Send)
    assert answer.flight.trial


def test_idle_endpoints_are_asked_now_and_then_and_sooner_after_a_failure():
    made = pair()
    asked = [made.canaries(now, 10.0) for now in (0.0, 9.0, 10.0)]
    made.canary_ended("a", well=True, now=10.1)
    made.canary_ended("b", well=False, now=10.1)
    soon = made.canaries(11.2, 10.0)

    assert asked == [[], [], ["a", "b"]]
    assert soon == ["b"]
    assert state_of(made, "b") is State.SUSPECT


def test_a_canary_of_an_endpoint_that_is_gone_tells_nothing():
    made = pair()
    made.canary_ended("z", well=True, now=0.0)

    assert set(made.endpoints) == {"a", "b"}


def test_an_endpoint_that_is_busy_is_given_less_at_a_time():
    made = watched(plan("a", max_in_flight=8), plan("b", max_in_flight=8))
    id_ = refuse(made, 0.0, FailureKind.BUSY)
    slots = [made.endpoints[id_].slots]
    for now in (0.6, 1.2, 1.8):
        made.watch(now)
        slots.append(made.endpoints[id_].slots)

    assert slots == [1, 2, 4, 8]
    assert state_of(made, id_) is State.UP


def test_a_probe_that_fails_while_tokens_come_is_not_believed():
    made = pair()
    flown = made.arrive(facts(), 0.0).flight
    made.first_token(flown, 0.5)
    for now in (0.6, 0.7, 0.8):
        made.probed(flown.endpoint.id, ok=False, now=now)
    moving = state_of(made, flown.endpoint.id)
    for now in (3.0, 4.0):
        made.probed(flown.endpoint.id, ok=False, now=now)

    assert (moving, state_of(made, flown.endpoint.id)) == (State.UP, State.DOWN)


def test_a_request_that_breaks_wherever_it_goes_is_blamed_on_the_first_alone():
    made = watched(plan("a"), plan("b"), plan("c"))
    answer = made.arrive(facts(), 0.0)
    blamed = []
    while isinstance(answer, Send):
        blamed.append(answer.flight.endpoint)
        answer = made.failed(answer.flight, FailureKind.BROKEN, 0.0)

    assert [each.health.failures for each in blamed] == [1, 0, 0]


def test_a_failed_request_may_wait_again_as_long_as_its_class_does():
    made = watched(plan("a", max_in_flight=1), plan("b", max_in_flight=1))
    one, two = (made.arrive(facts(), 0.0).flight for _ in range(2))
    answer = made.failed(one, FailureKind.NOT_REACHED, 45.0)
    made.ended(two, Ending.COMPLETED, 46.0)

    assert isinstance(answer, Wait)
    assert [type(each) for each in made.due(46.0)] == [Send]


def still(made, flown, now=5.0):
    flown.endpoint.put_down(Cause.STILL, now)
    return made.had_better_move(flown, now)


def test_a_request_had_better_move_where_nothing_moves_and_another_has_room():
    made = watched(plan("a", max_in_flight=1), plan("b", max_in_flight=1))
    one = made.arrive(facts(), 0.0).flight
    free = still(made, one)
    one.endpoint.moved_again(5.0)
    two = made.arrive(facts(), 5.0).flight

    assert free
    assert not still(made, one)
    assert not made.had_better_move(two, 5.0)


def test_a_request_that_was_tried_often_enough_stays():
    made = pair()
    flown = made.arrive(facts(), 0.0).flight
    flown.attempt = 3

    assert not still(made, flown)


def test_a_request_whose_model_is_gone_stays():
    made = pair()
    flown = made.arrive(facts(), 0.0).flight
    made.reconfigure([plan("c", models=frozenset({"other"}))], Policy(), 1.0)

    assert not still(made, flown)


def test_an_answer_that_broke_off_goes_on_elsewhere_and_is_counted_against_the_first():
    made = pair()
    flown = made.arrive(facts(), 0.0).flight
    made.first_token(flown, 0.1)
    answer = made.broke(flown, 1.0, frozenset())

    assert isinstance(answer, Send)
    assert answer.flight.endpoint is not flown.endpoint
    assert flown.endpoint.health.failures == 1
    with pytest.raises(ValueError, match="has ended already"):
        made.broke(flown, 1.0, frozenset())


def test_an_answer_that_broke_off_twice_may_go_on_where_it_began_and_has_all_its_attempts():
    made = pair()
    flown = made.arrive(facts(), 0.0).flight
    first = flown.endpoint
    for number in range(3):
        made.first_token(flown, number + 0.1)
        answer = made.broke(flown, number + 1.0, frozenset())
        assert isinstance(answer, Send)
        flown = answer.flight

    assert flown.endpoint is not first
    assert (flown.attempt, flown.tried) == (2, {first.id})


def test_an_answer_that_broke_off_waits_for_a_slot_that_is_taken():
    made = watched(plan("a", max_in_flight=1), plan("b", max_in_flight=1))
    one, _ = (made.arrive(facts(), 0.0).flight for _ in range(2))

    assert isinstance(made.broke(one, 50.0, frozenset()), Wait)


@pytest.mark.parametrize("why", ["nobody may", "no budget", "no model"])
def test_an_answer_that_broke_off_may_find_nobody(why):
    made = pair()
    flown = made.arrive(facts(), 0.0).flight
    if why == "no budget":
        made._budget._balance = 0.0
    if why == "no model":
        made.reconfigure([plan("c", models=frozenset({"other"}))], Policy(), 0.0)
    barred = frozenset({"a", "b"} if why == "nobody may" else ())

    assert not isinstance(made.broke(flown, 0.0, barred), (Send, Wait))


def test_a_caller_that_does_not_read_stops_its_stream_and_nothing_else():
    made = pair()
    flown = made.arrive(facts(), 0.0).flight
    made.unread(flown, on=True, now=0.0)  # before its first token nothing is there to be read
    made.first_token(flown, 0.1)
    progress = flown.endpoint.progress
    made.unread(flown, on=True, now=0.2)
    stopped = progress.streams
    made.unread(flown, on=False, now=9.0)
    going = progress.streams
    made.unread(flown, on=True, now=9.0)
    made.ended(flown, Ending.ABANDONED, 9.0)

    assert (stopped, going, progress.streams) == (0, 1, 0)
