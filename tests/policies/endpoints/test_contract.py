"""What every endpoint policy promises; a new one is covered by being registered."""

from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.endpoints.registry import POLICIES
from policies.policy import EndpointPolicyName
from tests.policies.builders import ask

every_policy = pytest.mark.parametrize("name", EndpointPolicyName)


@dataclass(slots=True)
class Gauges:
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    progress: float | None = None


@dataclass(slots=True)
class Seen:
    """An endpoint as a policy sees it, with any figures at all."""

    id: str
    weight: float = 1.0
    in_flight: int = 0
    pending_prompt_tokens: int = 0
    kv_tokens: int = 0
    load: Gauges | None = None
    peak_s: float | None = None

    def first_token_s(self, now: float) -> float | None:
        return self.peak_s


gauges = st.builds(
    Gauges,
    waiting=st.none() | st.integers(0, 50),
    kv_usage=st.none() | st.floats(0, 1),
)
fleets = st.lists(
    st.builds(
        Seen,
        st.text("abcdefgh", min_size=1, max_size=6),
        st.sampled_from([0.5, 1.0, 3.0]),
        st.integers(0, 300),
        st.integers(0, 50_000),
        st.integers(0, 500_000),
        st.none() | gauges,
        st.none() | st.floats(0, 100),
    ),
    min_size=1,
    max_size=9,
    unique_by=lambda seen: seen.id,
)
sessions = st.none() | st.text(max_size=5)


@every_policy
@settings(max_examples=25)
@given(fleet=fleets, seed=st.integers(0, 99), session=sessions)
def test_it_chooses_one_of_those_given_and_changes_none(name, fleet, seed, session):
    policy, before = POLICIES[name](), deepcopy(fleet)

    for _ in range(3):
        chosen = policy.choose(ask(session=session), fleet, Random(seed), 1.0)
        assert any(chosen is endpoint for endpoint in fleet)

    assert fleet == before


@every_policy
@settings(max_examples=25)
@given(fleet=fleets, seed=st.integers(0, 99))
def test_the_same_seed_chooses_the_same(name, fleet, seed):
    def choices():
        policy, rng = POLICIES[name](), Random(seed)
        return [policy.choose(ask(), fleet, rng, 1.0).id for _ in range(5)]

    assert choices() == choices()


SPREADS = [name for name in EndpointPolicyName if name is not EndpointPolicyName.CONSISTENT_HASH]


@pytest.mark.parametrize("name", SPREADS)
def test_equals_get_equal_shares(name):
    policy, rng = POLICIES[name](), Random(7)
    fleet = [Seen(each) for each in "abcd"]
    counts = dict.fromkeys("abcd", 0)

    for _ in range(4000):
        counts[policy.choose(ask(), fleet, rng, 1.0).id] += 1

    assert all(850 <= count <= 1150 for count in counts.values()), counts


def served(name, fleet, requests):
    """Let requests pile up, counted as the router would, and return how many each got."""
    policy, rng = POLICIES[name](), Random(7)
    for number in range(requests):
        asked = ask(id=str(number), known_prompt_tokens=100)
        chosen = policy.choose(asked, fleet, rng, 1.0)
        chosen.in_flight += 1
        chosen.pending_prompt_tokens += 100
        chosen.kv_tokens += 100
    return {endpoint.id: endpoint.in_flight for endpoint in fleet}


BY_WEIGHT = [
    name
    for name in EndpointPolicyName
    if name not in (EndpointPolicyName.LEAST_SCRAPED, EndpointPolicyName.PEAK_EWMA)
]


@pytest.mark.parametrize("name", BY_WEIGHT)
def test_shares_follow_weight(name):
    shares = served(name, [Seen("a", weight=3.0), Seen("b"), Seen("c")], 1000)

    assert shares["a"] == pytest.approx(600, rel=0.1)
    assert shares["b"] == pytest.approx(200, rel=0.2)


LESS_LOADED: dict[EndpointPolicyName, dict[str, Any]] = {
    EndpointPolicyName.LEAST_TOKENS: {"pending_prompt_tokens": 9000},
    EndpointPolicyName.TWO_CHOICES_TOKENS: {"kv_tokens": 9000},
    EndpointPolicyName.LEAST_BUSY: {"in_flight": 3},
    EndpointPolicyName.TWO_CHOICES: {"in_flight": 3},
    EndpointPolicyName.PEAK_EWMA: {"peak_s": 3.0, "in_flight": 1},
    EndpointPolicyName.LEAST_SCRAPED: {"load": Gauges(waiting=3, kv_usage=0.5)},
}
QUIET: dict[EndpointPolicyName, dict[str, Any]] = {
    EndpointPolicyName.PEAK_EWMA: {"peak_s": 0.1, "in_flight": 1},
    EndpointPolicyName.LEAST_SCRAPED: {"load": Gauges(waiting=0, kv_usage=0.5)},
}


@pytest.mark.parametrize("name", LESS_LOADED)
@given(seed=st.integers(0, 999), first=st.booleans())
def test_of_two_endpoints_the_less_loaded_is_chosen(name, seed, first):
    loaded, quiet = Seen("loaded", **LESS_LOADED[name]), Seen("quiet", **QUIET.get(name, {}))
    fleet = [loaded, quiet] if first else [quiet, loaded]

    assert POLICIES[name]().choose(ask(), fleet, Random(seed), 1.0) is quiet
