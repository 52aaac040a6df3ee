"""Workloads as streams of offers, and the documents that they come from."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from policies.facts import SlaClass
from router.document import ConfigError
from router.workload import stream
from router.workload.load import WORKLOAD, built_in_names, load_workload
from router.workload.rows import TraceError
from router.workload.settings import Traffic, Workload
from router.workload.stream import at_rate, nominal_rate, offers

CHAT = Traffic(
    name="chat", sla_class=SlaClass.INTERACTIVE, rate=20.0, prompt="exp(300)", output="exp(100)"
)
BULK = Traffic(
    name="bulk", sla_class=SlaClass.BULK, rate=5.0, prompt="fixed(2000)", output="exp(200)"
)
REPLAY = '[[traffic]]\nname = "a"\ntrace = "azure_conv"\n'
DRAWN = '[[traffic]]\nname = "a"\nrate = 1\nlengths = "azure_conv"\n'
BOTH = Workload(duration_s=60.0, warm_up_s=5.0, traffic=(CHAT, BULK))


@pytest.mark.parametrize("name", built_in_names())
def test_every_built_in_workload_offers_what_it_says(name):
    workload = load_workload(name)

    offered = list(offers(workload, 1))

    assert [offer.number for offer in offered] == list(range(len(offered)))
    assert all(sooner.at_s <= later.at_s for sooner, later in pairwise(offered))
    assert all(0 <= offer.at_s < workload.duration_s for offer in offered)
    assert {offer.traffic for offer in offered} == {each.name for each in workload.traffic}
    assert len(offered) / workload.duration_s == pytest.approx(nominal_rate(workload), rel=0.3)
    assert workload.about


def test_the_same_seed_gives_the_same_offers_and_another_seed_others():
    assert list(offers(BOTH, 3)) == list(offers(BOTH, 3))
    assert list(offers(BOTH, 3)) != list(offers(BOTH, 4))


def test_a_change_of_one_traffic_leaves_the_others_as_they_are():
    changed = replace(BOTH, traffic=(CHAT, replace(BULK, rate=9.0)))

    def chat(workload: Workload) -> list[tuple[float, int]]:
        mine = (offer for offer in offers(workload, 1) if offer.traffic == "chat")
        return [(offer.at_s, offer.prompt_tokens) for offer in mine]

    assert chat(BOTH) == chat(changed)


def test_callers_allow_twice_the_answer_within_bounds():
    assert all(
        offer.max_tokens == min(2048, max(256, 2 * offer.output_tokens))
        for offer in offers(BOTH, 1)
    )


def test_answers_are_held_to_their_class_unless_the_traffic_says_otherwise():
    workload = replace(BOTH, traffic=(replace(CHAT, first_token_s=0.2), BULK))

    by_traffic = {offer.traffic: offer.targets for offer in offers(workload, 1)}

    assert by_traffic["chat"].first_token_s == 0.2
    assert by_traffic["chat"].per_token_s == 0.05
    assert by_traffic["bulk"].first_token_s is None
    assert by_traffic["bulk"].deadline_s == 60.0


def test_tenants_come_by_weight_and_sessions_in_the_number_asked_for():
    traffic = replace(CHAT, rate=100.0, tenants={"a": 3.0, "b": 1.0}, sessions=5)
    offered = list(offers(replace(BOTH, traffic=(traffic,)), 1))

    counts = Counter(offer.tenant for offer in offered)

    assert counts["a"] / counts["b"] == pytest.approx(3.0, rel=0.15)
    assert {offer.session for offer in offered} == {f"chat-{number}" for number in range(5)}


def test_clients_of_a_trace_are_tenants_and_may_have_classes_of_their_own():
    offered = list(offers(load_workload("tenants"), 1))

    assert {offer.sla_class for offer in offered if offer.tenant == "31"} == {SlaClass.INTERACTIVE}
    assert {offer.sla_class for offer in offered if offer.tenant == "77"} == {SlaClass.BULK}
    assert {offer.sla_class for offer in offered if offer.tenant == "34"} == {SlaClass.STANDARD}


def test_a_trace_is_replayed_faster_without_losing_a_burst(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n10,2,2\n10,3,3\n40,4,4\n")
    replay = Traffic(name="replay", trace=str(path), speed=2.0)

    offered = list(offers(Workload(duration_s=15.0, warm_up_s=0.0, traffic=(replay,)), 1))

    assert [(offer.at_s, offer.prompt_tokens) for offer in offered] == [(0, 1), (5, 2), (5, 3)]


def test_requests_that_share_a_coarse_time_are_spread_but_never_past_the_next(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = [
        f'{{"timestamp": {at}, "input_length": 5, "output_length": 5}}\n'
        for at in [0] * 50 + [2000] * 50
    ]
    path.write_text("".join(lines))
    replay = Traffic(name="replay", trace=str(path), spread_s=3.0)

    offered = list(offers(Workload(duration_s=5.0, warm_up_s=0.0, traffic=(replay,)), 1))

    times = [offer.at_s for offer in offered]
    assert len(set(times)) == 100
    assert max(times[:50]) < 2.0 <= min(times[50:])
    assert max(times) < 5.0


def test_too_many_requests_at_one_time_are_not_spread_but_told(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "MOST_AT_ONCE", 3)
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "0,1,1\n" * 5)
    replay = Traffic(name="replay", trace=str(path), spread_s=3.0)

    with pytest.raises(TraceError, match="line 5: has more than 3 requests at one time"):
        list(offers(Workload(duration_s=15.0, warm_up_s=0.0, traffic=(replay,)), 1))


def test_a_trace_that_is_over_too_soon_begins_again_after_a_mean_gap(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n4,2,2\n10,3,3\n")
    replay = Traffic(name="replay", trace=str(path))

    offered = offers(Workload(duration_s=20.0, warm_up_s=0.0, traffic=(replay,)), 1)

    times = [(offer.at_s, offer.prompt_tokens) for offer in offered]
    again_s = 10 + 10 / 3
    assert times == [(0, 1), (4, 2), (10, 3), (again_s, 1), (again_s + 4, 2)]


def test_a_trace_of_one_moment_is_replayed_once(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n0,2,2\n")
    replay = Traffic(name="replay", trace=str(path))

    assert len(list(offers(Workload(traffic=(replay,)), 1))) == 2


def test_at_another_rate_all_traffic_stays_in_proportion():
    faster = at_rate(BOTH, 50.0)

    assert [traffic.rate for traffic in faster.traffic] == [40.0, 10.0]


def test_a_replay_is_brought_to_a_rate_by_its_speed():
    workload = at_rate(load_workload("code_bursts"), 60.0)

    assert nominal_rate(workload) == pytest.approx(60.0)
    assert len(list(offers(workload, 1))) / workload.duration_s == pytest.approx(60.0, rel=0.3)


def test_lengths_alone_cannot_be_replayed():
    replay = Traffic(name="replay", trace="arxiv_lengths")
    workload = Workload(traffic=(replay,))

    with pytest.raises(TraceError, match="line 2: has lengths but no times; use it as `lengths`"):
        list(offers(workload, 1))
    with pytest.raises(TraceError, match="has lengths but no times"):
        nominal_rate(workload)


def test_a_trace_of_one_moment_has_no_rate(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n7,1,1\n7,1,1\n")

    with pytest.raises(TraceError, match="their rate is infinite"):
        nominal_rate(Workload(traffic=(Traffic(name="replay", trace=str(path)),)))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("traffic = []", "traffic", "at least 1 long"),
        ('[[traffic]]\nname = "a"', "traffic[0].rate", "give either a rate or a trace"),
        (
            '[[traffic]]\nname = "a"\nrate = 1\ntrace = "azure_conv"',
            "traffic[0].rate",
            "give either a rate or a trace",
        ),
        (
            '[[traffic]]\nname = "a"\ntrace = "azure_conv"\nprompt = "exp(5)"',
            "traffic[0].prompt",
            "a trace has lengths of its own",
        ),
        (
            '[[traffic]]\nname = "a"\ntrace = "azure_conv"\nchanges = [{at_s = 1, times = 2}]',
            "traffic[0].changes",
            "a trace has a rate of its own",
        ),
        (
            '[[traffic]]\nname = "a"\nrate = 1\nprompt = "exp(5)"',
            "traffic[0].lengths",
            "give lengths, or both prompt and output",
        ),
        (
            '[[traffic]]\nname = "a"\nrate = 1\nlengths = "azure_conv"\noutput = "exp(5)"',
            "traffic[0].output",
            "lengths come from a trace already",
        ),
        (
            '[[traffic]]\nname = "a"\nrate = 1\nprompt = "exp(5)"\noutput = "five"',
            "traffic[0].output",
            "'five' is no distribution",
        ),
        (
            DRAWN + "changes = [{at_s = 2, times = 2}, {at_s = 1, times = 1}]",
            "traffic[0].changes",
            "must be ascending in at_s, not [2.0, 1.0]",
        ),
        (
            'duration_s = 5\nwarm_up_s = 5\n[[traffic]]\nname = "a"\ntrace = "azure_conv"',
            "warm_up_s",
            "must be less than duration_s, 5, not 5",
        ),
        (
            REPLAY + REPLAY,
            "traffic[1].name",
            "'a' is taken",
        ),
        (
            REPLAY + '[[faults]]\nendpoint = "x"\nfault = "dead"\nat_s = 5\nuntil_s = 4',
            "faults[0].until_s",
            "must be more than at_s, 5, not 4",
        ),
        ('[[traffic]]\nname = "a"\nraet = 1', "traffic[0]", "unknown key 'raet'"),
        ("= 3", "", "is not TOML"),
    ],
)
def test_a_wrong_document_is_told_with_its_place(tmp_path, text, place, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as caught:
        load_workload(str(path))

    assert any(flaw.place == place and message in flaw.message for flaw in caught.value.flaws)


def test_a_name_that_is_nearly_right_is_told_the_right_one():
    with pytest.raises(
        ConfigError, match=r"unknown workload .mixd.; known: mixed, or a \.toml file"
    ):
        load_workload("mixd")


@pytest.mark.parametrize("content", [None, b"\xff"], ids=["gone", "no text"])
def test_a_file_that_cannot_be_read_is_told(tmp_path, content):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"cannot be read|is not UTF-8"):
        load_workload(str(path))


def test_a_trace_beside_the_document_is_found(tmp_path):
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,7,1\n9,2,2\n")
    path = tmp_path / "mine.toml"
    path.write_text('[[traffic]]\nname = "a"\ntrace = "t.csv"\n')

    assert next(offers(load_workload(str(path)), 1)).prompt_tokens == 7


def test_a_workload_written_down_is_read_as_the_same():
    workload = load_workload("faults")

    assert WORKLOAD.read("again", WORKLOAD.write(workload)) == workload
