"""Lengths: distributions by name, and samples of traces."""

from random import Random
from statistics import fmean

import pytest

from router.workload import lengths
from router.workload.lengths import Independent, distribution, sample
from router.workload.load import trace_path
from router.workload.rows import read_rows


@pytest.mark.parametrize(
    ("text", "p10", "p50", "p90"),
    [
        ("fixed(512)", 512, 512, 512),
        ("exp(100)", 10.5, 69.3, 230),
        (" uniform( 1000 , 2000 )", 1100, 1500, 1900),
        ("lognormal(130, 430)", 39.3, 130, 430),
    ],
)
def test_a_distribution_has_the_quantiles_that_its_name_says(text, p10, p50, p90):
    rng, draw = Random(1), distribution(text)
    drawn = sorted(draw(rng) for _ in range(20_000))

    assert drawn[2000] == pytest.approx(p10, rel=0.05)
    assert drawn[10_000] == pytest.approx(p50, rel=0.05)
    assert drawn[18_000] == pytest.approx(p90, rel=0.05)


@pytest.mark.parametrize(
    "text",
    [
        *("", "512", "gauss(5)", "exp()", "exp(a)", "exp(1, 2)", "exp(0.5)", "exp(inf)"),
        *("exp(nan)", "uniform(5)", "uniform(9, 3)", "lognormal(4, 4)", "fixed(512"),
    ],
)
def test_what_is_no_distribution_is_refused_with_what_would_be(text):
    with pytest.raises(ValueError, match=r"is no distribution|takes"):
        distribution(text)


def test_independent_lengths_are_whole_and_at_least_one():
    drawn = [
        Independent(distribution("exp(1)"), distribution("fixed(1)")).draw(Random(seed))
        for seed in range(50)
    ]

    assert all(isinstance(a, int) and a >= 1 and b == 1 for a, b in drawn)


def test_a_sample_draws_pairs_that_the_trace_has():
    of_trace = sample(trace_path("arxiv_lengths"))
    rng = Random(1)

    drawn = [of_trace.draw(rng) for _ in range(500)]

    assert set(drawn) <= set(of_trace.pairs)
    assert fmean(prompt for prompt, _ in drawn) == pytest.approx(2580, rel=0.1)


def test_of_a_trace_larger_than_the_sample_every_part_is_kept_alike(monkeypatch):
    monkeypatch.setattr(lengths, "SAMPLE", 500)

    kept = sample(trace_path("azure_conv"))
    whole = fmean(row.prompt_tokens for row in read_rows(trace_path("azure_conv")))

    assert len(kept.pairs) == 500
    assert fmean(prompt for prompt, _ in kept.pairs) == pytest.approx(whole, rel=0.1)
