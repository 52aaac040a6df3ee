"""The parts of the anchor points that need no process, and both worlds on a small scale."""

import json
from math import inf

import pytest

from engines.emulator.faces.reading import chat_prompt
from engines.emulator.server import serve
from policies.facts import Profile, SlaClass
from router.bench.prompts import Prompts
from router.bench.question import Target, Writer
from router.config import describe, load
from router.measure.distribution import Distribution
from router.measure.outcome import Fate, Outcome
from router.measure.tally import Tally
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import MODEL, load_fleet
from router.workload.stream import nominal_rate, offers
from tests.bench import anchors
from tests.bench.agreement import Gate, Verdict
from tests.bench.anchors import Point, as_sent, figures, sent_bytes, workload
from tests.bench.emulated_fleet import lateness, served
from tests.bench.http_world import configuration

GOOD = (Gate("p99 send lag, s", 0.001, 0.005), Gate("p99 step lateness, s", 0.001, 0.002))


def tally(first_token_s: float) -> Tally:
    """Return one second of chat whose answers all began after a time."""
    counted = Tally(1.0, 0.0)
    for offer in offers(workload(1.0, 1.0), 1):
        counted.add(Outcome(offer, Fate.SERVED, first_token_s, per_token_s=0.01, total_s=1.0))
    return counted


def test_the_load_is_a_share_of_capacity():
    assert nominal_rate(workload(0.4, 20.0)) == pytest.approx(0.4 * anchors.CAPACITY)


def test_the_simulation_is_offered_what_the_load_generator_sends():
    target, prompts = Target("router", "http://127.0.0.1:1", MODEL), Prompts(1)
    writer = Writer(target, prompts, exact=True)
    offered = list(offers(workload(1.0, 20.0), 1))

    for offer, sent in zip(offered, as_sent(iter(offered)), strict=True):
        document = json.loads(writer.request(offer).partition(b"\r\n\r\n")[2])
        (message,) = document["messages"]
        assert chat_prompt([message]).tokens == sent.prompt_tokens
        assert len(message["content"]) == sent_bytes(sent)
        assert document["max_tokens"] == sent.max_tokens == sent.length


@pytest.mark.parametrize("policy", anchors.POLICIES)
def test_the_router_is_configured_as_the_contender_sees_the_fleet(policy, tmp_path):
    fleet, contender = load_fleet(anchors.FLEET), CONTENDERS[policy]
    path = tmp_path / "headway.toml"
    path.write_text(describe(configuration(fleet, contender, 8080, [8001, 8002, 8003])))

    config = load(path)

    plans = {plan.id: plan for plan in contender.plans(fleet)}
    found = {
        endpoint.id: (pool.profile, endpoint.max_in_flight, endpoint.url)
        for pool in config.pools
        for endpoint in pool.endpoints
    }
    assert config.policy == contender.policy
    assert found == {
        id_: (plan.profile, plan.max_in_flight, f"http://127.0.0.1:{port}")
        for (id_, plan), port in zip(plans.items(), (8001, 8002, 8003), strict=True)
    }
    assert (Profile.PREDICTABLE in {plan.profile for plan in plans.values()}) != contender.flat


def test_worlds_that_found_the_same_agree():
    assert {each.verdict for each in figures([tally(0.1)], tally(0.1))} == {Verdict.AGREES}


def test_worlds_that_differ_are_short_in_what_they_differ():
    found = {each.name: each.verdict for each in figures([tally(0.1)], tally(0.2))}

    assert found == {
        "attainment": Verdict.AGREES,
        "interactive attainment": Verdict.AGREES,
        "interactive ttft p99": Verdict.SHORT,
        "interactive ttft p50": Verdict.SHORT,
    }


def test_attainment_of_interactive_requests_is_held_to_its_own_tolerance():
    found = {each.name: each for each in figures([tally(0.1)], tally(9.0))}

    assert found["interactive attainment"].error == -1.0
    assert -1.0 < found["attainment"].error < 0.0


def test_a_world_that_served_nothing_is_short():
    empty = Tally(1.0, 0.0)

    verdicts = {each.name: each.verdict for each in figures([tally(0.1)], empty)}

    assert verdicts["interactive ttft p99"] is Verdict.SHORT


def test_the_document_says_of_each_point_whether_it_is_valid_and_what_is_short():
    late = (Gate("p99 send lag, s", inf, 0.005),)
    points = [
        Point(0.4, "headway", 10, GOOD, figures([tally(0.1)], tally(0.2)), {}),
        Point(1.1, "headway", 10, late, figures([tally(0.1)], tally(0.2)), {}),
    ]

    document = json.loads(json.dumps(anchors.document(points, 50.0)))

    assert [each["valid"] for each in document["points"]] == [True, False]
    assert document["points"][0]["verdicts"]["interactive ttft p99"] == "SHORT"
    assert [sentence.partition(" is ")[0] for sentence in document["short"]] == [
        "headway at 0.4 of capacity: interactive ttft p99",
        "headway at 0.4 of capacity: interactive ttft p50",
        "headway at 1.1 of capacity: not valid: p99 send lag, s",
    ]


def test_the_same_seed_simulates_the_same_point():
    offered = workload(0.4, 3.0)

    first, second = (anchors.simulated("headway", offered, 7) for _ in range(2))

    group, other = first.classes[SlaClass.INTERACTIVE], second.classes[SlaClass.INTERACTIVE]
    assert group.offered
    assert group.first_token.buckets == other.first_token.buckets


def test_lateness_without_a_step_is_unknown():
    assert lateness(Distribution()) == {"p50": inf, "p99": inf, "steps": 0.0}


@pytest.mark.anyio
async def test_a_fleet_is_served_engine_by_engine_under_the_ids_of_the_simulation():
    fleet = load_fleet(anchors.FLEET)
    free = [0 for _ in fleet.members]

    async with serve(served(fleet, free)) as servers:
        found = {server.site.name: server.site.spec for server in servers}

    assert found == {member.plan.id: member.spec for member in fleet.members}


def test_the_simulated_router_sees_the_bytes_that_are_sent(monkeypatch):
    offered = workload(0.4, 3.0)
    monkeypatch.setattr(anchors, "sent_bytes", lambda _offer: 4 << 20)

    found = anchors.simulated("headway", offered, 7)

    assert found.offered
    assert not found.all.served
