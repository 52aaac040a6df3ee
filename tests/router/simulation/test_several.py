"""Several routers over one simulated fleet."""

import asyncio

import pytest

from policies.facts import SlaClass
from router.measure.outcome import Fate
from router.simulation.conditions import Conditions
from router.simulation.contenders import CONTENDERS
from router.simulation.several import Several, _at_once
from router.simulation.world import World
from router.workload.settings import Fault, FaultName
from tests.router.simulation.worlds import fleet, offer, outcomes, pool


def several(count: int = 3, *, seed: int = 1, faults: tuple[Fault, ...] = ()) -> World:
    of = fleet(pool(count=2, max_in_flight=6))
    conditions = Conditions(replicas=count)
    return World(of, CONTENDERS["headway"], seed=seed, faults=faults, conditions=conditions)


def routers_of(world: World) -> Several:
    assert isinstance(world._dispatcher, Several)
    return world._dispatcher


def offers(count: int, gap_s: float = 0.02):
    kinds = (SlaClass.INTERACTIVE, SlaClass.STANDARD, SlaClass.BULK)
    return [offer(n, 0.02 + gap_s * n, sla_class=kinds[n % 3]) for n in range(count)]


def test_every_offer_has_one_end_and_no_slot_stays_taken():
    world = several()

    found = outcomes(world, offers(300))

    assert [each.offer.number for each in found] == list(range(300))
    routers = routers_of(world)
    assert sum(e.own_in_flight for d in routers._all for e in d.endpoints.values()) == 0
    assert routers._whose == {}


def test_every_router_gets_a_part_and_counts_what_the_others_have():
    world = several()
    list(world.run(iter(offers(300))))
    routers = routers_of(world)

    assert all(sum(e.sent for e in d.endpoints.values()) > 50 for d in routers._all)
    assert {each.count for each in routers._members} == {3}
    assert all(each.mode == "shared" for each in routers._members)


def test_slots_are_overrun_by_less_than_a_request_a_replica():
    world = several(4)
    most = 0
    for _ in world.run(iter(offers(400, 0.004))):
        most = max(most, *(len(machine.trips) for machine in world._list))

    assert most <= 6 + 3


def test_the_same_seed_gives_the_same_run():
    first, second = ([(o.fate, o.total_s) for o in outcomes(several(), offers(90))] for _ in "ab")

    assert first == second


def test_a_dead_engine_is_left_alone_by_all():
    dead = Fault(fault=FaultName.DEAD, endpoint="throughput-0", at_s=0.5)

    found = outcomes(several(faults=(dead,)), offers(200, 0.05))

    assert sum(each.fate is Fate.SERVED for each in found) >= 190


def test_callers_who_hang_up_give_their_place_back():
    crowd = [offer(n, 0.1, patience_s=0.3, sla_class=SlaClass.BULK) for n in range(40)]
    world = several()

    found = outcomes(world, crowd)

    assert any(each.fate is Fate.ABANDONED for each in found)
    assert routers_of(world)._whose == {}


def test_a_board_that_waits_is_told_as_such():
    async def sleeps():
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited"):
        _at_once(sleeps())
