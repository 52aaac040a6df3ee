"""What a replica makes of the others: counts, permits, turns, and being alone."""

import asyncio
from random import Random
from typing import Any

import pytest

from engines.engine import EngineLoad
from policies.facts import SlaClass
from policies.latency import LatencyModel
from policies.policy import Hold, Holds, Policy, ProfilePolicy, Profiles
from router.replicas.board import LIFE_S, Board, View, Word
from router.replicas.experience import LEAST_SAMPLES
from router.replicas.member import (
    CALM_S,
    CAUTION_S,
    EXCHANGE_S,
    LIMIT_S,
    RETRY_S,
    STALE_S,
    TURN_S,
    Member,
)
from router.replicas.status import on_board, status
from router.replicas.word import Mode
from tests.policies.builders import BULK, INTERACTIVE, STANDARD, plan
from tests.router.replicas.fleet import Replica, World

CLASSES = tuple(SlaClass)


def bulk_cap(slots: int) -> Policy:
    holds = Holds(bulk=Hold(max_slots=slots))
    return Policy(profiles=Profiles(throughput=ProfilePolicy(holds=holds)))


def in_flight(world: World, name: str) -> int:
    return world.replicas[name].dispatcher.endpoints["e"].in_flight


async def test_every_replica_counts_what_all_have():
    world = World()
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        for _ in range(count):
            world.replicas[name].arrive(INTERACTIVE)

    await world.run(2 * EXCHANGE_S)

    assert [in_flight(world, name) for name in "abc"] == [6, 6, 6]
    assert {each.member.mode for each in world.replicas.values()} == {Mode.SHARED}


async def test_what_a_killed_replica_had_is_free_within_three_seconds():
    world = World()
    for _ in range(9):
        world.replicas["a"].arrive(INTERACTIVE)
    await world.run(0.2)
    world.kill("a")

    await world.run(3.0)

    assert in_flight(world, "b") == 0
    assert world.replicas["b"].member.count == 2


async def test_one_that_leaves_in_peace_is_gone_at_once():
    world = World("ab")
    await world.run(0.2)

    await world.replicas["b"].member.leave()
    world.kill("b")
    await world.run(EXCHANGE_S)

    assert world.replicas["a"].member.count == 1


async def test_one_that_joins_takes_its_share_within_two_seconds():
    world = World("ab", policy=bulk_cap(12))
    await world.run(LIFE_S + 0.1)
    for _ in range(40):
        world.replicas["a"].arrive(BULK)
        world.replicas["b"].arrive(BULK)
    await world.run(0.2)
    joined = world.join("c")
    # Its bulk came first, so what falls free is its own.
    for _ in range(4):
        world.now -= 1.0
        joined.arrive(BULK)
        world.now += 1.0
    for _ in range(int(2.0 / EXCHANGE_S)):
        world.replicas["a"].end_one()
        await world.round()

    assert joined.own()[2] == 4


@pytest.mark.parametrize("seed", range(5))
async def test_bulk_is_never_more_than_the_cap_while_the_board_answers(seed):
    rng = Random(seed)
    world = World("abc", policy=bulk_cap(7))
    most = 0
    for _ in range(600):
        for replica in world.replicas.values():
            if rng.random() < 0.6:
                replica.arrive(BULK)
            if rng.random() < 0.4:
                replica.end_one()
            replica.link.loses_answers = rng.random() < 0.1
        await world.round()
        most = max(most, world.total(2))

    assert most == 7


@pytest.mark.parametrize("seed", range(5))
async def test_slots_are_overrun_by_less_than_a_request_a_replica_when_they_are_few(seed):
    rng = Random(seed)
    slots, names = 6, "abcd"
    world = World(names, plans=(plan("e", max_in_flight=slots),))
    await world.run(0.1)
    most = 0
    for _ in range(400):
        for replica in rng.sample(list(world.replicas.values()), len(names)):
            for _ in range(rng.randrange(3)):
                replica.arrive(STANDARD)
            if rng.random() < 0.5:
                replica.end_one()
        await world.round()
        most = max(most, world.total(1))

    assert slots <= most <= slots + len(names) - 1


async def test_bulk_of_all_is_served_in_the_order_in_which_it_came():
    world = World("abc", policy=bulk_cap(4))
    await world.run(LIFE_S + 0.1)
    rng = Random(3)
    for _ in range(400):
        world.replicas[rng.choice("abc")].arrive(BULK)
        if rng.random() < 0.3:
            rng.choice(list(world.replicas.values())).end_one()
        await world.round()
    sent = world.bulk_sent

    assert len(sent) > 60
    for at, order in sent:
        # Whoever came earlier by more than the tolerance was sent by then, or was not yet heard of.
        later = [came for when, came in sent if when > at + 1e-9]
        known = [came for came in later if came < at - 2 * EXCHANGE_S]
        assert all(came >= order - TURN_S - 1e-9 for came in known)


async def test_permits_that_are_not_in_use_go_to_whose_bulk_waits():
    world = World("ab", policy=bulk_cap(8))
    await world.run(LIFE_S + 0.1)
    for _ in range(8):
        world.replicas["a"].arrive(BULK)

    await world.run(4 * EXCHANGE_S)

    assert world.replicas["a"].own()[2] == 8


async def test_bulk_that_comes_to_an_idle_fleet_is_sent_at_once_also_during_an_exchange():
    world = World("abc", policy=bulk_cap(24))
    await world.run(LIFE_S + 0.1)
    for replica in world.replicas.values():
        replica.member.say(world.now)

    for name in "abc":
        world.replicas[name].arrive(BULK)

    assert world.total(2) == 3


# Without the board


async def cut_all(world: World) -> None:
    for replica in world.replicas.values():
        replica.link.is_cut = True


async def test_what_was_heard_stands_for_a_second_and_then_a_replica_is_alone():
    world = World()
    await world.run(0.2)
    await cut_all(world)

    await world.run(STALE_S - 2 * EXCHANGE_S)
    first = world.replicas["a"].member.mode
    await world.run(3 * EXCHANGE_S)
    then = world.replicas["a"].member.mode

    assert (first, then) == (Mode.SHARED, Mode.ALONE)


async def test_alone_each_keeps_to_its_share_of_every_slot_and_the_shares_are_the_whole():
    plans = (plan("e", max_in_flight=31), plan("f", max_in_flight=2))
    world = World(plans=plans)
    await world.run(0.2)
    await cut_all(world)
    await world.run(STALE_S + 0.1)

    for _ in range(60):
        for replica in world.replicas.values():
            replica.arrive(STANDARD)
        await world.round()

    assert (world.total(1, "e"), world.total(1, "f")) == (31, 2)
    assert min(each.own("e")[1] for each in world.replicas.values()) == 10


async def test_alone_bulk_is_not_above_the_cap_and_reaches_it_after_a_while():
    world = World("abc", policy=bulk_cap(9))
    await world.run(LIFE_S + 0.1)
    for _ in range(9):
        world.replicas["a"].arrive(BULK)
    await world.run(0.3)
    assert world.total(2) == 9
    await cut_all(world)
    await world.run(STALE_S + 0.1)
    for _ in range(9):
        for replica in world.replicas.values():
            replica.arrive(BULK)

    await world.run(1.0)
    assert world.total(2) == 9
    for _ in range(9):
        world.replicas["a"].end_one()
    await world.run(CAUTION_S)

    assert [world.replicas[name].own()[2] for name in "abc"] == [3, 3, 3]


async def test_alone_each_takes_up_its_share_of_permits_that_nobody_is_known_to_hold():
    world = World("abc", policy=bulk_cap(6))
    await world.run(LIFE_S + 0.1)
    await cut_all(world)
    await world.run(STALE_S + 0.1)

    for name in "abc":
        for _ in range(4):
            world.replicas[name].arrive(BULK)
    await world.run(0.2)

    assert [world.replicas[name].own()[2] for name in "abc"] == [2, 2, 2]


async def test_one_that_never_heard_the_others_takes_up_no_permits_for_a_while():
    world = World("a", policy=bulk_cap(6), expected=3)
    await cut_all(world)
    await world.run(STALE_S + 1.0)

    world.replicas["a"].arrive(BULK)

    assert world.total(2) == 0


async def test_back_from_being_alone_everything_is_as_before():
    world = World("abc", policy=bulk_cap(9))
    await world.run(LIFE_S + 0.1)
    await cut_all(world)
    await world.run(5.0)
    world.board.forget()
    for replica in world.replicas.values():
        replica.link.is_cut = False
        for _ in range(5):
            replica.arrive(STANDARD)

    await world.run(2 * EXCHANGE_S)
    assert {each.member.mode for each in world.replicas.values()} == {Mode.SHARED}
    assert [in_flight(world, name) for name in "abc"] == [15, 15, 15]
    assert all(each.member.cautious for each in world.replicas.values())
    await world.run(LIFE_S)

    assert not any(each.member.cautious for each in world.replicas.values())


async def test_a_board_that_is_flushed_gives_no_more_than_the_cap():
    world = World("abc", policy=bulk_cap(6))
    await world.run(LIFE_S + 0.1)
    for _ in range(6):
        world.replicas["a"].arrive(BULK)
    await world.run(0.3)
    world.board.forget()
    # Those who have nothing are the first to come back.
    world.replicas = dict(reversed(world.replicas.items()))

    for _ in range(100):
        for name in "bc":
            world.replicas[name].arrive(BULK)
        await world.round()
        assert world.total(2) <= 6


async def test_a_fleet_that_never_saw_a_board_reckons_with_as_many_as_it_was_told():
    world = World("a", plans=(plan("e", max_in_flight=8),), expected=4)
    await cut_all(world)
    await world.run(STALE_S + 0.1)

    for _ in range(9):
        world.replicas["a"].arrive(STANDARD)

    assert world.total(1) == 2


async def test_one_that_is_alone_and_always_was_has_every_slot():
    world = World("a", policy=bulk_cap(5))
    await cut_all(world)
    await world.run(STALE_S + 0.1)

    for _ in range(9):
        world.replicas["a"].arrive(BULK)

    assert world.total(2) == 5


# 200 steps of trouble


def trouble(world: World, rng: Random, name: str) -> None:
    """Kill one, let one join, cut one off or back on, lose the board, or nothing."""
    match rng.randrange(5):
        case 0 if len(world.replicas) > 1:
            world.kill(rng.choice(list(world.replicas)))
        case 1 if len(world.replicas) < 6:
            world.join(name)
        case 2:
            link = rng.choice(list(world.replicas.values())).link
            link.is_cut = not link.is_cut
        case 3:
            world.board.forget()


async def test_after_any_trouble_every_count_is_the_truth_within_three_seconds():
    rng = Random(7)
    world = World("abc", plans=(plan("e", max_in_flight=40), plan("f", max_in_flight=9)))
    for number in range(200):
        trouble(world, rng, f"joined-{number}")
        for replica in world.replicas.values():
            replica.arrive(rng.choice(CLASSES))
            if rng.random() < 0.5:
                replica.end_one()
        await world.run(rng.choice((0.05, 0.5, 1.5)))
    for replica in world.replicas.values():
        replica.link.is_cut = False

    await world.run(3.0)

    for name in "ef":
        truth = [world.total(rank, name) for rank in range(3)]
        for replica in world.replicas.values():
            assert replica.dispatcher.endpoints[name].held == truth


# Gauges, read by one for all


async def test_one_replica_reads_an_engine_s_gauges_for_all():
    world = World()
    assert all(each.member.reads("e") for each in world.replicas.values())
    await world.run(0.2)
    for replica in world.replicas.values():
        replica.member.observed("e", EngineLoad(running=1), world.now - 10.0)
    (reader,) = [each for each in world.replicas.values() if each.member._reads_for_all("e")]

    reader.member.observed("e", EngineLoad(running=7, running_loras=frozenset("x")), world.now)
    await world.run(2 * EXCHANGE_S)

    for replica in world.replicas.values():
        assert replica.member.reads("e") is (replica is reader)
        if replica is not reader:
            load = replica.dispatcher.endpoints["e"].load
            assert load == EngineLoad(running=7, running_loras=frozenset("x"))


async def test_gauges_that_nobody_has_read_lately_are_read_by_each():
    world = World()
    await world.run(0.2)
    for replica in world.replicas.values():
        replica.member.observed("e", EngineLoad(running=1), world.now)

    world.now += 3.1

    assert all(each.member.reads("e") for each in world.replicas.values())


# How it is shown


async def test_status_shows_every_replica_and_what_it_has():
    world = World("ab", policy=bulk_cap(8))
    world.replicas["b"].arrive(STANDARD)
    await world.run(0.2)

    shown: dict[str, Any] = status(world.replicas["a"].member)

    assert shown["mode"] == "shared"
    assert shown["share"] == 0.5
    assert shown["replicas"]["b"]["in_flight"] == {"e": 1}
    assert on_board(await world.board.look())["replicas"] == shown["replicas"]


# The loop itself


class Script:
    """A board that answers as it is told."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    async def exchange(self, word: Word) -> View:
        match self.answers.pop(0) if self.answers else "hang":
            case Exception() as error:
                raise error
            case View() as view:
                return view
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def look(self) -> View:
        raise NotImplementedError

    async def leave(self, replica: str) -> None:
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        pass


def alone_with(board: Board, sleep, clock) -> Member:
    dispatcher = World("a").replicas["a"].dispatcher
    return Member(
        board,
        dispatcher,
        replica="a",
        host="here",
        clock=clock,
        pump=lambda _: None,
        sleep=sleep,
    )


async def test_the_loop_survives_what_breaks_an_exchange(caplog):
    pauses: list[float] = []
    board = Script(ZeroDivisionError("odd"), View(5.0, {"a": b"no word"}, {}, cautious=False))

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 2:
            raise asyncio.CancelledError

    member = alone_with(board, sleep, lambda: 1.0)
    with pytest.raises(asyncio.CancelledError):
        await member.run()

    assert pauses == pytest.approx([EXCHANGE_S, CALM_S])
    assert member.mode is Mode.SHARED
    assert "exchange broke" in caplog.text


async def test_it_is_told_half_as_often_while_nobody_has_bulk_and_nobody_waits():
    world = World("ab", plans=(plan("e", max_in_flight=2),))
    member, other = world.replicas["a"].member, world.replicas["b"]
    pauses = [member.pause_s]

    async def later(seconds: float = 2 * EXCHANGE_S) -> None:
        await world.run(seconds)
        pauses.append(member.pause_s)

    await later(LIFE_S + 0.1)
    other.arrive(BULK)
    await later()
    other.end_one()
    await later()
    for _ in range(4):
        other.arrive(INTERACTIVE)
    await later()
    while other.flights:
        other.end_one()
    await later()
    await cut_all(world)
    await later(2 * STALE_S)

    assert pauses == [EXCHANGE_S, CALM_S, EXCHANGE_S, CALM_S, EXCHANGE_S, CALM_S, RETRY_S]


async def test_an_exchange_that_hangs_is_given_up():
    loop = asyncio.get_running_loop()
    member = alone_with(Script(), asyncio.sleep, loop.time)
    began = loop.time()

    await member._exchange(began)
    await member.leave()

    assert member.failures == 1
    assert loop.time() - began < 20 * LIMIT_S


# Knowledge of traffic and engines


async def test_a_tenant_is_judged_by_what_it_used_at_all_replicas():
    world = World("abc", plans=(plan("e", max_in_flight=90),))
    for name in "abc":
        world.replicas[name].arrive(STANDARD, tenant="greedy")
        world.replicas[name].arrive(STANDARD, tenant=f"modest-{name}")
    await world.run(1.0)
    shares = [each.dispatcher._shares for each in world.replicas.values()]

    assert all(each.over("greedy", world.now) for each in shares)
    assert not any(each.over(f"modest-{name}", world.now) for each in shares for name in "abc")


async def test_what_a_killed_replica_told_of_tenants_dies_with_it():
    world = World("ab", plans=(plan("e", max_in_flight=90),))
    world.replicas["a"].arrive(STANDARD, tenant="gone")
    await world.run(1.0)
    shares = world.replicas["b"].dispatcher._shares
    assert shares.of("gone") > 0.0

    world.kill("a")
    await world.run(3.0)

    assert shares.of("gone") == 0.0


def learn(world: World, name: str, samples: int, seen_s: float) -> LatencyModel:
    (model,) = world.replicas[name].dispatcher.models.values()
    for number in range(samples):
        model.saw_first_token((1.0, 1000.0, 1.0, 0.0, 0.0), 0.03, seen_s, float(number))
        model.saw_per_token((1.0, 1.0, 0.0, 0.0), 0.0065, 0.02, float(number))
    return model


async def test_one_that_joins_starts_from_what_the_most_experienced_has_learned():
    world = World("ab")
    best = learn(world, "a", 400, 0.3)
    learn(world, "b", 200, 0.9)
    await world.run(12.0)
    assert [bool(each.member.said.lessons) for each in world.replicas.values()] == [True, False]

    joined = world.join("c")
    await world.run(2 * EXCHANGE_S)

    (model,) = joined.dispatcher.models.values()
    assert model.first_token_s(1000, 1, 0, 0.0) == pytest.approx(
        best.first_token_s(1000, 1, 0, 0.0)
    )


async def test_what_was_learned_from_little_is_not_told():
    world = World("a")
    learn(world, "a", LEAST_SAMPLES - 1, 0.3)
    await world.run(12.0)

    assert world.replicas["a"].member.said.lessons == {}


async def test_a_lesson_about_engines_that_are_not_ours_is_passed_over():
    world = World("a")
    learn(world, "a", 400, 0.3)
    other = Replica(world, "z", (plan("f", pool="other", max_in_flight=3),))
    world.replicas["z"] = other

    await world.run(12.0)

    assert [model.samples for model in other.dispatcher.models.values()] == [0]
    assert other.member.mode is Mode.SHARED
