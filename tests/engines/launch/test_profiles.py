import subprocess
import sys

import pytest

import policies.facts
from engines.engine import Kind
from engines.launch.profiles import CONTEXT_TOKENS, SHAPES, Profile, arguments, flags, table

KINDS = sorted({kind for kind, _ in SHAPES})
SLOTS = {
    Kind.VLLM: "--max-num-seqs",
    Kind.TGI: "--max-concurrent-requests",
    Kind.SGLANG: "--max-running-requests",
    Kind.LLAMACPP: "--parallel",
}


def value(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_profiles_are_named_as_in_a_pool():
    assert [*Profile] == [*policies.facts.Profile]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", Profile)
def test_each_flag_is_given_once_and_has_a_reason(kind, profile):
    given = flags(kind, profile)

    assert len({flag.name for flag in given}) == len(given) > 0
    assert all(flag.name.startswith("--") and len(flag.why) > 10 for flag in given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_predictable_engine_has_fewer_slots_and_smaller_steps(kind):
    predictable, throughput = SHAPES[kind, Profile.PREDICTABLE], SHAPES[kind, Profile.THROUGHPUT]

    assert predictable.slots < throughput.slots
    assert predictable.step_tokens < throughput.step_tokens
    assert predictable.waiting <= predictable.slots


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", Profile)
def test_the_number_of_slots_can_be_chosen(kind, profile):
    usual, chosen = arguments(kind, profile), arguments(kind, profile, slots=3)

    assert value(usual, SLOTS[kind]) == f"{SHAPES[kind, profile].slots}"
    assert value(chosen, SLOTS[kind]) == "3"


@pytest.mark.parametrize("kind", [Kind.VLLM, Kind.SGLANG])
def test_an_engine_never_lets_more_wait_than_run(kind):
    name = {Kind.VLLM: "--max-num-queued-reqs", Kind.SGLANG: "--max-queued-requests"}[kind]

    assert value(arguments(kind, Profile.THROUGHPUT, slots=5), name) == "5"


def test_each_llamacpp_slot_keeps_its_context_however_many_there_are():
    for slots in (1, 2, 8):
        words = arguments(Kind.LLAMACPP, Profile.PREDICTABLE, slots=slots)

        assert int(value(words, "--ctx-size")) == slots * CONTEXT_TOKENS


@pytest.mark.parametrize("slots", [1, 4, 48, 64])
def test_a_tgi_graph_exists_for_every_power_of_two_that_fits_the_slots(slots):
    graphs = value(arguments(Kind.TGI, Profile.THROUGHPUT, slots=slots), "--cuda-graphs").split(",")

    assert [int(graph) for graph in graphs] == [2**n for n in range(9) if 2**n <= slots]


def test_an_engine_without_a_slot_is_refused():
    with pytest.raises(ValueError, match="at least 1 slot, not 0"):
        arguments(Kind.VLLM, Profile.PREDICTABLE, slots=0)


def test_a_plain_openai_server_has_no_flags_that_we_know():
    assert arguments(Kind.OPENAI, Profile.PREDICTABLE) == []


def test_the_table_has_a_row_for_every_flag():
    rows = table().splitlines()

    assert len(rows) == 2 + sum(len(flags(kind, profile)) for kind, profile in SHAPES)
    assert all(row.count(" | ") == 3 for row in rows[2:])


def test_the_table_can_be_printed():
    printed = subprocess.run(
        [sys.executable, "-m", "engines.launch.profiles"], capture_output=True, check=True
    )

    assert printed.stdout.decode() == table()
