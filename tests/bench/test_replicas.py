"""What the replicas' benchmark makes of what it measured, and that its quick scenes run."""

import json
from math import inf
from pathlib import Path

import pytest

from tests.bench.replicas import __main__ as command
from tests.bench.replicas import eight
from tests.bench.replicas.crowd import TARGET_S, Tally
from tests.bench.replicas.finding import Finding
from tests.bench.replicas.stage import quantile
from tests.bench.replicas.stand_in import worst_inversion_s


@pytest.mark.parametrize(
    ("finding", "right"),
    [
        (Finding("", 2.0, most=2.0), True),
        (Finding("", 2.1, most=2.0), False),
        (Finding("", 1.8, least=1.8), True),
        (Finding("", 1.7, least=1.8), False),
        (Finding("", 99.0), True),
    ],
    ids=["at its most", "above", "at its least", "below", "without a bound"],
)
def test_a_figure_is_right_up_to_its_bound(finding, right):
    assert finding.right is right


def test_a_bound_is_said_in_words():
    assert Finding("", 0, most=2.0).bound == "at most 2"
    assert Finding("", 0, least=1.8).bound == "at least 1.8"
    assert Finding("", 0).bound == ""


def test_an_inversion_is_how_much_later_one_was_offered_that_came_first():
    came = [(1.0, 0.0), (2.0, 0.5), (3.0, 0.2), (4.0, 0.6)]

    assert worst_inversion_s(came) == pytest.approx(0.3)
    assert worst_inversion_s(sorted(came)[:2]) == 0.0


def test_a_request_that_was_not_served_is_one_that_missed_its_target():
    tally = Tally()
    tally.statuses.update({"interactive": 4, "200": 3, "429": 1})
    tally.first_token_s += [0.5 * TARGET_S, TARGET_S, 2 * TARGET_S]

    assert tally.attained == 0.5
    assert tally.failed == {"429": 1}


def test_a_quantile_lies_within_its_bucket_as_many_as_it_takes_to_reach_it():
    counts = {1.0: 50.0, 2.0: 90.0, 4.0: 100.0, inf: 100.0}

    assert quantile(counts, 0.5) == 1.0
    assert quantile(counts, 0.95) == 3.0
    assert quantile({1.0: 0.0, inf: 10.0}, 0.5) == inf
    assert quantile({}, 0.99) == 0.0


def test_eight_replicas_are_compared_with_one_at_each_rate():
    short = eight.Extent(seeds=(1,), rates=(30.0,), duration_s=3.0, warm_up_s=1.0)

    found = eight.findings(short)

    assert [each.most for each in found] == [None, 2.0, None, 2.0]
    assert found[0].measured > 90.0


def test_what_falls_short_is_named_and_is_the_exit_status(monkeypatch, tmp_path: Path, capsys):
    scenes = {
        "good": ("all is well", lambda _: [Finding("figure", 1.0, most=2.0)]),
        "bad": ("it is not", lambda _: [Finding("another", 3.0, most=2.0)]),
    }
    monkeypatch.setattr(command, "SCENES", scenes)
    file = tmp_path / "figures.json"

    assert command.main(["good", "--json", str(file)]) == 0
    assert command.main(["good", "bad", "--json", str(file)]) == 1
    assert "falls short in bad: another is 3" in capsys.readouterr().out
    assert json.loads(file.read_text())["bad"]["figures"][0]["right"] is False
    with pytest.raises(SystemExit):
        command.main(["nonsense"])
    assert "no scene 'nonsense'; known: good, bad" in capsys.readouterr().err
