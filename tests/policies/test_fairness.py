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


# What was used at other routers


def test_what_a_tenant_used_elsewhere_counts_as_if_it_had_been_here():
    made = shares()
    made.used("greedy", 100.0, 0.0)
    made.used("modest", 100.0, 0.0)

    made.heard({"greedy": 800.0}, 0.0)

    assert made.over("greedy", 0.0)
    assert made.own(9, 0.0) == {"greedy": 100.0, "modest": 100.0}


def test_what_was_heard_replaces_what_was_heard_before():
    made = shares()
    made.used("a", 100.0, 0.0)
    made.heard({"a": 50.0, "b": 70.0}, 0.0)

    made.heard({"b": 30.0}, 5.0)
    made.heard({}, 90.0)

    assert made.of("b") == 0.0
    assert made.own(9, 90.0) == {}


def test_of_many_those_are_told_who_used_most():
    made = shares()
    for number in range(1, 10):
        made.used(f"t{number}", 10.0 * number, 0.0)

    assert made.own(2, 0.0) == {"t9": 90.0, "t8": 80.0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("here", "there")),
            st.sampled_from("abc"),
            st.floats(0, 1e4),
            st.floats(0, 40),
        ),
        max_size=40,
    )
)
def test_own_use_is_what_it_would_be_without_the_others(events):
    both, lone = shares(), shares()
    now = 0.0
    for where, tenant, tokens, passed in events:
        now += passed
        if where == "here":
            both.used(tenant, tokens, now)
            lone.used(tenant, tokens, now)
        else:
            both.heard({tenant: tokens}, now)

    ours, alone = both.own(9, now), lone.own(9, now)
    for tenant in ours.keys() | alone.keys():
        assert abs(ours.get(tenant, 0.0) - alone.get(tenant, 0.0)) < 1.1
