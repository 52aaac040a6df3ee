import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.endpoints.least_tokens import LeastTokens
from policies.facts import Reason, Targets
from policies.ordering import Lane, Queue, Ticket, foremost
from policies.pools import Tier
from tests.policies.builders import ask, state


def lane(rank=1, endpoints=()):
    return Lane(rank, (Tier(tuple(endpoints), LeastTokens(), Reason.HOME),))


def ticket(number, where, now=0.0, **changes):
    return Ticket(number, ask(now=now, **changes), where, now)


def used_by(**tokens):
    return lambda tenant: tokens.get(tenant, 0.0)


NOBODY = used_by()


def drained(queue, where, now=0.0, used=NOBODY):
    served = []
    while where.waiting:
        served.append(where.first(now, used))
        queue.remove(served[-1])
    return served


def test_who_came_first_is_served_first():
    where, queue = lane(), Queue()
    tickets = [ticket(number, where, 0.1 * number) for number in range(3)]

    for each in reversed(tickets):
        queue.push(each)

    assert drained(queue, where) == tickets


def test_who_has_to_be_sent_sooner_passes_who_came_before():
    where, queue = lane(), Queue()
    easy = ticket(1, where, targets=Targets(first_token_s=9.0))
    tight = ticket(2, where, 0.5, targets=Targets(first_token_s=3.0))
    urgent = ticket(3, where, 1.0, targets=Targets(first_token_s=9.0), urgency=1)
    for each in (easy, tight, urgent):
        queue.push(each)

    assert drained(queue, where) == [urgent, tight, easy]


def test_who_is_late_already_makes_nobody_else_late():
    where, queue = lane(), Queue()
    late, later = ticket(1, where, 0.0), ticket(2, where, 0.1)
    in_time = ticket(3, where, 4.0)
    for each in (late, later, in_time):
        queue.push(each)

    assert drained(queue, where, now=5.0) == [in_time, late, later]


def test_a_late_one_that_leaves_is_forgotten():
    where, queue = lane(), Queue()
    late, other = ticket(1, where), ticket(2, where, 9.0)
    queue.push(late)
    queue.push(other)
    assert where.first(9.0, NOBODY) is other

    queue.remove(late)

    assert late not in queue
    assert where.tickets == [other]


def test_of_two_tenants_the_one_that_used_less_is_served_first():
    where, queue = lane(), Queue()
    greedy, modest = ticket(1, where, tenant="greedy"), ticket(2, where, 1.0, tenant="modest")
    queue.push(greedy)
    queue.push(modest)

    assert where.first(1.0, used_by(greedy=9.0, modest=1.0)) is modest
    assert where.first(1.0, used_by(greedy=1.0, modest=9.0)) is greedy


def test_the_foremost_lane_is_that_of_the_first_to_be_served():
    early, late, queue = lane(), lane(), Queue()
    queue.push(ticket(1, late, 1.0, tenant="a"))
    queue.push(ticket(2, early, 0.5, tenant="b"))

    assert foremost([late, early], 1.0, NOBODY) is early
    assert foremost([late, early], 1.0, used_by(b=5.0)) is late
    assert foremost([late, early], 2.6, NOBODY) is late
    assert foremost([late], 1.0, NOBODY) is late


def test_one_who_leaves_is_no_longer_counted_or_expired():
    where, queue = lane(2), Queue()
    stays, leaves = ticket(1, where, 5.0), ticket(2, where)
    queue.push(stays)
    queue.push(leaves)

    queue.remove(leaves)

    assert (queue.waiting, queue.by_rank) == (1, [0, 0, 1])
    assert leaves not in queue
    assert queue.expire(1e9) == [stays]
    assert queue.lanes(2) == []


def test_those_that_waited_too_long_are_taken_out_the_longest_overdue_first():
    where, queue = lane(), Queue()
    patient = ticket(1, where, patience_s=9.0)
    hasty = ticket(2, where, patience_s=3.0)
    queue.push(patient)
    queue.push(hasty)

    assert queue.next_expiry() == 3.0
    assert queue.expire(2.9) == []
    assert queue.expire(9.0) == [hasty, patient]
    assert queue.next_expiry() is None


def test_a_lane_past_tried_endpoints_is_remembered():
    a, b = state("a"), state("b")
    whole = lane(endpoints=(a, b))

    assert whole.without(frozenset()) is whole
    assert whole.without(frozenset({"a"})).endpoints == (b,)
    assert whole.without(frozenset({"a"})) is whole.without(frozenset({"a"}))
    assert whole.without(frozenset({"a", "b"})).tiers == ()


def test_clearing_takes_out_everybody_in_order_of_arrival():
    one, other, queue = lane(), lane(), Queue()
    tickets = [ticket(1, one, 3.0), ticket(2, other, 1.0), ticket(3, one, 2.0)]
    for each in tickets:
        queue.push(each)

    assert queue.clear() == [tickets[1], tickets[2], tickets[0]]
    assert queue.waiting == 0


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_lanes_are_kept_by_rank(rank):
    where, queue = lane(rank), Queue()

    queue.push(ticket(1, where))

    assert [queue.lanes(each) for each in range(3)] == [
        [where] if each == rank else [] for each in range(3)
    ]


def test_many_who_leave_early_leave_no_trace():
    where, queue = lane(), Queue()
    for number in range(1000):
        leaves = ticket(number, where)
        queue.push(leaves)
        queue.remove(leaves)

    assert len(queue._expiries) <= 65


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 9.0)), max_size=200))
def test_the_record_of_expiries_stays_in_proportion_to_those_who_wait(steps):
    where, queue = lane(), Queue()
    waiting: list[Ticket] = []

    for number, (leaves, patience_s) in enumerate(steps):
        if leaves and waiting:
            queue.remove(waiting.pop())
        else:
            waiting.append(ticket(number, where, patience_s=patience_s))
            queue.push(waiting[-1])

        assert queue.waiting == len(waiting)
        assert len(queue._expiries) <= 2 * len(waiting) + 66
        earliest = min((each.ask.wait_until for each in waiting), default=None)
        assert queue.next_expiry() == earliest
