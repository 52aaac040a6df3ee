import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.endpoints.least_tokens import LeastTokens
from policies.facts import Reason
from policies.ordering import Lane, Queue, Ticket, oldest
from policies.pools import Tier
from tests.policies.builders import ask, state


def lane(rank=1, endpoints=()):
    return Lane(rank, (Tier(tuple(endpoints), LeastTokens(), Reason.HOME),))


def ticket(number, where, now=0.0, **changes):
    return Ticket(number, ask(now=now, **changes), where, now)


def test_who_came_first_stands_first():
    where, queue = lane(), Queue()
    tickets = [ticket(number, where, float(number)) for number in range(3)]

    for each in tickets:
        queue.push(each)

    assert list(where.tickets.values()) == tickets
    assert where.first is tickets[0]


def test_a_retry_passes_those_that_arrived_after_it():
    where, queue = lane(), Queue()
    first, last, retry = ticket(1, where, 1.0), ticket(2, where, 3.0), ticket(3, where, 2.0)

    for each in (first, last, retry):
        queue.push(each)

    assert list(where.tickets.values()) == [first, retry, last]


def test_the_oldest_lane_is_that_of_the_first_to_arrive():
    early, late, queue = lane(), lane(), Queue()
    queue.push(ticket(1, late, 2.0))
    queue.push(ticket(2, early, 1.0))

    assert oldest([late, early]) is early
    assert oldest([late]) is late


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
