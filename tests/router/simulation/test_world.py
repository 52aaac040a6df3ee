"""The world: whatever happens to engines, every offer has exactly one outcome, and a true one."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.dispatcher import Dispatcher
from policies.facts import Reason, RefusalReason, SlaClass
from policies.fleet import EndpointState
from policies.policy import Policy
from router.measure.outcome import Fate, Outcome
from router.settings import Timeouts
from router.simulation.contenders import CONTENDERS, Contender
from router.simulation.world import World
from router.workload.settings import Fault, FaultName
from tests.router.simulation.worlds import fleet, offer, outcomes, pool, world

IMPATIENT = Timeouts(first_token_s=2.0, idle_s=2.0)


def fault(name: FaultName, at_s: float = 0.0, until_s: float | None = None, **keys: float) -> Fault:
    endpoint = "throughput-0"
    return Fault(endpoint=endpoint, fault=name, at_s=at_s, until_s=until_s, **keys)


def alone(found: list[Outcome]) -> Outcome:
    (only,) = found
    return only


def test_an_idle_engine_takes_as_long_as_its_profile_says():
    served = alone(outcomes(world(), [offer(0)]))

    # One step of 10 ms and 2 ms for 100 prompt tokens, then 19 steps of 10 ms.
    assert served.fate is Fate.SERVED
    assert served.first_token_s == pytest.approx(0.012, abs=1e-6)
    assert served.per_token_s == pytest.approx(0.010, abs=1e-6)
    assert served.slowest_gap_s == pytest.approx(0.010, abs=1e-6)
    assert served.total_s == pytest.approx(0.012 + 19 * 0.010, abs=1e-6)
    assert served.output_tokens == 20
    assert served.endpoint == "throughput-0"
    assert (served.attempts, served.queued_s) == (1, 0.0)


def test_a_single_token_has_no_time_per_token():
    served = alone(outcomes(world(), [offer(0, output_tokens=1)]))

    assert served.fate is Fate.SERVED
    assert served.per_token_s is None


def test_the_callers_bound_ends_an_answer_that_is_whole_nonetheless():
    served = alone(outcomes(world(), [offer(0, output_tokens=500, max_tokens=30)]))

    assert served.fate is Fate.SERVED
    assert served.output_tokens == 30


def test_who_waits_for_a_slot_is_sent_when_one_falls_free():
    full = fleet(pool(max_in_flight=1))

    first, second = outcomes(world(full), [offer(0), offer(1, 0.001)])

    assert second.fate is Fate.SERVED
    assert second.queued_s == pytest.approx(first.total_s - 0.001, abs=1e-6)
    assert second.first_token_s == pytest.approx(second.queued_s + 0.012, abs=1e-3)


def test_who_waits_too_long_is_refused_when_its_time_is_over():
    full = fleet(pool(max_in_flight=1))
    long = offer(0, output_tokens=2000, max_tokens=2000)

    refused = outcomes(world(full), [long, offer(1, 0.513, sla_class=SlaClass.INTERACTIVE)])[1]

    patience_s = Policy().classes.interactive.max_wait_s
    assert refused.fate is Fate.REFUSED
    assert refused.refusal is RefusalReason.EXPIRED
    assert refused.total_s == pytest.approx(patience_s, abs=1e-6)
    assert refused.queued_s == pytest.approx(patience_s, abs=1e-6)
    assert refused.retry_after_s is not None
    assert refused.endpoint is None


def test_interactive_requests_are_at_home_in_the_predictable_pool_and_spill_when_it_is_full():
    both = fleet(pool("predictable", max_in_flight=1), pool("throughput"))
    chat = [offer(number, number * 1e-4, sla_class=SlaClass.INTERACTIVE) for number in range(2)]

    home, spilled = outcomes(world(both), chat)

    assert (home.endpoint, home.reason) == ("predictable-0", Reason.HOME)
    assert (spilled.endpoint, spilled.reason) == ("throughput-0", Reason.SPILL)


def test_a_prompt_that_no_context_holds_is_rejected_not_shed():
    found = alone(outcomes(world(), [offer(0, prompt_tokens=100_000)]))

    assert found.fate is Fate.REJECTED
    assert found.refusal is RefusalReason.TOO_LONG


def test_what_only_the_engine_finds_too_long_is_rejected_by_it():
    # The router takes 8100 tokens for fewer or does not know: it leaves the verdict to the engine.
    found = alone(outcomes(world(), [offer(0, prompt_tokens=8190)]))

    assert found.fate is Fate.REJECTED
    assert found.attempts == 1


def test_callers_that_lose_patience_leave_the_engine_or_the_queue():
    full = fleet(pool(max_in_flight=1))
    long = offer(0, output_tokens=1000, max_tokens=1000, patience_s=1.0)
    queued = offer(1, 0.1, patience_s=0.2)
    later = offer(2, 1.5)

    found = outcomes(world(full), [long, queued, later])

    assert [each.fate for each in found] == [Fate.ABANDONED, Fate.ABANDONED, Fate.SERVED]
    assert found[0].total_s == pytest.approx(1.0)
    assert found[1].total_s == pytest.approx(0.2)
    assert found[2].queued_s == 0.0


def test_patience_that_is_not_needed_changes_nothing():
    assert alone(outcomes(world(), [offer(0, patience_s=5.0)])).fate is Fate.SERVED


def test_an_engine_that_dies_loses_what_had_begun_and_passes_on_what_had_not():
    two = fleet(pool(count=2))
    begun = [offer(number, 0.0, output_tokens=200, max_tokens=200) for number in range(2)]
    dies = fault(FaultName.DEAD, at_s=1.0)
    later = [offer(number, 1.5 + 0.01 * number) for number in range(2, 12)]

    found = outcomes(world(two, faults=[dies]), begun + later)

    lost = [each for each in found[:2] if each.fate is Fate.FAILED]
    assert [each.endpoint for each in lost] == ["throughput-0"]
    assert 0 < lost[0].output_tokens < 200
    assert all(each.fate is Fate.SERVED for each in found[2:])
    assert {each.endpoint for each in found[2:]} == {"throughput-1"}
    assert any(each.attempts == 2 and each.reason is Reason.RETRY for each in found[2:])


def test_an_engine_that_comes_back_is_used_again():
    two = fleet(pool(count=2))
    away = fault(FaultName.DEAD, at_s=1.0, until_s=5.0)
    offers = [offer(number, 0.1 * number) for number in range(400)]

    found = outcomes(world(two, faults=[away]), offers)

    late = Counter(each.endpoint for each in found if each.offer.at_s > 20.0)
    assert late["throughput-0"] > 50
    assert all(each.fate is Fate.SERVED for each in found if each.offer.at_s > 5.0)


def test_an_engine_that_hangs_is_given_up_on_before_and_after_the_first_token():
    hangs = fault(FaultName.HANG, at_s=0.1)
    begun = offer(0, output_tokens=200, max_tokens=200)
    waits = offer(1, 0.2)

    found = outcomes(world(faults=[hangs], timeouts=IMPATIENT), [begun, waits])

    assert [each.fate for each in found] == [Fate.FAILED, Fate.FAILED]
    assert found[0].first_token_s is not None
    assert found[1].first_token_s is None
    assert 2.0 < found[0].total_s < 3.0
    assert found[1].refusal is RefusalReason.RETRIES_SPENT


def test_a_request_stuck_in_an_engine_that_hangs_is_served_by_another():
    two = fleet(pool(count=2))
    hangs = fault(FaultName.HANG)

    found = outcomes(world(two, faults=[hangs], timeouts=IMPATIENT), [offer(0), offer(1), offer(2)])

    assert {each.fate for each in found} == {Fate.SERVED}
    assert {each.endpoint for each in found} == {"throughput-1"}
    assert any(each.attempts == 2 and each.total_s > 2.0 for each in found)


def test_an_engine_that_refuses_at_once_costs_a_retry_and_no_request():
    two = fleet(pool(count=2))
    refuses = fault(FaultName.BUSY)
    offers = [offer(number, 0.05 * number) for number in range(20)]

    found = outcomes(world(two, faults=[refuses]), offers)

    assert {each.fate for each in found} == {Fate.SERVED}
    assert any(each.attempts > 1 for each in found)


@pytest.mark.parametrize(
    ("name", "fate"), [(FaultName.BUSY, Fate.REFUSED), (FaultName.BROKEN, Fate.FAILED)]
)
def test_where_every_engine_refuses_the_request_is_refused_or_failed(name, fate):
    found = alone(outcomes(world(faults=[fault(name)]), [offer(0, 0.1)]))

    assert found.fate is fate
    assert found.refusal is not None


def test_an_answer_that_breaks_off_is_failed_with_the_tokens_that_came():
    found = alone(outcomes(world(faults=[fault(FaultName.CUT, factor=7.0)]), [offer(0, 0.1)]))

    assert found.fate is Fate.FAILED
    assert found.output_tokens == 7


def test_a_slow_engine_is_slow_by_the_factor():
    found = alone(outcomes(world(faults=[fault(FaultName.SLOW, factor=3.0)]), [offer(0, 0.1)]))

    assert found.per_token_s == pytest.approx(0.030, rel=0.05)


def test_gauges_that_stand_still_send_everything_to_who_looked_idle():
    two = fleet(pool(count=2))
    frozen = fault(FaultName.FROZEN_METRICS)
    offers = [offer(number, 0.3 + 0.02 * number, output_tokens=60) for number in range(200)]

    found = outcomes(world(two, CONTENDERS["least_scraped"], faults=[frozen]), offers)

    counts = Counter(each.endpoint for each in found)
    assert counts["throughput-0"] > 3 * counts["throughput-1"]


def test_a_plain_load_balancer_tells_an_engine_no_class():
    one = fleet(pool(flags={"max_num_seqs": 1, "scheduling_policy": "priority"}))
    offers = [
        offer(0, sla_class=SlaClass.BULK, output_tokens=50),
        offer(1, 0.01, sla_class=SlaClass.BULK),
        offer(2, 0.02, sla_class=SlaClass.INTERACTIVE),
    ]

    found = outcomes(world(one, CONTENDERS["least_tokens"]), offers)

    assert found[1].total_s < found[2].total_s


@pytest.mark.parametrize(
    ("keys", "urgent_first"),
    [
        ({"flags": {"max_num_seqs": 1, "scheduling_policy": "priority"}}, True),
        ({"flags": {"max_num_seqs": 1}}, False),
        (
            {
                "engine": "sglang",
                "flags": {"max_running_requests": 1, "enable_priority_scheduling": True},
            },
            True,
        ),
    ],
    ids=["vllm by priority", "vllm in order", "sglang by priority"],
)
def test_an_engine_that_orders_by_priority_is_told_the_class(keys, urgent_first):
    one = fleet(pool(**keys))
    offers = [
        offer(0, sla_class=SlaClass.BULK, output_tokens=50),
        offer(1, 0.01, sla_class=SlaClass.BULK),
        offer(2, 0.02, sla_class=SlaClass.INTERACTIVE),
    ]

    found = outcomes(world(one), offers)

    assert (found[2].total_s < found[1].total_s) is urgent_first


def test_the_router_does_not_know_true_lengths():
    sizes = set()

    one = world()
    for number in range(50):
        facts = one._conditions.facts(offer(number, prompt_tokens=1000), one._bytes_rng)
        sizes.add(facts.prompt_bytes)
        assert facts.known_prompt_tokens is None

    assert len(sizes) > 40
    assert 2000 <= min(sizes) < max(sizes)


def test_who_is_passed_over_by_nobody_is_in_flight_as_littles_law_says():
    offers = [offer(number, 0.05 * number, output_tokens=60) for number in range(2000)]
    one = world()

    found = outcomes(one, offers)

    rate = 1 / 0.05
    mean_s = sum(each.total_s for each in found) / len(found)
    in_flight = one.observed.in_flight["throughput-0"] / one.observed.sweeps
    assert in_flight == pytest.approx(rate * mean_s, rel=0.1)


def test_the_engines_do_as_much_work_as_was_offered():
    offers = [offer(number, 0.05 * number) for number in range(200)]
    one = world()

    found = outcomes(one, offers)

    gauges = [machine.engine.gauges() for machine in one._list]
    assert sum(each.generated_tokens for each in gauges) == 20 * len(found)
    assert sum(each.prompt_tokens for each in gauges) == 100 * len(found)
    assert one.observed.steps == sum(each.steps for each in gauges)
    assert one.observed.ended_at == pytest.approx(max(e.offer.at_s + e.total_s for e in found))


def endpoints_of(one: World) -> list[EndpointState]:
    assert isinstance(one._dispatcher, Dispatcher)
    return list(one._dispatcher.endpoints.values())


def test_every_slot_is_given_back_in_the_end():
    faults = [fault(FaultName.DEAD, 1.0, 2.0), fault(FaultName.HANG, 4.0, 5.0)]
    one = world(fleet(pool(count=2)), faults=faults, timeouts=IMPATIENT)

    outcomes(one, [offer(number, 0.02 * number) for number in range(500)])

    endpoints = endpoints_of(one)
    assert [each.in_flight for each in endpoints] == [0, 0]
    assert [each.pending_prompt_tokens for each in endpoints] == [0, 0]
    assert [each.kv_tokens for each in endpoints] == [0, 0]
    assert not any(machine.trips for machine in one._list)


FAULTS = st.lists(
    st.builds(
        lambda name, number, at_s, for_s: Fault(
            endpoint=f"throughput-{number}", fault=name, at_s=at_s, until_s=at_s + for_s
        ),
        st.sampled_from(list(FaultName)),
        st.integers(0, 1),
        st.floats(0, 5),
        st.floats(0.1, 5),
    ),
    max_size=4,
)
OFFERS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        gap_s=st.floats(0, 0.2),
        sla_class=st.sampled_from(list(SlaClass)),
        prompt_tokens=st.integers(1, 9000),
        output_tokens=st.integers(1, 300),
        patience_s=st.one_of(st.none(), st.floats(0.01, 5)),
    ),
    max_size=60,
)


@given(
    faults=FAULTS,
    drawn=OFFERS,
    name=st.sampled_from(["headway", "round_robin", "hard_split", "least_scraped"]),
    slots=st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_every_offer_has_exactly_one_outcome(faults, drawn, name, slots):
    of = fleet(pool(count=2, max_in_flight=slots), pool("predictable", max_in_flight=2))
    offers, at_s = [], 0.0
    for number, each in enumerate(drawn):
        keys = dict(each)
        at_s += keys.pop("gap_s")
        offers.append(offer(number, at_s, **keys))
    one = world(of, CONTENDERS[name], faults=faults, timeouts=IMPATIENT)

    found = outcomes(one, offers)

    assert [each.offer.number for each in found] == list(range(len(offers)))
    assert all(each.total_s >= 0 for each in found)
    assert all(
        each.output_tokens == each.offer.length for each in found if each.fate is Fate.SERVED
    )
    assert all(each.in_flight == 0 for each in endpoints_of(one))


def test_the_same_seed_gives_the_same_outcomes_and_another_seed_others():
    of = fleet(pool(count=3, timing="h100-8b"))
    offers = [offer(number, 0.03 * number) for number in range(300)]

    def run(seed: int) -> list[Outcome]:
        return outcomes(world(of, CONTENDERS["random"], seed=seed), offers)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_policy_of_ones_own_is_what_decides():
    shy = replace(
        Policy().classes, interactive=replace(Policy().classes.interactive, max_waiting=0)
    )
    contender = Contender("shy", replace(Policy(), classes=shy))
    full = fleet(pool(max_in_flight=1))

    found = outcomes(
        world(full, contender), [offer(0), offer(1, 0.01, sla_class=SlaClass.INTERACTIVE)]
    )

    assert found[1].refusal is RefusalReason.QUEUE_FULL
