"""Grids of runs."""

from router.measure.outcome import Fate
from router.simulation.contenders import CONTENDERS
from router.simulation.run import Grid, run_once, sweep
from router.workload.settings import Traffic, Workload
from tests.router.simulation.worlds import fleet, pool

CHAT = Traffic(name="chat", rate=20.0, prompt="exp(200)", output="exp(50)")
WORKLOAD = Workload(duration_s=20.0, warm_up_s=2.0, traffic=(CHAT,))
CHOSEN = [CONTENDERS["headway"], CONTENDERS["random"]]


def test_a_grid_runs_every_contender_at_every_rate_with_every_seed():
    grid = Grid(fleet(pool(count=2)), CHOSEN, WORKLOAD, [10.0, 20.0], [1, 2])

    runs = list(sweep(grid))

    assert len(runs) == grid.runs == 8
    assert len({(run.contender, run.rate, run.seed) for run in runs}) == 8
    by_rate = {run.rate: run.tally.all.offered for run in runs if run.seed == 1}
    assert by_rate[20.0] > 1.5 * by_rate[10.0]


def test_all_contenders_are_offered_the_same_requests():
    grid = Grid(fleet(pool(count=2)), CHOSEN, WORKLOAD, [20.0], [5])

    first, second = (run.tally.all for run in sweep(grid))

    assert (first.offered, first.prompt_tokens) == (second.offered, second.prompt_tokens)


def test_who_watches_is_told_how_far_it_is():
    told: list[float] = []

    tally, _ = run_once(fleet(pool(count=2)), CHOSEN[0], WORKLOAD, seed=1, seen=told.append)

    assert len(told) == tally.offered // 256
    assert told == sorted(told)


def test_a_light_load_is_served_whole():
    tally, observed = run_once(fleet(pool(count=2)), CHOSEN[0], WORKLOAD, seed=1)

    assert tally.all.fates == {Fate.SERVED: tally.all.offered}
    assert tally.all.attainment == 1.0
    assert observed.sweeps >= 80
