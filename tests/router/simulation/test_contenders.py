"""What is compared."""

from dataclasses import asdict

import pytest

from policies.facts import Profile, SlaClass
from policies.policy import EndpointPolicyName, Policy
from router.document import ConfigError
from router.simulation.contenders import CONTENDERS, contender
from router.simulation.fleet import load_fleet
from tests.router.simulation.worlds import LOOSE, fleet, offer, outcomes, pool, world

FLEET = load_fleet("h100-8b")


def test_headway_is_the_routers_own_default_on_the_fleet_as_it_is():
    headway = CONTENDERS["headway"]

    assert headway.policy == Policy()
    assert headway.plans(FLEET) == [member.plan for member in FLEET.members]


@pytest.mark.parametrize("name", list(EndpointPolicyName))
def test_every_endpoint_policy_is_a_baseline_over_one_flat_pool_without_slots(name):
    baseline = CONTENDERS[name]
    plans = baseline.plans(FLEET)

    assert {plan.profile for plan in plans} == {Profile.THROUGHPUT}
    assert min(plan.max_in_flight for plan in plans) > 10**6
    assert baseline.policy.profiles.throughput.endpoint_policy == name


@pytest.mark.parametrize("name", list(EndpointPolicyName))
def test_a_flat_baseline_sends_every_class_everywhere_at_once(name):
    of = fleet(pool("predictable", count=2, max_in_flight=1), pool(count=2, max_in_flight=1))
    offers = [
        offer(
            number,
            number * 0.3e-4,
            targets=LOOSE,
            session=f"session-{number}",
            sla_class=list(SlaClass)[number % 3],
        )
        for number in range(60)
    ]

    found = outcomes(world(of, CONTENDERS[name]), offers)

    assert all(each.queued_s == 0.0 for each in found)
    used = {(each.endpoint, each.offer.sla_class) for each in found}
    if name != EndpointPolicyName.LEAST_SCRAPED:  # it sees nothing before the first scrape
        assert len({endpoint for endpoint, _ in used}) == 4
    assert len({sla_class for _, sla_class in used}) == 3


def test_a_hard_split_exchanges_nothing_and_holds_nothing_back():
    of = fleet(pool("predictable", max_in_flight=1), pool(count=2, max_in_flight=1))
    offers = [
        offer(number, number * 1e-4, sla_class=list(SlaClass)[number % 3]) for number in range(30)
    ]

    found = outcomes(world(of, CONTENDERS["hard_split"]), offers)

    for each in found:
        interactive = each.offer.sla_class is SlaClass.INTERACTIVE
        assert (each.endpoint == "predictable-0") is interactive
        assert each.queued_s == 0.0


@pytest.mark.parametrize("name", ["no_spill", "no_holds", "by_requests"])
def test_an_ablation_differs_from_headway_in_one_thing(name):
    before, after = asdict(Policy()), asdict(CONTENDERS[name].policy)

    assert [key for key in before if before[key] != after[key]] == (
        ["spill"] if name == "no_spill" else ["profiles"]
    )


def test_every_contender_says_what_it_is():
    assert all(each.about for each in CONTENDERS.values())
    assert all(name == each.name for name, each in CONTENDERS.items())


def test_a_policy_comes_from_a_configuration_and_keeps_the_defaults_it_does_not_change(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[server]\nport = 1\n[policy.spill]\nto_throughput = false\n")

    mine = contender(str(path))

    assert mine.name == "mine"
    assert not mine.policy.spill.to_throughput
    assert mine.policy.spill.to_predictable
    assert mine.policy.classes == Policy().classes


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("hedway", None, "unknown policy 'hedway'; known: headway"),
        ("mine.toml", "[server]\nport = 1\n", "mine.toml.policy: is missing; it is a table"),
        ("mine.toml", "[policy.spil]\nx = 1\n", "unknown key 'spil'; known: spill"),
    ],
)
def test_a_wrong_policy_is_told(tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError) as caught:
        contender(name)

    assert message in str(caught.value)
