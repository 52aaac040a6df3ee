import pytest

from policies.endpoints.least_tokens import LeastTokens
from policies.facts import Profile, Reason
from policies.policy import Spill
from policies.pools import tiers
from tests.policies.builders import BULK, FAST, INTERACTIVE, STANDARD, WIDE, state

CHOOSERS = {profile: LeastTokens() for profile in Profile}
BOTH = (state("f", FAST), state("w", WIDE), state("g", FAST))
NO_SPILL = Spill(to_throughput=False, to_predictable=False)
HOME, SPILL, ONLY = Reason.HOME, Reason.SPILL, Reason.ONLY


def order(endpoints, sla_class, spill=Spill(), *, fits=True):  # noqa: B008 - a frozen value
    found = tiers(endpoints, sla_class, spill, CHOOSERS, fits_predictable=fits)
    return [("".join(each.id for each in tier.endpoints), tier.reason) for tier in found]


@pytest.mark.parametrize(
    ("sla_class", "fits", "expected"),
    [
        (INTERACTIVE, True, [("fg", HOME), ("w", SPILL)]),
        (INTERACTIVE, False, [("w", HOME)]),
        (STANDARD, True, [("w", HOME), ("fg", SPILL)]),
        (STANDARD, False, [("w", HOME)]),
        (BULK, True, [("w", HOME), ("fg", SPILL)]),
        (BULK, False, [("w", HOME)]),
    ],
)
def test_home_comes_first_and_long_requests_never_enter_predictable_pools(
    sla_class, fits, expected
):
    assert order(BOTH, sla_class, fits=fits) == expected


@pytest.mark.parametrize(
    ("sla_class", "spill", "expected"),
    [
        (INTERACTIVE, Spill(to_throughput=False), [("fg", HOME)]),
        (INTERACTIVE, Spill(to_predictable=False), [("fg", HOME), ("w", SPILL)]),
        (STANDARD, Spill(to_throughput=False), [("w", HOME), ("fg", SPILL)]),
        (BULK, Spill(to_predictable=False), [("w", HOME)]),
    ],
)
def test_spilling_can_be_switched_off_each_way(sla_class, spill, expected):
    assert order(BOTH, sla_class, spill) == expected


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("sla_class", [INTERACTIVE, STANDARD, BULK])
@pytest.mark.parametrize("profile", Profile)
def test_a_model_of_one_profile_is_served_by_that_one(profile, sla_class, fits):
    at_home = (profile is FAST) == (sla_class is INTERACTIVE and fits)

    found = order([state("x", profile)], sla_class, NO_SPILL, fits=fits)

    assert found == [("x", HOME if at_home else ONLY)]


def test_of_no_endpoints_there_are_no_tiers():
    assert order([], BULK) == []
