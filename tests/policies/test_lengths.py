from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.lengths import (
    FIRST_TOKENS_PER_BYTE,
    LEAST_TOKENS_PER_BYTE,
    MOST_TOKENS_PER_BYTE,
    NO_OUTPUTS,
    NOTHING_SEEN,
    RESERVOIR,
    Lengths,
    OutputLengths,
    band,
    kind,
)
from tests.policies.builders import facts


def learn(lengths, asked, prompt_tokens=None, output_tokens=None, rank=1, estimate_tokens=100):
    lengths.learn(
        asked, rank, estimate_tokens, prompt_tokens=prompt_tokens, output_tokens=output_tokens
    )


def outputs(lengths, asked, rank=1, estimate_tokens=100):
    return lengths.seen(asked).outputs.get(kind(rank, estimate_tokens), NO_OUTPUTS)


def test_the_ratio_settles_where_the_prompts_are():
    lengths, asked = Lengths(), facts(prompt_bytes=1000)

    for _ in range(200):
        learn(lengths, asked, prompt_tokens=600)

    assert lengths.seen(asked).tokens_per_byte == pytest.approx(0.6, rel=0.01)
    assert lengths.seen(asked).samples == 200


@given(st.lists(st.integers(1, 10**7), max_size=50))
def test_the_ratio_stays_within_bounds_whatever_an_engine_tells(counts):
    lengths, asked = Lengths(), facts(prompt_bytes=1000)

    for count in counts:
        learn(lengths, asked, prompt_tokens=count)

    assert LEAST_TOKENS_PER_BYTE <= lengths.seen(asked).tokens_per_byte <= MOST_TOKENS_PER_BYTE


def test_a_short_prompt_teaches_no_ratio():
    lengths, asked = Lengths(), facts(prompt_bytes=10)

    learn(lengths, asked, prompt_tokens=40)

    assert lengths.seen(asked).tokens_per_byte == FIRST_TOKENS_PER_BYTE


def test_tenants_and_models_are_learned_apart():
    lengths = Lengths()

    learn(lengths, facts(tenant="a"), prompt_tokens=300, output_tokens=9)

    assert lengths.seen(facts(tenant="a")).samples == 1
    assert lengths.seen(facts(tenant="b")) is NOTHING_SEEN
    assert lengths.seen(facts(tenant="a", model="o")) is NOTHING_SEEN


def test_classes_and_prompt_bands_are_learned_apart():
    lengths, asked = Lengths(), facts()

    learn(lengths, asked, output_tokens=9, rank=2, estimate_tokens=512)

    assert outputs(lengths, asked, rank=2, estimate_tokens=1).samples == 1
    assert outputs(lengths, asked, rank=1, estimate_tokens=1).samples == 0
    assert outputs(lengths, asked, rank=2, estimate_tokens=513).samples == 0


def test_prompts_fall_into_three_bands():
    assert [band(count) for count in (1, 512, 513, 4096, 4097)] == [0, 0, 1, 1, 2]


def test_the_tables_are_bounded_and_forget_the_least_confirmed():
    lengths = Lengths(max_rows=2)
    for tenant in ("a", "b", "a", "c"):
        learn(lengths, facts(tenant=tenant), output_tokens=9)

    assert lengths.seen(facts(tenant="b")) is NOTHING_SEEN
    assert lengths.seen(facts(tenant="a")) is not NOTHING_SEEN
    assert lengths.seen(facts(tenant="c")) is not NOTHING_SEEN


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=RESERVOIR + 90))
def test_the_quantiles_are_those_of_the_last_answers_drawn_towards_the_prior(answers):
    learned = OutputLengths()

    for answer in answers:
        learned.learn(answer)

    recent = sorted(answers[-RESERVOIR:])
    trust = len(recent) / (len(recent) + 8)
    assert learned.samples == len(recent)
    assert learned.p50_tokens == pytest.approx(130 + trust * (recent[len(recent) // 2] - 130))
    assert learned.p90_tokens == pytest.approx(430 + trust * (recent[len(recent) * 9 // 10] - 430))


def test_with_many_answers_the_quantiles_are_close_to_the_true_ones():
    learned, answers = OutputLengths(), [(7 * n) % 1000 for n in range(RESERVOIR)]

    for answer in answers:
        learned.learn(answer)

    deciles = quantiles(answers, n=10)
    assert learned.p50_tokens == pytest.approx(deciles[4], rel=0.05)
    assert learned.p90_tokens == pytest.approx(deciles[8], rel=0.05)


def test_an_answer_cut_short_counts_only_above_the_median():
    lengths = Lengths()

    learn(lengths, facts(max_tokens=16), output_tokens=16)
    assert outputs(lengths, facts()).samples == 0

    learn(lengths, facts(max_tokens=900), output_tokens=900)
    assert outputs(lengths, facts()).samples == 1


def test_several_choices_are_learned_as_one_answer():
    lengths = Lengths()

    learn(lengths, facts(choices=4), output_tokens=400)

    assert outputs(lengths, facts()).p50_tokens == pytest.approx(130 + (100 - 130) / 9)


def test_what_an_engine_does_not_tell_teaches_nothing():
    lengths = Lengths()

    learn(lengths, facts(), prompt_tokens=0, output_tokens=None)

    assert lengths.seen(facts()).samples == 0
    assert outputs(lengths, facts()).samples == 0
