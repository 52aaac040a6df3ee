import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.facts import FailureKind
from policies.policy import RetryPolicy
from policies.retry import RetryBudget, may_retry

ELSEWHERE = [
    FailureKind.NOT_REACHED,
    FailureKind.BROKEN,
    FailureKind.FIRST_TOKEN_TIMEOUT,
]


def empty_budget():
    budget = RetryBudget(RetryPolicy(burst=1.0, per_s=0.0), 0.0)
    budget.spend()
    return budget


def judge(kind, attempts=1, budget=None, *, spared=False):
    return may_retry(kind, attempts, budget or RetryBudget(RetryPolicy()), 0.0, spared=spared)


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_another_endpoint_may_do_better_is_tried_until_attempts_or_budget_are_spent(kind):
    assert judge(kind, 1)
    assert judge(kind, 2)
    assert not judge(kind, 3)
    assert not judge(kind, 1, empty_budget())


def test_a_refusal_for_want_of_room_costs_nothing_and_is_tried_until_attempts_are_spent():
    assert judge(FailureKind.BUSY, 2, empty_budget())
    assert not judge(FailureKind.BUSY, 3)


@pytest.mark.parametrize("kind", [FailureKind.REJECTED, FailureKind.IDLE_TIMEOUT])
def test_what_no_endpoint_would_do_better_is_not_tried_again(kind):
    assert not judge(kind)


def test_a_stale_connection_is_forgiven_once_whatever_the_budget():
    assert judge(FailureKind.STALE_CONNECTION, 3, empty_budget())
    assert not judge(FailureKind.STALE_CONNECTION, 1, empty_budget(), spared=True)
    assert judge(FailureKind.STALE_CONNECTION, 2, spared=True)


@pytest.mark.parametrize("kind", [*ELSEWHERE, FailureKind.BUSY])
def test_a_stale_connection_is_no_attempt(kind):
    assert judge(kind, 3, spared=True)
    assert not judge(kind, 4, spared=True)


def test_the_budget_holds_a_tenth_of_requests():
    budget = empty_budget()
    budget.policy = RetryPolicy(burst=20.0, per_s=0.0)

    for _ in range(101):
        budget.arrived()
    for _ in range(10):
        assert budget.has_one(0.0)
        budget.spend()

    assert not budget.has_one(0.0)


def test_the_budget_grows_by_one_a_second():
    budget = empty_budget()
    budget.policy = RetryPolicy()

    assert not budget.has_one(0.5)
    assert budget.has_one(1.5)


def test_time_before_the_first_look_earns_nothing():
    budget = RetryBudget(RetryPolicy(burst=1.0))
    budget.spend()

    assert not budget.has_one(1e9)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 5), st.booleans()), max_size=40),
    st.floats(1, 30),
)
def test_no_more_is_retried_than_burst_share_and_time_allow(steps, burst):
    policy = RetryPolicy(burst=burst)
    budget = RetryBudget(policy, 0.0)
    now, requests, retries = 0.0, 0, 0

    for arrivals, elapsed_s, fails in steps:
        now += elapsed_s
        requests += arrivals
        for _ in range(arrivals):
            budget.arrived()
        while fails and budget.has_one(now):
            budget.spend()
            retries += 1

    assert retries <= burst + 0.1 * requests + now + 1e-6
