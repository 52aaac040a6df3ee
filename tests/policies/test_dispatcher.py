"""What the dispatcher does, one situation at a time."""

from dataclasses import replace

import pytest

from policies.commands import Expire, Send
from policies.facts import Ending, FailureKind, OnMiss, Reason, RefusalReason, Targets
from policies.health import State
from policies.others import Others
from policies.policy import (
    AffinityPolicy,
    Classes,
    ClassPolicy,
    GuardPolicy,
    LatencyPolicy,
    ModelPolicy,
    Policy,
    RetryPolicy,
)
from tests.policies.builders import (
    BULK,
    FAST,
    INTERACTIVE,
    STANDARD,
    dispatcher,
    facts,
    plan,
    refused,
    sent,
    waits,
)
from tests.policies.endpoints.test_contract import Gauges

BROKEN, BUSY = FailureKind.BROKEN, FailureKind.BUSY


def pair(**changes):
    return dispatcher(plan("fast", FAST, max_in_flight=2), plan("wide", max_in_flight=2), **changes)


def single(slots=1, **changes):
    return dispatcher(plan("e", max_in_flight=slots), **changes)


def where(answer):
    taken = sent(answer)
    return taken.endpoint.id, taken.reason


def expired(answers):
    (answer,) = answers
    assert isinstance(answer, Expire), answer
    return answer.refusal


def take_down(made, name, now=0.0):
    made.probed(name, ok=False, now=now)
    made.probed(name, ok=False, now=now)


# Arriving


def test_interactive_requests_fill_home_then_spill_then_wait():
    made = pair()

    answers = [made.arrive(facts(INTERACTIVE), 0.0) for _ in range(5)]

    assert [where(each) for each in answers[:4]] == [
        ("fast", Reason.HOME),
        ("fast", Reason.HOME),
        ("wide", Reason.SPILL),
        ("wide", Reason.SPILL),
    ]
    assert made.waiting == 1
    waits(answers[4])


def test_bulk_fills_home_then_what_it_may_hold_of_the_predictable_pool():
    made = pair()

    answers = [made.arrive(facts(BULK), 0.0) for _ in range(4)]

    assert [where(each)[0] for each in answers[:3]] == ["wide", "wide", "fast"]
    waits(answers[3])
    assert where(made.arrive(facts(INTERACTIVE), 0.0)) == ("fast", Reason.HOME)


def test_a_request_is_sent_at_once_with_all_that_is_known_of_it():
    made = single()

    taken = sent(made.arrive(facts(STANDARD, id="r7"), 5.0))

    assert (taken.ask.facts.id, taken.attempt, taken.queued_s) == ("r7", 1, 0.0)
    assert (taken.sent_at, taken.held, taken.first_token_at) == (5.0, True, None)


def test_who_will_not_wait_is_refused_and_told_when_a_slot_may_be_free():
    made = single()
    for second in range(20):
        made.ended(sent(made.arrive(facts(), float(second))), Ending.COMPLETED, second + 0.5)
    sent(made.arrive(facts(), 20.0))

    refusal = refused(made.arrive(facts(may_wait=False), 20.0))

    assert refusal.reason is RefusalReason.NO_QUEUE
    assert refusal.retry_after_s is not None
    assert 1.0 <= refusal.retry_after_s <= 3.0


def test_when_too_many_wait_the_next_is_refused():
    limits = replace(Policy().classes, bulk=ClassPolicy(max_waiting=1))
    made = single(policy=Policy(classes=limits))
    sent(made.arrive(facts(BULK), 0.0))
    waits(made.arrive(facts(BULK), 0.0))

    refusal = refused(made.arrive(facts(BULK), 0.0))

    assert refusal.reason is RefusalReason.QUEUE_FULL
    assert refusal.detail == "1 bulk requests wait already, as many as may"
    waits(made.arrive(facts(STANDARD), 0.0))


def test_what_nobody_can_do_is_refused_at_once():
    made = dispatcher(plan(max_context_tokens=100))

    assert refused(made.arrive(facts(model="x"), 0.0)).reason is RefusalReason.UNKNOWN_MODEL
    long = facts(known_prompt_tokens=100)
    assert refused(made.arrive(long, 0.0)).reason is RefusalReason.TOO_LONG
    able = facts(needs=frozenset({Reason.HOME}))
    assert refused(made.arrive(able, 0.0)).reason is RefusalReason.UNSUPPORTED


def test_a_router_that_stops_refuses_who_comes_and_serves_who_waits():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    waits(made.arrive(facts(), 0.0))

    made.stop(1.0)

    assert refused(made.arrive(facts(), 1.0)).reason is RefusalReason.SHUTTING_DOWN
    made.ended(running, Ending.COMPLETED, 2.0)
    (answer,) = made.due(2.0)
    assert isinstance(answer, Send)


def test_bulk_is_held_back_where_others_are_not():
    made = single(slots=99)
    for _ in range(3):
        sent(made.arrive(facts(BULK, known_prompt_tokens=4000), 0.0))

    waits(made.arrive(facts(BULK), 0.0))
    first = sent(made.arrive(facts(STANDARD), 0.0))

    assert first.endpoint.id == "e"


# Waiting


def test_a_free_slot_goes_to_the_highest_class_and_there_to_the_first_that_came():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    for name, sla_class in [("b", BULK), ("s", STANDARD), ("i", INTERACTIVE), ("j", INTERACTIVE)]:
        waits(made.arrive(facts(sla_class, id=name), 0.1))

    order = []
    for _ in range(4):
        made.ended(running, Ending.COMPLETED, 1.0)
        (answer,) = made.due(1.0)
        running = sent(answer)
        order.append(running.ask.facts.id)

    assert order == ["i", "j", "s", "b"]
    assert running.queued_s == pytest.approx(0.9)
    assert made.waiting == 0


def test_who_comes_between_an_event_and_its_consequences_stands_behind_its_own_class():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    first = waits(made.arrive(facts(STANDARD), 0.1)).ticket
    made.ended(running, Ending.COMPLETED, 0.2)

    waits(made.arrive(facts(STANDARD), 0.2))

    assert made.next_wake() == 0.2
    (answer,) = made.due(0.2)
    assert answer.ticket is first


def test_who_comes_between_an_event_and_its_consequences_stands_before_a_lower_class():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    waits(made.arrive(facts(BULK), 0.1))
    made.ended(running, Ending.COMPLETED, 0.2)

    sent(made.arrive(facts(STANDARD), 0.2))

    assert made.due(0.2) == []


def test_waiting_ends_with_a_refusal_and_the_router_knows_when():
    made = single()
    sent(made.arrive(facts(), 0.0))
    ticket = waits(made.arrive(facts(INTERACTIVE), 1.0)).ticket

    assert made.next_wake() == 3.0
    assert made.due(2.9) == []
    (answer,) = made.due(3.0)

    assert isinstance(answer, Expire)
    assert answer.ticket is ticket
    assert answer.refusal.reason is RefusalReason.EXPIRED
    assert (made.waiting, made.next_wake(), made.due(9.0)) == (0, None, [])


@pytest.mark.parametrize(
    ("asked", "at"),
    [
        (facts(INTERACTIVE, on_miss=OnMiss.REJECT), 0.5),
        (facts(STANDARD, targets=Targets(deadline_s=4.0)), 4.0),
        (facts(STANDARD, patience_s=4.0), 4.0),
    ],
    ids=["no late answer", "deadline", "timeout"],
)
def test_a_caller_s_own_limit_ends_the_wait_as_a_missed_deadline(asked, at):
    made = single()
    sent(made.arrive(facts(), 0.0))
    waits(made.arrive(asked, 0.0))

    assert made.next_wake() == at
    assert expired(made.due(at)).reason is RefusalReason.DEADLINE


def test_who_hangs_up_while_waiting_is_forgotten():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    ticket = waits(made.arrive(facts(), 0.0)).ticket

    made.left(ticket, 0.5)
    made.ended(running, Ending.COMPLETED, 1.0)

    assert (made.waiting, made.due(1.0)) == (0, [])
    assert made.endpoints["e"].in_flight == 0


def test_who_hangs_up_after_being_sent_gives_the_slot_back():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    ticket = waits(made.arrive(facts(), 0.0)).ticket
    made.ended(running, Ending.COMPLETED, 1.0)
    made.due(1.0)

    made.left(ticket, 1.0)

    assert made.endpoints["e"].in_flight == 0
    assert made.endpoints["e"].abandoned == 1


def test_those_who_wait_are_counted_by_rank():
    made = single()
    sent(made.arrive(facts(), 0.0))
    for sla_class in (BULK, BULK, INTERACTIVE):
        waits(made.arrive(facts(sla_class), 0.0))

    assert list(made.waiting_by_rank) == [1, 0, 2]


def test_the_class_of_a_request_is_told_without_sending_it():
    policy = Policy(models={"m": ModelPolicy(BULK), "gone": ModelPolicy(INTERACTIVE)})
    made = single(policy=policy)

    assert made.class_of(facts()) is BULK
    assert made.class_of(facts(STANDARD)) is STANDARD
    assert made.class_of(facts(model="gone")) is INTERACTIVE
    assert made.endpoints["e"].in_flight == 0


def test_who_is_sent_but_not_told_yet_gives_the_slot_back_when_it_hangs_up():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    ticket = waits(made.arrive(facts(INTERACTIVE), 0.1)).ticket
    made.ended(running, Ending.COMPLETED, 0.2)
    waits(made.arrive(facts(BULK), 0.2))

    made.left(ticket, 0.3)
    (answer,) = made.due(0.3)

    assert answer.ticket is not ticket
    assert sent(answer).ask.sla_class is BULK
    assert made.endpoints["e"].in_flight == 1


# Ending


def test_a_slot_is_given_back_once_however_often_it_is_said():
    made = single(slots=2)
    one = sent(made.arrive(facts(), 0.0))
    sent(made.arrive(facts(), 0.0))

    for ending in Ending:
        made.ended(one, ending, 1.0)
    made.first_token(one, 1.0)
    made.progressed(one, 5, 1.0)

    endpoint = made.endpoints["e"]
    assert (endpoint.in_flight, endpoint.completed, endpoint.failed) == (1, 1, 0)
    with pytest.raises(ValueError, match="flight 1 to 'e' has ended already"):
        made.failed(one, BROKEN, 1.0)


def test_every_ending_is_counted_as_what_it_was():
    made = single()
    for ending in Ending:
        made.ended(sent(made.arrive(facts(), 0.0)), ending, 1.0)

    endpoint = made.endpoints["e"]
    assert (endpoint.sent, endpoint.in_flight) == (4, 0)
    assert (endpoint.completed, endpoint.rejected, endpoint.failed, endpoint.abandoned) == (1,) * 4


def test_a_second_first_token_changes_nothing():
    made = single()
    taken = sent(made.arrive(facts(), 0.0))

    made.first_token(taken, 1.0)
    made.first_token(taken, 2.0)

    assert taken.first_token_at == 1.0
    assert made.endpoints["e"].pending_prompt_tokens == 0


def test_what_engines_tell_of_lengths_is_learned_from_completed_answers_only():
    made = single()

    for ending, tokens in [(Ending.COMPLETED, 500), (Ending.ABANDONED, 9), (Ending.FAILED, 9)]:
        taken = sent(made.arrive(facts(prompt_bytes=1000), 0.0))
        made.ended(taken, ending, 1.0, prompt_tokens=tokens, output_tokens=tokens)

    assert made.lengths.seen(facts()).samples == 1


# Failing


def test_a_failed_request_goes_elsewhere_with_the_same_class_and_deadlines():
    made = dispatcher(plan("a", max_in_flight=9), plan("b"))
    one = sent(made.arrive(facts(STANDARD), 0.0))

    again = sent(made.failed(one, BROKEN, 1.0))

    assert again.endpoint is not one.endpoint
    assert again.ask is one.ask
    assert (again.attempt, again.reason) == (2, Reason.RETRY)
    assert again.tried == {one.endpoint.id}
    assert one.endpoint.in_flight == 0


def test_no_endpoint_is_asked_twice():
    made = dispatcher(plan("a"), plan("b"), policy=Policy(retry=RetryPolicy(max_attempts=9)))
    two = sent(made.failed(sent(made.arrive(facts(), 0.0)), BROKEN, 1.0))

    refusal = refused(made.failed(two, BROKEN, 2.0))

    assert refusal.reason is RefusalReason.RETRIES_SPENT
    assert refusal.detail.endswith("(broken) after 2 attempts")


def test_attempts_are_bounded():
    made = dispatcher(*(plan(name) for name in "abcd"))
    answer = made.arrive(facts(), 0.0)
    for _ in range(2):
        answer = made.failed(sent(answer), BROKEN, 1.0)

    assert refused(made.failed(sent(answer), BROKEN, 1.0)).reason is RefusalReason.RETRIES_SPENT


def test_retries_are_bounded_in_all():
    policy = Policy(retry=RetryPolicy(share_of_requests=0.0, per_s=0.0, burst=1.0))
    made = dispatcher(plan("a"), plan("b"), policy=policy)

    sent(made.failed(sent(made.arrive(facts(), 0.0)), BROKEN, 0.0))
    second = made.failed(sent(made.arrive(facts(), 0.0)), BROKEN, 0.0)

    assert refused(second).reason is RefusalReason.RETRIES_SPENT


@pytest.mark.parametrize("kind", [FailureKind.REJECTED, FailureKind.IDLE_TIMEOUT])
def test_what_no_other_endpoint_would_do_better_is_not_tried_again(kind):
    made = dispatcher(plan("a"), plan("b"))

    refusal = refused(made.failed(sent(made.arrive(facts(), 0.0)), kind, 1.0))

    assert refusal.detail.endswith(f"failed ({kind}) after 1 attempt")


def test_nothing_is_tried_again_once_the_answer_has_begun():
    made = dispatcher(plan("a"), plan("b"))
    taken = sent(made.arrive(facts(), 0.0))
    made.first_token(taken, 0.5)

    assert refused(made.failed(taken, BROKEN, 1.0)).reason is RefusalReason.RETRIES_SPENT


def test_nothing_is_tried_again_past_its_deadline():
    made = dispatcher(plan("a"), plan("b"))
    taken = sent(made.arrive(facts(BULK), 0.0))

    refusal = refused(made.failed(taken, FailureKind.FIRST_TOKEN_TIMEOUT, 60.0))

    assert refusal.reason is RefusalReason.DEADLINE


def test_a_stale_connection_is_replaced_at_the_same_endpoint():
    made = single()
    taken = sent(made.arrive(facts(), 0.0))

    again = sent(made.failed(taken, FailureKind.STALE_CONNECTION, 0.1))

    assert (again.endpoint.id, again.attempt, again.tried) == ("e", 2, frozenset())
    assert made.endpoints["e"].failed == 0
    refusal = made.failed(again, BROKEN, 0.2)
    assert refused(refusal).reason is RefusalReason.RETRIES_SPENT


@pytest.mark.parametrize("names", ["ab", "a"], ids=["another", "no other"])
def test_a_second_stale_connection_sends_a_request_elsewhere_where_there_is_another(names):
    made = dispatcher(*(plan(name) for name in names))
    taken = sent(made.arrive(facts(), 0.0))
    once = sent(made.failed(taken, FailureKind.STALE_CONNECTION, 0.1))
    first = once.endpoint
    twice = sent(made.failed(once, FailureKind.STALE_CONNECTION, 0.2))

    assert (twice.endpoint is first) == (names == "a")


def recovers(made, endpoint):
    """Have an endpoint answer another request."""
    for _ in range(20):
        other = sent(made.arrive(facts(), 1.0))
        made.ended(other, Ending.COMPLETED, 1.5)
        if other.endpoint is endpoint:
            return


@pytest.mark.parametrize("well", [True, False], ids=["has served since", "has not"])
def test_where_all_have_failed_one_that_has_served_since_is_tried_again(well):
    made = dispatcher(plan("a"), plan("b"))
    taken = sent(made.arrive(facts(), 0.0))
    again = sent(made.failed(taken, FailureKind.NOT_REACHED, 0.1))
    if well:
        recovers(made, taken.endpoint)
    answer = made.failed(again, FailureKind.NOT_REACHED, 2.0)

    if well:
        assert sent(answer).endpoint is taken.endpoint
    else:
        assert refused(answer).reason is RefusalReason.RETRIES_SPENT


def test_a_stale_connection_takes_none_of_a_requests_attempts():
    made = dispatcher(*(plan(name) for name in "abc"))
    taken = sent(made.arrive(facts(), 0.0))
    again = sent(made.failed(taken, FailureKind.STALE_CONNECTION, 0.1))
    for _ in range(2):
        again = sent(made.failed(again, FailureKind.NOT_REACHED, 0.2))
    refusal = refused(made.failed(again, FailureKind.NOT_REACHED, 0.3))

    assert refusal.reason is RefusalReason.RETRIES_SPENT
    assert len(again.tried) == 2


def test_a_retry_that_finds_no_slot_waits_and_stands_before_those_that_came_later():
    made = dispatcher(plan("a", max_in_flight=1), plan("b", max_in_flight=1))
    one, two = (sent(made.arrive(facts(id=name), 0.0)) for name in "ab")
    waits(made.arrive(facts(id="later"), 0.5))
    retried = waits(made.failed(one, BROKEN, 1.0)).ticket
    (later,) = made.due(1.0)
    assert sent(later).endpoint is one.endpoint

    waits(made.arrive(facts(id="last"), 1.0))
    made.ended(two, Ending.COMPLETED, 1.5)
    (answer,) = made.due(1.5)

    assert answer.ticket is retried
    again = sent(answer)
    assert (again.attempt, again.reason, again.queued_s) == (2, Reason.RETRY, 0.5)


def test_a_retry_stands_before_those_of_its_class_that_wait():
    made = single()
    one = sent(made.arrive(facts(STANDARD), 0.0))
    waits(made.arrive(facts(STANDARD), 0.1))

    again = sent(made.failed(one, FailureKind.STALE_CONNECTION, 0.2))

    assert again.ask is one.ask
    assert made.due(0.2) == []


def test_a_stale_retry_leaves_its_slot_to_a_higher_class_that_waits():
    made = single()
    one = sent(made.arrive(facts(STANDARD), 0.0))
    higher = waits(made.arrive(facts(INTERACTIVE), 0.1)).ticket

    waits(made.failed(one, FailureKind.STALE_CONNECTION, 0.2))
    (answer,) = made.due(0.2)

    assert answer.ticket is higher


def test_slots_that_fall_free_together_are_all_given_away():
    both = plan("e", max_in_flight=3, models=frozenset({"m", "o"}))
    made = dispatcher(both)
    made.heard("e", Others((3, 0, 0)), 0.0)
    tickets = [waits(made.arrive(facts(model=name), 0.0)).ticket for name in ("m", "o", "m")]

    made.heard("e", Others(), 1.0)

    assert [answer.ticket for answer in made.due(1.0)] == tickets


def test_a_retry_that_will_not_wait_is_refused():
    made = dispatcher(plan("a", max_in_flight=1), plan("b", max_in_flight=1))
    one = sent(made.arrive(facts(may_wait=False), 0.0))
    sent(made.arrive(facts(), 0.0))

    assert refused(made.failed(one, BROKEN, 1.0)).reason is RefusalReason.NO_QUEUE


def test_a_retry_whose_wait_is_over_is_sent_if_there_is_room_and_else_waits_as_long_again():
    made = dispatcher(plan("a", max_in_flight=2), plan("b", max_in_flight=2))
    one = sent(made.arrive(facts(INTERACTIVE), 0.0))
    two = sent(made.arrive(facts(INTERACTIVE), 0.0))

    again = made.failed(one, FailureKind.FIRST_TOKEN_TIMEOUT, 9.0)
    assert sent(again).endpoint.id != one.endpoint.id

    for _ in range(2):
        made.arrive(facts(), 9.0)
    ticket = waits(made.failed(two, FailureKind.FIRST_TOKEN_TIMEOUT, 9.0)).ticket
    assert ticket.ask.wait_until == 11.0


# Health


def test_a_busy_engine_is_left_alone_while_others_have_room():
    made = dispatcher(plan("a", max_in_flight=9), plan("b", max_in_flight=1))
    one = sent(made.arrive(facts(), 0.0))
    busy = one.endpoint
    other = sent(made.failed(one, BUSY, 0.0, retry_after_s=3.0))
    made.ended(other, Ending.COMPLETED, 0.1)

    for now in (0.2, 2.9):
        taken = sent(made.arrive(facts(), now))
        assert taken.endpoint is not busy
        made.ended(taken, Ending.COMPLETED, now)

    assert (busy.health.state, busy.busy) == (State.UP, 1)
    assert busy.id in {sent(made.arrive(facts(), 3.1)).endpoint.id for _ in range(2)}


def test_a_busy_engine_at_home_is_passed_by_for_a_quiet_one_elsewhere():
    made = pair()
    one = sent(made.arrive(facts(INTERACTIVE), 0.0))
    made.failed(one, BUSY, 0.0)

    assert where(made.arrive(facts(INTERACTIVE), 0.1)) == ("wide", Reason.SPILL)


def test_a_busy_engine_is_used_rather_than_let_a_request_wait():
    made = single()
    refusal = refused(made.failed(sent(made.arrive(facts(), 0.0)), BUSY, 0.0, retry_after_s=7.0))

    assert refusal.reason is RefusalReason.SATURATED
    assert refusal.retry_after_s == 7.0
    assert sent(made.arrive(facts(), 0.1)).endpoint.id == "e"


def break_three_times(made, now):
    """Break the first three requests that endpoint a gets."""
    broken = 0
    while broken < 3:
        taken = sent(made.arrive(facts(may_wait=False), now))
        if taken.endpoint.id == "a":
            broken += 1
            made.ended(taken, Ending.FAILED, now)
        else:
            made.ended(taken, Ending.COMPLETED, now)


def test_an_endpoint_that_keeps_failing_is_left_alone_then_tried_with_one_request():
    made = dispatcher(plan("a"), plan("b", max_in_flight=9))
    break_three_times(made, 0.0)
    a = made.endpoints["a"]
    assert a.health.state is State.DOWN

    before = [sent(made.arrive(facts(), 0.5)).endpoint.id for _ in range(4)]
    assert before == ["b"] * 4
    after = [sent(made.arrive(facts(), 1.0)) for _ in range(4)]
    trials = [taken for taken in after if taken.endpoint is a]
    assert len(trials) == 1

    made.first_token(trials[0], 1.2)
    assert made.endpoints["a"].health.state is State.UP


def test_who_waits_is_sent_when_an_endpoint_gets_its_trial():
    made = dispatcher(plan("a"), plan("b", max_in_flight=1))
    break_three_times(made, 0.0)
    sent(made.arrive(facts(), 0.5))
    waits(made.arrive(facts(), 0.5))

    assert made.next_wake() == 1.0
    (answer,) = made.due(1.0)

    assert sent(answer).endpoint.id == "a"


def test_the_only_endpoint_of_a_model_is_used_whatever_fails():
    made = single()
    for _ in range(9):
        made.ended(sent(made.arrive(facts(), 0.0)), Ending.FAILED, 0.0)

    assert sent(made.arrive(facts(), 0.0)).endpoint.health.state is State.SUSPECT


def test_when_the_rest_goes_down_an_endpoint_that_failed_gets_its_trial_early():
    made = dispatcher(plan("a"), plan("b"))
    break_three_times(made, 0.0)
    take_down(made, "b")

    assert sent(made.arrive(facts(), 0.1)).endpoint.id == "a"
    waits(made.arrive(facts(), 0.1))


def test_an_early_trial_serves_who_waits_already():
    both = frozenset({"m", "o"})
    made = dispatcher(
        plan("a", models=both),
        plan("b", models=both),
        plan("c", max_in_flight=1),
        plan("d", models=frozenset({"o"})),
    )
    for name in ("a", "b"):
        for _ in range(3):
            made._roster.sickened(made.endpoints[name], 0.0, trial=False)
    take_down(made, "d")
    sent(made.arrive(facts(), 0.1))
    waits(made.arrive(facts(), 0.1))

    assert made.due(0.1) == []

    sent(made.arrive(facts(model="o"), 0.2))
    (answer,) = made.due(0.2)

    assert sent(answer).ask.facts.model == "m"


def test_an_early_trial_of_a_full_endpoint_is_waited_for():
    made = dispatcher(plan("a", max_in_flight=1), plan("b"))
    full = made.endpoints["a"]
    running = next(
        taken
        for taken in (sent(made.arrive(facts(), 0.0)) for _ in range(9))
        if taken.endpoint is full
    )
    for _ in range(3):
        made._roster.sickened(full, 0.0, trial=False)
    take_down(made, "b")

    waits(made.arrive(facts(), 0.1))
    assert full.health.state is State.TRIAL

    made.ended(running, Ending.COMPLETED, 0.2)
    assert len(made.due(0.2)) == 1


def test_a_retry_that_brings_an_early_trial_is_still_a_retry():
    made = dispatcher(plan("a"), plan("b"))
    break_three_times(made, 0.0)
    one = sent(made.arrive(facts(), 0.1))

    again = sent(made.failed(one, BROKEN, 0.1))

    assert (again.endpoint.id, again.reason, again.trial) == ("a", Reason.RETRY, True)
    made.failed(again, BROKEN, 0.2)
    assert made.endpoints["a"].health.state is State.DOWN
    assert made.endpoints["a"].health.retry_at == 2.2


def test_with_everything_down_by_probes_a_request_is_refused():
    made = single()
    take_down(made, "e")

    refusal = refused(made.arrive(facts(), 0.0))

    assert refusal.reason is RefusalReason.NO_ENDPOINTS
    assert refusal.retry_after_s is not None


def test_who_waits_for_endpoints_that_went_down_is_told_so_in_the_end():
    made = single()
    sent(made.arrive(facts(), 0.0))
    waits(made.arrive(facts(INTERACTIVE), 0.0))
    take_down(made, "e")

    assert expired(made.due(2.0)).reason is RefusalReason.NO_ENDPOINTS


def test_a_good_probe_brings_an_endpoint_back_and_serves_who_waits():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    waits(made.arrive(facts(), 0.0))
    take_down(made, "e")
    made.ended(running, Ending.ABANDONED, 0.1)
    assert made.due(0.1) == []

    made.probed("e", ok=True, now=0.2)
    (answer,) = made.due(0.2)

    assert sent(answer).trial


def test_a_trial_that_passes_without_a_first_token_brings_the_endpoint_back():
    made = single()
    take_down(made, "e")
    made.probed("e", ok=True, now=0.0)

    taken = sent(made.arrive(facts(streams=False), 0.0))
    made.ended(taken, Ending.COMPLETED, 1.0)

    assert made.endpoints["e"].health.state is State.UP


def test_a_draining_endpoint_gets_nothing_and_ends_in_peace():
    made = single(slots=2)
    running = sent(made.arrive(facts(), 0.0))

    made.drain("e", on=True)
    assert refused(made.arrive(facts(), 0.0)).reason is RefusalReason.NO_ENDPOINTS
    made.first_token(running, 0.1)
    made.ended(running, Ending.COMPLETED, 0.2)

    made.drain("e", on=False)
    sent(made.arrive(facts(), 0.3))


def test_what_is_said_of_an_unknown_endpoint_is_passed_over_but_for_an_order():
    made = single()

    made.observed("gone", Gauges(), 0.0)
    made.probed("gone", ok=False, now=0.0)
    made.heard("gone", Others(), 0.0)

    with pytest.raises(KeyError, match="gone"):
        made.drain("gone", on=True)


def test_gauges_are_kept_and_others_work_is_counted():
    made = single()
    gauges = Gauges(waiting=3)

    made.observed("e", gauges, 0.0)
    made.heard("e", Others((1, 0, 0)), 0.0)

    assert made.endpoints["e"].load is gauges
    waits(made.arrive(facts(), 0.0))


# Changing


def test_endpoints_that_stay_keep_all_that_is_known_of_them():
    made = dispatcher(plan("a", max_in_flight=1), plan("b", max_in_flight=1))
    kept = made.endpoints["a"]
    flights = [sent(made.arrive(facts(), 0.0)) for _ in range(2)]

    made.reconfigure([plan("a", max_in_flight=2)], Policy(), 1.0)

    assert made.endpoints == {"a": kept}
    assert kept.in_flight == 1
    assert sent(made.arrive(facts(), 1.0)).endpoint is kept
    for taken in flights:
        made.ended(taken, Ending.COMPLETED, 2.0)
    assert [taken.endpoint.in_flight for taken in flights] in ([1, 0], [0, 1])


def test_an_endpoint_that_comes_back_still_has_what_runs_there():
    made = single()
    running = sent(made.arrive(facts(), 0.0))
    made.reconfigure([plan("other")], Policy(), 1.0)

    made.reconfigure([plan("e", max_in_flight=1)], Policy(), 2.0)

    waits(made.arrive(facts(), 2.0))
    made.ended(running, Ending.COMPLETED, 3.0)
    (answer,) = made.due(3.0)
    assert sent(answer).endpoint is running.endpoint


def test_an_endpoint_that_went_with_nothing_running_comes_back_fresh():
    made = single()
    before = made.endpoints["e"]
    made.reconfigure([plan("other")], Policy(), 1.0)

    made.reconfigure([plan("e")], Policy(), 2.0)

    assert made.endpoints["e"] is not before


def test_who_waits_goes_to_an_endpoint_that_was_added():
    made = single()
    sent(made.arrive(facts(), 0.0))
    ticket = waits(made.arrive(facts(), 0.0)).ticket

    made.reconfigure([plan("e", max_in_flight=1), plan("added")], Policy(), 1.0)
    (answer,) = made.due(1.0)

    assert answer.ticket is ticket
    assert sent(answer).endpoint.id == "added"


def test_who_waits_for_a_model_that_goes_is_refused():
    made = single()
    sent(made.arrive(facts(), 0.0))
    waits(made.arrive(facts(), 0.0))

    made.reconfigure([plan("e", models=frozenset({"o"}))], Policy(), 1.0)

    assert made.waiting == 1
    assert expired(made.due(1.0)).reason is RefusalReason.UNKNOWN_MODEL
    assert made.waiting == 0


def test_a_retry_with_no_endpoint_left_to_try_is_refused():
    made = dispatcher(plan("a", max_in_flight=1), plan("b", max_in_flight=1))
    one = sent(made.arrive(facts(), 0.0))
    sent(made.arrive(facts(), 0.0))
    waits(made.failed(one, BROKEN, 1.0))

    made.reconfigure([plan(one.endpoint.id)], Policy(), 1.0)

    assert expired(made.due(1.0)).reason is RefusalReason.NO_ENDPOINTS


def test_a_failure_after_its_model_went_is_refused():
    made = single()
    taken = sent(made.arrive(facts(), 0.0))
    made.reconfigure([plan("e", models=frozenset({"o"}))], Policy(), 1.0)

    refusal = refused(made.failed(taken, BROKEN, 1.0))

    assert refusal.reason is RefusalReason.UNKNOWN_MODEL


def test_a_changed_policy_holds_for_who_comes_next():
    made = single()
    sent(made.arrive(facts(), 0.0))

    classes = Classes(standard=ClassPolicy(max_wait_s=7.0))
    made.reconfigure([plan("e", max_in_flight=1)], Policy(classes=classes), 1.0)

    assert waits(made.arrive(facts(), 1.0)).ticket.ask.wait_until == 8.0


# Predicting


def slow(**changes):
    """A policy whose predictions stay: a tenth of a second for each token of a prompt."""
    return replace(
        Policy(), latency=LatencyPolicy(learns=False, prefill_s_per_token=1e-3), **changes
    )


def test_an_interactive_request_leaves_home_before_home_is_full_where_it_would_be_late():
    made = dispatcher(plan("fast", FAST), plan("wide"), policy=slow())

    first = made.arrive(facts(INTERACTIVE, known_prompt_tokens=200), 0.0)
    second = made.arrive(facts(INTERACTIVE, known_prompt_tokens=200), 0.0)

    assert where(first) == ("fast", Reason.HOME)
    assert where(second) == ("wide", Reason.SPILL)


def test_where_all_are_late_the_least_late_is_taken():
    made = dispatcher(plan("fast", FAST), plan("wide"), policy=slow())
    for _ in range(2):
        sent(made.arrive(facts(STANDARD, known_prompt_tokens=3000), 0.0))

    third = sent(made.arrive(facts(INTERACTIVE, known_prompt_tokens=10), 0.0))

    assert third.predicted_first_token_s > 0.5
    assert third.reason in {Reason.HOME, Reason.SPILL}


def test_bulk_keeps_off_an_endpoint_whose_interactive_answers_it_would_slow_down():
    policy = replace(Policy(), latency=LatencyPolicy(learns=False, step_s=0.045))
    made = dispatcher(plan("wide", max_in_flight=9), policy=policy)
    talking = sent(made.arrive(facts(INTERACTIVE), 0.0))

    ticket = waits(made.arrive(facts(BULK), 0.0)).ticket
    made.ended(talking, Ending.COMPLETED, 1.0)
    (answer,) = made.due(1.0)

    assert answer.ticket is ticket
    assert sent(answer).endpoint.id == "wide"


def test_bulk_that_waits_passes_its_guard_with_its_share_of_what_others_send():
    policy = replace(
        Policy(),
        latency=LatencyPolicy(learns=False, step_s=0.045),
        guard=GuardPolicy(bulk_floor_share=0.5),
    )
    made = dispatcher(plan("wide", max_in_flight=9), policy=policy)
    sent(made.arrive(facts(INTERACTIVE, known_prompt_tokens=100), 0.0))
    ticket = waits(made.arrive(facts(BULK, known_prompt_tokens=100), 0.0)).ticket

    sent(made.arrive(facts(INTERACTIVE, known_prompt_tokens=100), 0.1))
    assert made.due(0.1) == []
    sent(made.arrive(facts(INTERACTIVE, known_prompt_tokens=100), 0.2))
    (answer,) = made.due(made.next_wake() or 0.0)

    assert answer.ticket is ticket


def test_a_tenant_that_took_most_waits_where_all_would_be_late_and_the_others_do_not():
    made = dispatcher(plan("wide", max_in_flight=99), policy=slow())
    for _ in range(3):
        sent(made.arrive(facts(INTERACTIVE, known_prompt_tokens=200, tenant="greedy"), 0.0))
    sent(made.arrive(facts(STANDARD, known_prompt_tokens=1, tenant="quiet"), 0.0))

    waits(made.arrive(facts(INTERACTIVE, known_prompt_tokens=200, tenant="greedy"), 0.0))
    sent(made.arrive(facts(INTERACTIVE, known_prompt_tokens=200, tenant="quiet"), 0.0))


def test_a_conversation_goes_where_its_beginning_was_read():
    made = dispatcher(*(plan(name, max_in_flight=50) for name in "abcdefgh"))
    first = sent(made.arrive(facts(STANDARD, beginnings=(1, 2), prompt_bytes=8000), 0.0))
    made.ended(first, Ending.COMPLETED, 1.0, cached_tokens=0)

    again = sent(made.arrive(facts(STANDARD, beginnings=(1, 2, 3), prompt_bytes=9000), 2.0))

    assert again.endpoint is first.endpoint
    assert again.reason is Reason.AFFINITY
    assert 0 < again.hit_tokens < again.ask.prompt_tokens


def test_a_cache_is_not_followed_where_its_endpoint_is_too_late():
    policy = replace(slow(), affinity=AffinityPolicy(explore_share=0.0))
    made = dispatcher(plan("a", max_in_flight=50), plan("b", max_in_flight=50), policy=policy)
    first = sent(made.arrive(facts(INTERACTIVE, beginnings=(1,), known_prompt_tokens=300), 0.0))

    again = sent(made.arrive(facts(INTERACTIVE, beginnings=(1,), known_prompt_tokens=300), 0.1))

    assert again.endpoint is not first.endpoint


def test_where_all_are_late_a_cache_is_followed_for_what_it_saves():
    policy = replace(slow(), affinity=AffinityPolicy(explore_share=0.0))
    made = dispatcher(plan("a", max_in_flight=50), plan("b", max_in_flight=50), policy=policy)
    first = sent(made.arrive(facts(INTERACTIVE, beginnings=(1,), known_prompt_tokens=300), 0.0))
    other = sent(made.arrive(facts(INTERACTIVE, beginnings=(2,), known_prompt_tokens=300), 0.0))
    assert other.endpoint is not first.endpoint
    sent(made.arrive(facts(STANDARD, beginnings=(2,), known_prompt_tokens=300), 0.0))

    again = sent(made.arrive(facts(INTERACTIVE, beginnings=(2,), known_prompt_tokens=900), 0.3))

    assert again.endpoint is other.endpoint
    assert again.reason is Reason.AFFINITY


@pytest.mark.parametrize(("known_tokens", "stays"), [(6000, True), (30000, False)])
def test_a_conversation_that_grew_too_long_for_its_pool_stays_while_little_of_it_is_unread(
    known_tokens, stays
):
    policy = Policy(affinity=AffinityPolicy(explore_share=0.0))
    made = dispatcher(plan("short", FAST), plan("long"), policy=policy)
    early = {"beginnings": tuple(range(9)), "known_prompt_tokens": 3500}
    first = sent(made.arrive(facts(INTERACTIVE, **early), 0.0))
    assert first.endpoint.id == "short"
    made.first_token(first, 0.1)
    made.ended(first, Ending.COMPLETED, 1.0)

    later = {"beginnings": tuple(range(12)), "known_prompt_tokens": known_tokens}
    again = sent(made.arrive(facts(INTERACTIVE, **later), 2.0))

    assert (again.endpoint is first.endpoint) is stays


def test_what_would_be_served_too_late_is_refused_at_once_and_told_when_to_come_back():
    made = single()
    running = sent(made.arrive(facts(BULK), 0.0))
    for second in range(1, 40):
        made.arrive(facts(BULK, targets=Targets(deadline_s=900.0)), float(second))
        made.ended(running, Ending.COMPLETED, second + 0.5)
        (answer,) = made.due(second + 0.5)
        running = sent(answer)
        made.arrive(facts(BULK, targets=Targets(deadline_s=900.0)), second + 0.6)

    refusal = refused(made.arrive(facts(BULK, targets=Targets(deadline_s=5.0)), 40.0))

    assert refusal.reason is RefusalReason.SATURATED
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s > 5.0
    waits(made.arrive(facts(BULK, targets=Targets(deadline_s=900.0)), 40.0))
