"""The routing benchmark's own arithmetic: bounds, searches, callers that come back, prompts."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from copy import copy, deepcopy
from dataclasses import replace
from itertools import islice, pairwise
from json import dumps, loads
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.facts import SlaClass
from router.measure.outcome import Fate, Outcome
from router.measure.tally import Tally
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import load_fleet
from router.workload.offers import Offer
from router.workload.settings import Traffic, Workload
from tests.bench.markers import NoMarkers
from tests.bench.routing.__main__ import LINES, Unusable, chosen, main, numbers
from tests.bench.routing.ablation import ablation_section
from tests.bench.routing.conversations import MOST_TOKENS, caching, conversations
from tests.bench.routing.decision_cost import decision_section
from tests.bench.routing.extent import QUICK
from tests.bench.routing.fleets import VLLM, pools_of, told_class, with_prior
from tests.bench.routing.frontier import Search, fewest_engines, highest_rates, ladder
from tests.bench.routing.mixes import chat, mix_shift, overload, tenants, w1
from tests.bench.routing.overload import overload_section
from tests.bench.routing.report import BEGIN, END, document, embedded, markdown, terminal
from tests.bench.routing.returning import MOST_RETURNS, Returning
from tests.bench.routing.runs import Job, Runner, Seen, all_hold, run
from tests.bench.routing.sections import Section, Sense, Verdict
from tests.bench.routing.w1 import w1_section

FLEET = load_fleet("h100-8b")


def offer(number: int, at_s: float) -> Offer:
    return Offer(number, at_s, "chat", SlaClass.INTERACTIVE, 100, 10, 20)


def refused(asked: Offer, back_s: float | None) -> Outcome:
    return Outcome(asked, Fate.REFUSED, total_s=0.5, retry_after_s=back_s)


def runner(pool: Executor) -> Runner:
    return Runner(pool, lambda _words: None)


# Bounds


@pytest.mark.parametrize(
    ("measured", "sense", "held"),
    [
        (1.5, Sense.AT_LEAST, True),
        (1.4, Sense.AT_LEAST, False),
        (1.5, Sense.AT_MOST, True),
        (1.6, Sense.AT_MOST, False),
        (None, Sense.AT_MOST, False),
    ],
)
def test_a_bound_is_kept_up_to_and_with_itself_and_never_by_what_was_not_measured(
    measured, sense, held
):
    assert Verdict("what", measured, sense, 1.5).held is held


def test_a_verdict_says_what_was_measured_and_what_the_bound_is():
    verdict = Verdict("in time", 0.985, Sense.AT_LEAST, 0.99, "%")
    assert verdict.sentence() == "in time: 98.50 %, at least 99.00 %"
    unmeasured = Verdict("ratio", None, Sense.AT_LEAST, 1.5, "times")
    assert unmeasured.sentence() == "ratio: not measured, at least 1.5 times"


# Callers that come back


def test_a_refused_caller_comes_back_when_it_was_told_to():
    stream = Returning(iter([offer(0, 0.0), offer(1, 1.0), offer(2, 9.0)]), comes_back=True)
    first = next(stream)
    stream.learn(refused(first, 3.0))
    rest = list(stream)
    assert [each.at_s for each in rest] == [1.0, 3.5, 9.0]
    assert [stream.is_return(refused(each, None)) for each in rest] == [False, True, False]


def test_a_caller_that_is_told_nothing_or_was_served_does_not_come_back():
    stream = Returning(iter([offer(0, 0.0), offer(1, 1.0), offer(2, 9.0)]), comes_back=True)
    stream.learn(refused(next(stream), None))
    stream.learn(Outcome(next(stream), Fate.SERVED, retry_after_s=1.0))
    assert [each.number for each in stream] == [2]


def test_a_caller_gives_up_after_a_few_returns():
    stream = Returning(iter(offer(n, float(n)) for n in range(100)), comes_back=True)
    returns = 0
    for each in stream:
        returns += stream.is_return(refused(each, None))
        if each.number == 0 or stream.is_return(refused(each, None)):
            stream.learn(refused(each, 2.0))
    assert returns == MOST_RETURNS


@given(
    st.lists(st.floats(0.0, 50.0), min_size=2, max_size=30),
    st.lists(st.floats(0.0, 5.0), min_size=1, max_size=30),
)
def test_requests_and_returns_come_in_order_of_time(times: list[float], backs: list[float]):
    asked = [offer(number, at_s) for number, at_s in enumerate(sorted(times))]
    stream = Returning(iter(asked), comes_back=True)
    seen = []
    for number, each in enumerate(islice(stream, 500)):
        seen.append(each.at_s)
        stream.learn(refused(each, backs[number % len(backs)]))
    assert all(one <= other for one, other in pairwise(seen))


# Searches


def pair(step, seed) -> Any:
    """Stands for a job, and for what comes of it."""
    return step, seed


class FakeRunner(Runner):
    """Answers each job with its seed's luck and its rate, no simulation."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def runs(self, jobs, what) -> list[Seen]:
        listed = list(jobs)
        self.asked += listed
        return listed


@given(st.floats(0.5, 400.0), st.sampled_from([(1,), (1, 2, 3)]))
def test_the_highest_rate_is_the_last_rung_that_holds(most: float, seeds: Sequence[int]):
    def holds(seen: Any) -> bool:
        return all(rate <= most for rate, _ in seen)

    search = Search(FakeRunner(), holds, seeds, "")
    found = highest_rates(search, {"a": pair}, 1.05)["a"]
    assert found == max((rate for rate in ladder(1.05) if rate <= most), default=None)


@given(st.integers(1, 20))
def test_the_fewest_engines_are_the_least_number_that_holds(least: int):
    def enough(seen: Any) -> bool:
        return bool(seen[0][0] >= least)

    search = Search(FakeRunner(), enough, (1,), "")
    found = fewest_engines(search, {"a": pair}, 12)["a"]
    assert found == (least if least <= 12 else None)


def test_a_rate_that_fails_with_the_first_seed_is_not_run_with_the_others():
    fake = FakeRunner()
    highest_rates(
        Search(fake, lambda _seen: False, (1, 2, 3), ""),
        {"a": pair},
        1.5,
    )
    assert {seed for _, seed in fake.asked} == {1}


# Workloads


def rate_of(traffic: Traffic) -> float:
    return traffic.rate or 0.0


def test_a_mix_that_shifts_keeps_its_total_rate():
    first, second = mix_shift(50.0, 100.0).traffic
    assert rate_of(first) + rate_of(second) == pytest.approx(50.0)
    changed = [rate_of(each) * each.changes[0].times for each in (first, second)]
    assert changed == pytest.approx([15.0, 35.0])


def test_an_overload_is_a_share_of_capacity_and_ends():
    traffic = overload(100.0, 0.8, 1.2, 60.0, 120.0, 190.0).traffic
    assert sum(rate_of(each) for each in traffic) == pytest.approx(80.0)
    over, back = traffic[0].changes
    assert over.times * 80.0 == pytest.approx(120.0)
    assert (over.at_s, back.at_s, back.times) == (60.0, 120.0, 1.0)


def test_a_flood_changes_nothing_of_what_the_others_send():
    calm, flooded = tenants(70.0, 10.0, 1.0), tenants(70.0, 10.0, 10.0)
    assert calm.traffic[0] == flooded.traffic[0]
    assert rate_of(flooded.traffic[1]) == pytest.approx(10 * rate_of(calm.traffic[1]))


def test_each_turn_of_a_conversation_begins_with_the_turn_before():
    workload = Workload(
        duration_s=200.0, warm_up_s=1.0, traffic=(chat(5.0, cv=1.0, name="conversations"),)
    )
    turns = list(conversations(workload, 1))
    assert len(turns) == pytest.approx(1000, rel=0.35)
    assert [each.number for each in turns] == list(range(len(turns)))
    assert all(one.at_s <= other.at_s for one, other in pairwise(turns))
    latest: dict[str | None, Offer] = {}
    for turn in turns:
        before = latest.get(turn.session)
        if before is not None:
            assert turn.prefix[: len(before.prefix)] == before.prefix
            assert turn.prompt_tokens > before.prompt_tokens + before.output_tokens
        assert len(turn.prefix) == turn.prompt_tokens // 512
        assert turn.prompt_tokens <= MOST_TOKENS
        latest[turn.session] = turn
    histories = [turn.prefix[1:] for turn in latest.values()]
    blocks = [block for history in histories for block in history]
    assert len(blocks) == len(set(blocks)), "no two conversations share more than their assistant"


# Runs


def job(**changes) -> Job:
    made = Job(FLEET, CONTENDERS["headway"], replace(w1(20.0, 30.0), warm_up_s=5.0), 1)
    return replace(made, **changes)


def test_a_run_counts_what_came_between_warm_up_and_cool_down():
    seen, whole = run(job(cool_down_s=10.0)), run(job())
    assert seen.counted_s == 15.0
    assert seen.attainment(SlaClass.INTERACTIVE) > 0.99
    windows = [seen.between(SlaClass.INTERACTIVE, at, at + 10.0).offered for at in (0, 10, 20)]
    assert all(windows)
    assert seen.tally.all.offered < whole.tally.all.offered
    assert seen.good_tokens_per_s(SlaClass.BULK) > 0.0
    assert not seen.predictions
    assert all_hold([seen])


def test_predictions_are_kept_with_what_came_true_and_change_nothing():
    seen, unwatched = run(job(watches=True)), run(job())
    assert len(seen.predictions) == sum(
        each.between(sla_class, 0.0, inf).offered for each in (unwatched,) for sla_class in SlaClass
    )
    assert all(each.seen_s > 0.0 and each.predicted_s > 0.0 for each in seen.predictions)
    assert {each.number for each in seen.predictions} >= {0, 1, 2}
    assert seen.tally.all.good == unwatched.tally.all.good


def test_conversations_hit_the_caches_of_engines_that_keep_them():
    workload = Workload(
        duration_s=40.0, warm_up_s=1.0, traffic=(chat(10.0, cv=1.0, name="conversations"),)
    )
    fleet = caching(load_fleet("h100-8b-vllm"))
    seen = run(job(fleet=fleet, workload=workload, source=conversations))
    assert 0.2 < seen.observed.cached_tokens / seen.prompt_tokens < 1.0


def test_jobs_come_back_in_their_order():
    with ThreadPoolExecutor(2) as pool:
        assert runner(pool).each(lambda number: number + 1, range(5), "counting") == [1, 2, 3, 4, 5]


def test_a_pool_of_no_engine_is_left_out():
    assert {member.plan.pool for member in pools_of(VLLM, VLLM, (0, 2)).members} == {"throughput"}


def test_a_wrong_start_changes_every_figure_that_predictions_start_from():
    wrong = with_prior(CONTENDERS["headway"], 3.0).policy.latency
    right = CONTENDERS["headway"].policy.latency
    assert wrong.step_s == 3 * right.step_s
    assert wrong.prefill_s_per_token == 3 * right.prefill_s_per_token
    assert told_class("least_busy").tells_class


# Sections


class CannedRunner(Runner):
    """Answers every job, of whatever kind, with one and the same small run."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.jobs: list[Job] = []

    def runs(self, jobs, what) -> list[Seen]:
        listed = list(jobs)
        self.jobs += listed
        return [self.seen] * len(listed)


@pytest.fixture(scope="module")
def canned() -> Seen:
    workload = tenants(15.0, 40.0, 2.0)
    return run(job(workload=workload, watches=True))


@pytest.mark.parametrize("make", [each for line in (1, 2, 3, 4, 5, 6) for each in LINES[line]])
def test_every_section_is_a_whole_table_with_bounds_and_pays_every_contender_alike(make, canned):
    fake = CannedRunner(canned)
    section = make(fake, QUICK)
    assert section.rows
    assert {len(row) for row in section.rows} == {len(section.headings)}
    assert section.verdicts
    assert all(isinstance(each.sentence(), str) for each in section.verdicts)
    dumps(document([section], [1]))
    assert fake.jobs
    assert {asked.seed for asked in fake.jobs} == {1}
    assert terminal(section).row_count == len(section.rows)


def test_where_all_do_equally_well_nothing_is_claimed(canned):
    w1_bounds = w1_section(CannedRunner(canned), QUICK).verdicts
    ratios = [each.measured for each in w1_bounds if each.unit == "times"]
    assert ratios == [1.0] * len(ratios)
    parts = ablation_section(CannedRunner(canned), QUICK).verdicts
    assert not any(each.held for each in parts)


def test_of_a_fleet_that_can_do_nothing_no_capacity_is_made_up(canned):
    nothing = copy(canned)
    nothing.tally = Tally(1.0, 0.0)
    nothing.tally.classes[SlaClass.BULK].offered = 1
    (verdict,) = overload_section(CannedRunner(nothing), QUICK).verdicts
    assert verdict.measured is None


def test_a_queue_of_bulk_that_grows_is_no_capacity(canned):
    late = deepcopy(canned)
    for _ in range(10_000):
        late.tally.classes[SlaClass.BULK].first_token.add(11.0)
    assert not all_hold([late])


def test_decisions_are_timed_for_each_class_and_size_of_fleet():
    with ThreadPoolExecutor(1) as pool:
        section = decision_section(runner(pool), replace(QUICK, decision_runs=1))
    assert len(section.rows) == len(section.verdicts) == 6
    assert all(each.measured for each in section.verdicts)


# The command


def test_all_lines_are_run_unless_some_are_named():
    assert len(chosen(None)) == sum(map(len, LINES.values()))
    assert chosen("7") == list(LINES[7])


@pytest.mark.parametrize("only", ["9", "one"])
def test_a_line_that_is_none_is_refused_by_name(only: str):
    with pytest.raises(Unusable, match=only):
        chosen(only)


def test_numbers_are_each_taken_once():
    assert numbers("--seeds", "3,1,3") == [3, 1]


def section(measured: float) -> Section:
    return Section(
        1,
        "w1",
        "A title",
        ("policy", "rate"),
        [["headway", "90"]],
        "A note.",
        [Verdict("ratio", measured, Sense.AT_LEAST, 1.5, "times")],
    )


def test_a_readme_has_the_tables_and_what_falls_short():
    text = markdown(document([section(1.2)], [1]))
    assert "| headway | 90 |" in text
    assert "Falls short: ratio: 1.2 times, at least 1.5 times." in text
    assert "Falls short" not in markdown(document([section(1.6)], [1]))


def test_tables_go_between_the_markers_and_nowhere_else():
    whole = embedded(f"before\n{BEGIN}\nold\n{END}\nafter", "new\n", "README.md")
    assert whole == f"before\n{BEGIN}\nnew\n{END}\nafter"
    with pytest.raises(NoMarkers, match=r"README\.md"):
        embedded("no markers", "new\n", "README.md")


@pytest.mark.parametrize(("measured", "status"), [(1.2, 1), (1.6, 0)])
def test_the_status_says_whether_something_falls_short(tmp_path, measured, status, capsys):
    figures, readme = tmp_path / "figures.json", tmp_path / "README.md"
    figures.write_text(dumps(document([section(measured)], [1])))
    readme.write_text(f"{BEGIN}\n{END}\n")
    arguments = ["--from", str(figures), "--write-readme", str(readme)]
    assert main([*arguments, "--json", str(tmp_path / "again.json")]) == status
    assert ("falls short" in capsys.readouterr().out) is bool(status)
    assert "headway" in readme.read_text()
    assert (tmp_path / "again.json").exists()


def test_a_line_can_be_run_by_itself_with_seeds_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(LINES, 1, (lambda _runner, extent: section(len(extent.seeds)),))
    figures = tmp_path / "figures.json"
    assert main(["--quick", "--only", "1", "--seeds", "4,5", "--json", str(figures)]) == 0
    assert loads(figures.read_text())["seeds"] == [4, 5]
    assert "A title" in capsys.readouterr().out


def test_tables_that_are_not_for_the_readme_stay_out_of_it():
    assert "headway" not in markdown(document([replace(section(1.6), name="decision")], [1]))


def test_what_cannot_be_done_has_a_status_of_its_own(tmp_path):
    assert main(["--from", str(tmp_path / "none.json")]) == 2
