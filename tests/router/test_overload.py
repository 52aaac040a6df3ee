import resource

import pytest

from policies.facts import RefusalReason, SlaClass
from router.overload import EARLY_READINGS, LATE_READINGS, Overload, most_connections

INTERACTIVE, STANDARD, BULK = SlaClass


def late(overload, times=LATE_READINGS, lag_s=0.5):
    for _ in range(times):
        overload.observe(lag_s)


def shed(overload):
    return [each for each in SlaClass if overload.refusal(each) is not None]


def test_a_router_in_time_sheds_nobody():
    overload = Overload(0.25)
    late(overload, 100, 0.2)

    assert shed(overload) == []


def test_a_pause_now_and_then_is_no_overload():
    overload = Overload(0.25)
    for _ in range(10):
        late(overload, LATE_READINGS - 1)
        overload.observe(0.0)

    assert shed(overload) == []


def test_bulk_goes_first_and_then_standard_and_interactive_never():
    overload = Overload(0.25)
    after = []
    for _ in range(4):
        late(overload)
        after.append(shed(overload))

    assert after == [[BULK], [STANDARD, BULK], [STANDARD, BULK], [STANDARD, BULK]]


def test_they_come_back_one_by_one_when_it_is_in_time_again():
    overload = Overload(0.25)
    late(overload, 2 * LATE_READINGS)
    after = []
    for _ in range(3):
        late(overload, EARLY_READINGS, 0.01)
        after.append(shed(overload))

    assert after == [[BULK], [], []]


def test_between_the_limits_things_stay_as_they_are():
    overload = Overload(0.25)
    late(overload)
    late(overload, 50, 0.2)

    assert shed(overload) == [BULK]


def test_the_refusal_says_what_is_late_and_when_to_come_back():
    overload = Overload(0.25)
    late(overload)
    refusal = overload.refusal(BULK)

    assert refusal is not None
    assert refusal.reason is RefusalReason.SATURATED
    assert "500 ms late" in refusal.detail
    assert refusal.retry_after_s == 2.0


def test_without_a_limit_nobody_is_shed():
    overload = Overload(None)
    late(overload, 100)

    assert shed(overload) == []


@pytest.mark.parametrize(
    ("soft", "most"), [(1024, 448), (100, 16), (resource.RLIM_INFINITY, 1 << 30)]
)
def test_callers_are_bounded_by_open_files_of_which_each_takes_two(soft, most, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))

    assert most_connections(None) == most


def test_a_configured_bound_is_taken_as_it_is():
    assert most_connections(7) == 7
