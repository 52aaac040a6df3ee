"""Fleet documents."""

import pytest

from engines.emulator.profiles import PROFILES
from engines.emulator.spec import Vllm
from policies.facts import Profile
from router.document import ConfigError
from router.simulation.fleet import (
    FLEET,
    built_in_names,
    context_tokens,
    described,
    load_fleet,
    read_fleet,
)
from tests.router.simulation.worlds import fleet, pool


@pytest.mark.parametrize("name", built_in_names())
def test_every_built_in_fleet_is_right_and_has_a_price(name):
    of = load_fleet(name)

    assert of.usd_per_hour > 0
    assert len({member.plan.id for member in of.members}) == len(of.members)
    assert all((member.plan.max_context_tokens or 0) >= 16_384 for member in of.members)


def test_the_usual_fleet_has_two_predictable_and_four_throughput_engines():
    profiles = [member.plan.profile for member in load_fleet("h100-8b").members]

    assert profiles == [Profile.PREDICTABLE] * 2 + [Profile.THROUGHPUT] * 4


@pytest.mark.parametrize("engine", ["vllm", "tgi", "sglang", "llamacpp"])
def test_every_kind_of_engine_can_be_in_a_fleet(engine):
    (member,) = fleet(pool(engine=engine)).members

    assert member.spec.knobs.kind == engine
    assert member.plan.max_context_tokens == context_tokens(member.spec.knobs)


def test_flags_reach_the_engine_and_what_is_left_out_is_its_default():
    one = pool(flags={"max_num_seqs": 7}, kv_tokens=5000, weight=2.0, max_in_flight=9)

    (member,) = fleet(one).members

    assert isinstance(member.spec.knobs, Vllm)
    assert member.spec.knobs.max_num_seqs == 7
    assert member.spec.knobs.max_num_batched_tokens == Vllm().max_num_batched_tokens
    assert member.spec.kv_tokens == 5000
    assert (member.plan.weight, member.plan.max_in_flight) == (2.0, 9)
    assert member.spec.profile is PROFILES["steady"]


def test_slots_that_are_not_told_are_the_routers_own_default():
    of = fleet(pool("predictable"), pool("throughput"))

    assert [member.plan.max_in_flight for member in of.members] == [32, 256]


@pytest.mark.parametrize(
    ("keys", "place", "message"),
    [
        ({"flags": {"max_num_seq": 7}}, "pools[0].flags.max_num_seq", "unknown flag"),
        ({"flags": {"max_num_seqs": "7"}}, "pools[0].flags.max_num_seqs", "not '7'"),
        (
            {"flags": {"scheduling_policy": "lifo"}},
            "pools[0].flags.scheduling_policy",
            "should be 'fcfs' or 'priority', not 'lifo'",
        ),
        ({"timing": "h100-8"}, "pools[0].timing", "unknown timing 'h100-8'; known: h100-8b"),
        ({"engine": "openai"}, "pools[0].engine", "unknown emulated engine 'openai'"),
        ({"count": 0}, "pools[0].count", "1 or more"),
        ({"colour": "red"}, "pools[0]", "unknown key 'colour'"),
    ],
)
def test_a_wrong_fleet_is_told_with_its_place(keys, place, message):
    with pytest.raises(ConfigError) as caught:
        fleet(pool(**keys))

    assert any(flaw.place == place and message in flaw.message for flaw in caught.value.flaws)


def test_two_pools_cannot_have_one_name():
    with pytest.raises(ConfigError, match="'throughput' is taken"):
        fleet(pool(), pool())


def test_a_fleet_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(ConfigError, match="unknown fleet 'h100-8'; known: h100-8b"):
        load_fleet("h100-8")


def test_a_fleet_comes_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[[pools]]\nname = "a"\nprofile = "throughput"\nengine = "tgi"\ncount = 3\n')

    assert [member.plan.id for member in load_fleet(str(path)).members] == ["a-0", "a-1", "a-2"]


def test_what_is_described_reads_as_the_same_fleet():
    of = load_fleet("h100-8b-priority")

    again = read_fleet("again", described(of))

    assert again.members == of.members
    assert described(of)["pools"][0]["flags"]["max_num_seqs"] == Vllm().max_num_seqs
    assert FLEET.write(of.document)["pools"][0]["count"] == 6
