"""Text by rule: counted, and the same from every engine."""

from hypothesis import given
from hypothesis import strategies as st

from engines.emulator import text


def test_english_is_about_four_characters_a_token():
    said = "The quick brown fox jumps over the lazy dog, and nobody minds it very much."

    assert 3 < len(said) / text.count(said) < 6


@given(said=st.text(max_size=200))
def test_tokens_make_up_the_text(said):
    assert "".join(text.tokens(said)) == said
    assert len(text.token_ids(said)) == len(text.tokens(said))


@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 50))
def test_an_answer_is_the_same_wherever_it_is_cut(seed, cut):
    whole = text.answer(seed, 50)

    assert whole == text.answer(seed, cut) + "".join(text.word(seed, i) for i in range(cut, 50))


def test_different_prompts_have_different_answers():
    assert len({text.answer(seed, 12) for seed in range(200)}) == 200


@given(mean=st.floats(2.0, 300.0))
def test_natural_lengths_have_their_mean(mean):
    lengths = [text.natural_length(seed * 7919, mean) for seed in range(4000)]

    assert min(lengths) >= 1
    assert 0.85 * mean < sum(lengths) / len(lengths) < 1.15 * mean


@given(
    common=st.binary(min_size=64, max_size=400),
    a=st.binary(max_size=100),
    b=st.binary(max_size=100),
)
def test_equal_beginnings_have_equal_keys(common, a, b):
    first, second = text.prefix_keys(common + a, 64), text.prefix_keys(common + b, 64)

    assert len(first) == (len(common) + len(a)) // 64
    assert first[: len(common) // 64] == second[: len(common) // 64]
