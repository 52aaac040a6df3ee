"""Who used more than its share, and for how long that is held against it."""

from hypothesis import given
from hypothesis import strategies as st

from policies.fairness import MOST_TENANTS, Shares
from policies.policy import FairnessPolicy


def shares(**changes):
    return Shares(FairnessPolicy(**changes))


def test_a_tenant_alone_is_never_over_its_share():
    made = shares()
    made.used("only", 1e6, 0.0)

    assert not made.over("only", 0.0)


def test_of_two_the_one_that_used_most_is_over_its_share_and_the_other_is_not():
    made = shares()
    made.used("greedy", 900.0, 0.0)
    made.used("modest", 100.0, 0.0)

    assert made.over("greedy", 0.0)
    assert not made.over("modest", 0.0)
    assert not made.over("unheard of", 0.0)


def test_use_is_forgotten_and_those_who_are_gone_no_longer_share():
    made = shares(tau_s=10.0)
    made.used("greedy", 900.0, 0.0)
    made.used("modest", 100.0, 0.0)

    made.used("modest", 500.0, 60.0)

    assert made.of("modest") > made.of("greedy")
    made.used("modest", 500.0, 200.0)
    assert not made.over("modest", 200.0)


def test_where_fairness_is_off_nobody_is_over():
    made = shares(most_share=None)
    made.used("greedy", 900.0, 0.0)
    made.used("modest", 1.0, 0.0)

    assert not made.over("greedy", 0.0)


def test_the_table_is_bounded():
    made = shares()
    for number in range(MOST_TENANTS + 50):
        made.used(f"t{number}", 1.0, 0.0)

    assert len(made._used) == MOST_TENANTS


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e4), st.floats(0, 100)), max_size=60)
)
def test_never_are_all_over_their_share(steps):
    made, now = shares(), 0.0
    for tenant, tokens, elapsed_s in steps:
        now += elapsed_s
        made.used(tenant, tokens, now)

        assert not all(made.over(each, now) for each in "abc")
