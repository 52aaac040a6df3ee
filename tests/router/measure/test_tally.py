"""Counting: what is good, what is missed, and that nothing is counted twice or lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.facts import NO_TARGETS, Reason, RefusalReason, SlaClass
from router.measure import tally as tallies
from router.measure.outcome import Fate
from router.measure.tally import BINS, Tally, merged
from tests.router.measure.outcomes import offer, outcome


@pytest.mark.parametrize(
    ("times", "good"),
    [
        ({}, True),
        ({"first_token_s": 0.51}, False),
        ({"per_token_s": 0.051}, False),
        ({"total_s": 10.1}, False),
        ({"first_token_s": 0.5, "per_token_s": 0.05, "total_s": 10.0}, True),
        ({"per_token_s": None}, True),
    ],
)
def test_an_answer_is_good_where_it_meets_every_target(times, good):
    assert outcome(**times).good is good


@pytest.mark.parametrize("fate", [fate for fate in Fate if fate is not Fate.SERVED])
def test_whatever_was_not_served_whole_is_missed_however_fast(fate):
    assert not outcome(fate).good


def test_what_is_held_to_nothing_is_good_when_it_is_served():
    free = offer(targets=NO_TARGETS)

    assert outcome(of=free, total_s=1e6).good
    assert not outcome(Fate.REFUSED, of=free).good


def test_attainment_counts_refused_requests_as_missed():
    tally = Tally(100.0, 0.0)
    for fate in (Fate.SERVED, Fate.SERVED, Fate.REFUSED, Fate.FAILED):
        tally.add(outcome(fate))

    group = tally.classes[SlaClass.INTERACTIVE]
    assert group.attainment == 0.5
    assert group.shed == 0.25
    assert group.served == 2


def test_a_group_without_requests_has_missed_nothing():
    group = Tally(100.0, 0.0).all

    assert (group.attainment, group.shed) == (1.0, 0.0)


def test_the_warm_up_is_seen_over_time_but_not_counted():
    tally = Tally(100.0, 20.0)
    tally.add(outcome(of=offer(at_s=19.9)))
    tally.add(outcome(of=offer(at_s=20.0)))

    assert tally.offered == 2
    assert tally.all.offered == 1
    assert sum(each.offered for each in tally.timeline[SlaClass.INTERACTIVE]) == 2
    assert tally.window_s == 80.0


def test_tenants_beyond_the_limit_are_counted_together(monkeypatch):
    monkeypatch.setattr(tallies, "MOST_TENANTS", 2)
    tally = Tally(100.0, 0.0)
    for name in ("a", "b", "c", "d", "a", ""):
        tally.add(outcome(of=offer(tenant=name)))

    assert {name: group.offered for name, group in tally.tenants.items()} == {
        "a": 2,
        "b": 1,
        "other": 2,
    }


def test_endpoints_and_reasons_are_counted_where_they_are_known():
    tally = Tally(100.0, 0.0)
    sent = outcome()
    sent.endpoint, sent.reason = "gpu-1", Reason.SPILL
    refused = outcome(Fate.REFUSED)
    refused.refusal = RefusalReason.SATURATED
    nowhere = outcome()
    nowhere.endpoint = "gpu-1"
    for each in (sent, refused, nowhere):
        tally.add(each)

    assert tally.endpoints["gpu-1"].requests == 2
    assert tally.endpoints["gpu-1"].reasons == {"spill": 1}
    assert tally.all.refusals == {"rejected-saturated": 1}


FATES = st.lists(
    st.tuples(st.sampled_from(list(Fate)), st.sampled_from(list(SlaClass)), st.floats(0, 99.9)),
    max_size=60,
)


@given(fates=FATES, warm_up_s=st.floats(0, 50))
@settings(max_examples=40, deadline=None)
def test_every_outcome_is_counted_exactly_once(fates, warm_up_s):
    tally = Tally(100.0, warm_up_s)
    for fate, sla_class, at_s in fates:
        tally.add(outcome(fate, of=offer(at_s=at_s, sla_class=sla_class, tenant="t")))

    counted = [entry for entry in fates if entry[2] >= warm_up_s]
    assert tally.offered == len(fates)
    assert tally.all.offered == len(counted) == sum(tally.all.fates.values())
    assert sum(group.offered for group in tally.tenants.values()) == len(counted)
    bins = [each for pieces in tally.timeline.values() for each in pieces]
    assert len(bins) == BINS * len(SlaClass)
    assert sum(each.offered for each in bins) == len(fates)


def test_groups_together_are_what_they_are_apart():
    first, second, both = (Tally(100.0, 0.0) for _ in range(3))
    for index in range(20):
        each = outcome(total_s=0.1 * index + 0.1)
        each.slowest_gap_s = 0.2
        (first if index % 2 else second).add(each)
        both.add(each)

    together = merged([first.all, second.all])

    assert together.offered == both.all.offered == 20
    assert together.total.percentile(0.5) == both.all.total.percentile(0.5)
    assert together.slowest_gap.count == 20
    assert together.output_tokens == 400
