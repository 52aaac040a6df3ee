"""What single endpoint policies promise beyond the common contract."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.endpoints.consistent_hash import BOUND, ConsistentHash
from policies.endpoints.least_scraped import LeastScraped
from policies.endpoints.least_tokens import LeastTokens
from policies.endpoints.load import work_tokens
from policies.endpoints.peak_ewma import LowestPeakEwma
from policies.endpoints.policy import two_of
from policies.endpoints.round_robin import RoundRobin
from tests.policies.builders import ask
from tests.policies.endpoints.test_contract import Gauges, Seen, fleets

RNG = Random(3)


@settings(max_examples=25)
@given(fleet=fleets, seed=st.integers(0, 99), prompt_tokens=st.integers(0, 9000))
def test_least_tokens_finds_the_least_work_for_the_weight(fleet, seed, prompt_tokens):
    def cost(endpoint):
        return (prompt_tokens + 72.0 + work_tokens(endpoint)) / endpoint.weight

    asked = ask(known_prompt_tokens=prompt_tokens)
    chosen = LeastTokens().choose(asked, fleet, Random(seed), 0.0)

    assert cost(chosen) == pytest.approx(min(map(cost, fleet)))


def test_one_long_prompt_weighs_more_than_many_short_answers():
    long, many = Seen("long", in_flight=1, pending_prompt_tokens=8000), Seen("many", in_flight=20)

    assert LeastTokens().choose(ask(), [long, many], RNG, 0.0) is many


def test_round_robin_takes_turns():
    policy, fleet = RoundRobin(), [Seen(each) for each in "abc"]

    assert "".join(policy.choose(ask(), fleet, RNG, 0.0).id for _ in range(7)) == "abcabca"


def test_who_was_away_is_not_owed_the_turns_it_missed():
    policy, (a, b) = RoundRobin(), (Seen("a"), Seen("b"))
    for _ in range(100):
        policy.choose(ask(), [a], RNG, 0.0)

    turns = "".join(policy.choose(ask(), [a, b], RNG, 0.0).id for _ in range(6))

    assert turns in ("bababa", "ababab")


def test_an_endpoint_on_its_first_request_gets_no_second_until_it_has_answered():
    fresh, known = Seen("fresh", in_flight=1), Seen("known", in_flight=40, peak_s=2.0)

    assert LowestPeakEwma().choose(ask(), [fresh, known], RNG, 0.0) is known


def test_an_idle_endpoint_that_is_unknown_is_tried():
    fresh, known = Seen("fresh"), Seen("known", peak_s=0.1)

    assert LowestPeakEwma().choose(ask(), [fresh, known], RNG, 0.0) is fresh


def test_of_endpoints_all_unknown_the_least_busy_is_tried():
    assert (
        LowestPeakEwma()
        .choose(ask(), [Seen("a", in_flight=2), Seen("b", in_flight=1)], RNG, 0.0)
        .id
        == "b"
    )


@given(session=st.text(min_size=1), order=st.permutations("abcdef"))
def test_a_session_stays_where_it_is_in_whatever_order_the_endpoints_come(session, order):
    asked = ask(session=session)

    first = ConsistentHash().choose(asked, [Seen(each) for each in "abcdef"], Random(1), 0.0)
    again = ConsistentHash().choose(asked, [Seen(each) for each in order], Random(2), 9.0)

    assert first.id == again.id


def test_when_an_endpoint_goes_only_its_own_sessions_move():
    fleet = [Seen(each) for each in "abcdef"]

    for number in range(200):
        asked = ask(session=str(number))
        before = ConsistentHash().choose(asked, fleet, RNG, 0.0)
        after = ConsistentHash().choose(asked, fleet[1:], RNG, 0.0)
        assert after is before or before is fleet[0]


def test_without_a_session_the_tenant_is_kept_together():
    fleet = [Seen(each) for each in "abcdef"]

    chosen = {
        ConsistentHash().choose(ask(id=str(number), tenant="t"), fleet, RNG, 0.0).id
        for number in range(50)
    }

    assert len(chosen) == 1


def test_one_hot_session_does_not_overload_its_endpoint():
    fleet = [Seen(each) for each in "abcd"]

    for _ in range(400):
        ConsistentHash().choose(ask(session="hot"), fleet, RNG, 0.0).in_flight += 1

    assert max(each.in_flight for each in fleet) <= BOUND * 400 / 4 + 1


@settings(max_examples=25)
@given(fleet=fleets)
def test_there_is_always_an_endpoint_within_its_share(fleet):
    chosen = ConsistentHash().choose(ask(session="s"), fleet, RNG, 0.0)

    share = BOUND * (1 + sum(each.in_flight for each in fleet)) / sum(each.weight for each in fleet)
    assert chosen.in_flight < share * chosen.weight


def test_an_engine_that_tells_nothing_is_neither_best_nor_worst():
    best = Seen("best", load=Gauges(kv_usage=0.1))
    worst = Seen("worst", load=Gauges(kv_usage=0.9))
    silent = Seen("silent")

    assert LeastScraped().choose(ask(), [best, worst, silent], RNG, 0.0) is best
    assert LeastScraped().choose(ask(), [worst, silent], RNG, 0.0) is silent


def test_the_engine_with_the_shortest_queue_of_its_own_is_chosen():
    fleet = [Seen(str(count), load=Gauges(waiting=count, kv_usage=0.5)) for count in (4, 1, 2)]

    assert LeastScraped().choose(ask(), fleet, RNG, 0.0).id == "1"


@given(count=st.integers(1, 6), seed=st.integers(0, 999))
def test_two_different_endpoints_are_drawn(count, seed):
    drawn = two_of([Seen(str(each)) for each in range(count)], Random(seed))

    assert len({each.id for each in drawn}) == min(2, count)


def test_every_pair_is_equally_likely():
    fleet, rng = [Seen(each) for each in "abcd"], Random(5)
    counts: dict[str, int] = {}

    for _ in range(6000):
        pair = "".join(sorted(each.id for each in two_of(fleet, rng)))
        counts[pair] = counts.get(pair, 0) + 1

    assert len(counts) == 6
    assert all(850 <= count <= 1150 for count in counts.values()), counts
