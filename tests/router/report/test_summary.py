"""Summaries, tables, pictures and pages of results."""

import re
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from policies.facts import SlaClass
from router.measure.interval import Interval
from router.measure.outcome import Fate
from router.measure.tally import Tally
from router.report import charts, summary, table
from router.report.charts import ChartsMissing
from router.report.page import page
from router.report.rates import rates
from router.report.summary import Entry
from tests.router.measure.outcomes import offer, outcome


def tally(served: int, missed: int, sla_class: SlaClass = SlaClass.INTERACTIVE) -> Tally:
    made = Tally(100.0, 0.0)
    for number in range(served + missed):
        of = offer(number, at_s=float(number % 100), sla_class=sla_class, tenant="t")
        first_token_s = 0.1 + 0.001 * number if number < served else 2.0
        each = outcome(of=of, first_token_s=first_token_s)
        each.endpoint = "gpu-1"
        each.slowest_gap_s = 0.03
        made.add(each)
    return made


def rows(*entries: Entry) -> list[dict[str, Any]]:
    return [summary.row(entry, 10.0) for entry in entries]


STEADY = Entry("steady", 10.0, [tally(90, 10), tally(100, 0)])
SHAKY = Entry("shaky", 10.0, [tally(50, 50), tally(70, 30)])
FASTER = Entry("steady", 20.0, [tally(40, 60), tally(60, 40)])
FASTER_SHAKY = Entry("shaky", 20.0, [tally(10, 90), tally(20, 80)])


def test_a_row_has_the_mean_over_seeds_and_percentiles_over_all():
    row = summary.row(STEADY, 36.0)
    group = row["classes"]["interactive"]

    assert group["attainment"]["mean"] == pytest.approx(0.95)
    assert group["attainment"]["low"] == 0.9
    assert group["attainment"]["high"] == 1.0
    assert (group["offered"], group["good"]) == (200, 190)
    assert group["first_token_s"]["p50"] == pytest.approx(0.15, rel=0.03)
    assert group["first_token_s"]["max"] == 2.0
    assert row["offered_per_s"] == pytest.approx(1.0)
    assert row["endpoints"]["gpu-1"]["requests"] == 200
    assert row["tenants"]["t"]["offered"] == 200
    assert set(row["classes"]) == {"interactive"}


def test_the_cost_is_the_fleets_time_by_what_it_made():
    row = summary.row(STEADY, 36.0)

    # 200 s at 36 $/h are 2 $, for 4000 tokens and 190 good answers.
    assert row["usd_per_million_output_tokens"] == pytest.approx(500.0)
    assert row["usd_per_thousand_good"] == pytest.approx(2.0 / 0.190)
    assert "usd_per_thousand_good" not in summary.row(STEADY)


def test_without_good_answers_there_is_no_price_for_them():
    refused = Tally(10.0, 0.0)
    refused.add(outcome(Fate.REFUSED, of=offer(at_s=1.0)))
    refused.all.output_tokens = 0

    row = summary.row(Entry("none", 1.0, [refused]), 1.0)

    assert row["usd_per_thousand_good"] is None
    assert row["classes"]["interactive"]["attainment_of_served"] is None


def test_a_curve_has_few_points_and_the_last_is_all():
    whole = tally(95, 5).all

    points = summary.curve(whole.first_token)

    assert len(points) <= summary.CURVE_POINTS + 1
    assert points[-1][1] == 1.0
    assert summary.curve(Tally(1.0, 0.0).all.first_token) == []


def test_a_difference_is_between_the_same_seeds():
    (difference,) = summary.differences([STEADY, SHAKY])

    assert (difference["name"], difference["than"]) == ("shaky", "steady")
    assert difference["interactive"]["mean"] == pytest.approx((-0.4 - 0.3) / 2)
    assert difference["interactive"]["high"] <= -0.3 + 1e-9


def test_other_numbers_of_seeds_have_no_difference():
    assert summary.differences([STEADY, Entry("one", 10.0, [tally(1, 0)])]) == []


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ([(10, 1.0), (20, 0.8)], (15.0, False)),
        ([(10, 0.5), (20, 1.0)], (None, False)),
        ([(10, 1.0), (20, 0.95)], (20, True)),
        ([(10, 1.0), (20, 0.8), (30, 1.0)], (15.0, False)),
        ([], (None, True)),
    ],
    ids=["between two", "never", "always", "first fall counts", "no points"],
)
def test_the_highest_rate_is_where_the_curve_first_falls_below(points, found):
    rate, beyond = summary.crossing(points, 0.9)

    assert (rate, beyond) == (None if found[0] is None else pytest.approx(found[0]), found[1])


def test_highest_rates_are_told_for_each_name_and_class():
    found = summary.highest_rates(rows(STEADY, FASTER))

    assert {(each["name"], each["class"], each["attainment"]) for each in found} == {
        ("steady", "interactive", 0.9),
        ("steady", "interactive", 0.99),
    }
    assert found[0]["rate"] == pytest.approx(10.0 + 10.0 * 0.05 / 0.45)


def shown(thing: object) -> str:
    console = Console(width=140, file=None, record=True, quiet=False)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def test_a_table_has_a_line_for_each_class_with_the_interval():
    both = Tally(100.0, 0.0)
    both.add(outcome(of=offer(at_s=1.0)))
    both.add(outcome(Fate.REFUSED, of=offer(at_s=1.0, sla_class=SlaClass.BULK)))

    text = shown(table.table("Title", [*rows(STEADY), summary.row(Entry("other", 5.0, [both]))]))

    assert "95.0 (90.0-100.0)" in text
    assert re.search(r"other\s+5\s+interactive\s+100\.0\s+0\.0\s+100 / 100\s+10 / 10", text)
    assert re.search(r"bulk\s+0\.0\s+100\.0\s+- / -", text)


def test_the_table_of_highest_rates_marks_what_was_never_missed():
    found = summary.highest_rates(rows(STEADY, FASTER, Entry("low", 1.0, [tally(0, 9)])))
    found += [{"name": "best", "class": "bulk", "rate": 20.0, "beyond": True, "attainment": 0.9}]

    text = shown(table.highest(found))

    assert re.search(r"steady\s+interactive\s+11\.1\s+-", text)
    assert "20.0+" in text


def test_the_screen_is_wide_enough_for_a_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert table.console().width == table.WIDTH
    monkeypatch.setenv("COLUMNS", "200")
    assert table.console().width == 200


def test_a_share_without_an_interval_is_told_without():
    assert table.percent(Interval(0.5)) == "50.0"
    assert summary.as_interval(asdict(Interval(0.5, 0.4, 0.6))) == Interval(0.5, 0.4, 0.6)


ALL = rows(STEADY, SHAKY, FASTER, FASTER_SHAKY)


@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.parametrize(
    "draw",
    [charts.attainment_over_rate, charts.first_token_curves, charts.attainment_over_time],
    ids=["rate", "curves", "time"],
)
def test_a_picture_is_the_same_for_the_same_results_and_of_its_kind(draw, kind):
    first, second = charts.drawn(draw(ALL), kind), charts.drawn(draw(ALL), kind)

    assert first == second
    assert first.startswith(b"\x89PNG" if kind == "png" else b"<?xml")


def test_a_picture_of_one_seed_and_of_nothing_can_be_drawn():
    alone = rows(Entry("one", 10.0, [tally(9, 1)]))

    assert charts.drawn(charts.attainment_over_rate(alone), "svg")
    assert charts.drawn(charts.first_token_curves([]), "svg")
    assert charts.drawn(charts.first_token_curves(alone, {"interactive": 0.5}), "svg")


def test_lines_are_called_by_rate_only_where_there_are_several():
    figure = charts.first_token_curves(ALL)
    alone = charts.first_token_curves(rows(STEADY, SHAKY))

    def labels(of: Any) -> set[str]:
        return {line.get_label() for line in of.axes[0].get_lines()}

    assert "steady at 20/s" in labels(figure)
    assert labels(alone) == {"steady", "shaky"}


def test_a_picture_is_saved_by_the_kind_that_its_name_says(tmp_path):
    path = tmp_path / "a.svg"

    charts.save(charts.attainment_over_rate(ALL), path)

    assert ET.parse(path).getroot().tag.endswith("svg")  # noqa: S314 - our own file
    with pytest.raises(ValueError, match=r"'a\.gif' is no picture; a name in \.svg or \.png"):
        charts.fit_suffix(Path("a.gif"))


def test_without_the_library_the_way_to_get_it_is_told(monkeypatch):
    charts.require_charts()
    monkeypatch.setattr(charts, "find_spec", lambda _name: None)

    with pytest.raises(ChartsMissing, match=r"pip install 'headway\[bench\]'"):
        charts.require_charts()


@pytest.mark.parametrize("several", [True, False])
def test_a_page_holds_everything_and_loads_nothing(several):
    document = {
        "workload": {"about": "<b>chat</b> & bulk"},
        "targets": {"steady": "http://x"},
        "rows": ALL if several else rows(STEADY, SHAKY),
        "differences": [],
        "highest_rates": [],
    }

    text = page("A <title>", document, [(True, "on time"), (False, "late")]).decode()

    assert "A &lt;title&gt;" in text
    assert "&lt;b&gt;chat&lt;/b&gt; &amp; bulk" in text
    assert text.count("<svg") == (1 if several else 2)
    assert '<p class="good">on time</p>' in text
    assert '<p class="bad">late</p>' in text
    assert "95.0 (90.0-100.0)" in text
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert "http://x" in text


@pytest.mark.parametrize(
    ("text", "found"),
    [("63", [63.0]), ("40,50.5", [40.0, 50.5]), ("40:60:10", [40.0, 50.0, 60.0]), ("5:6:4", [5.0])],
)
def test_rates_are_read(text, found):
    assert rates(text) == pytest.approx(found)


@pytest.mark.parametrize(
    "text",
    ["", "many", "0", "-5", "inf", "nan", "5:1:1", "1:5:0", "1:5", "1:2:3:4", "1:1e9:1", "1:2,3:4"],
)
def test_what_is_no_rate_is_refused_with_what_would_be(text):
    with pytest.raises(ValueError, match="is no rate; 63, 40,50,60 or 40:80:10 would be"):
        rates(text)
