"""Grids of runs on several processes."""

from pathlib import Path

import pytest

from router.simulation.contenders import CONTENDERS
from router.simulation.parallel import sweep_on
from router.simulation.run import Grid, sweep
from router.workload.rows import TraceError
from router.workload.settings import Traffic, Workload
from tests.router.simulation.worlds import fleet, pool

pytestmark = pytest.mark.timeout(60)  # processes start slowly on a busy machine
CHAT = Traffic(name="chat", rate=20.0, prompt="exp(200)", output="exp(50)")
WORKLOAD = Workload(duration_s=5.0, warm_up_s=1.0, traffic=(CHAT,))
CHOSEN = [CONTENDERS["headway"], CONTENDERS["random"]]


def told(runs):
    return [
        (run.contender, run.rate, run.seed, run.observed, run.tally.all.first_token.buckets)
        for run in runs
    ]


def grid(*seeds: int, of: Workload = WORKLOAD) -> Grid:
    return Grid(fleet(pool(count=2)), CHOSEN, of, [20.0], list(seeds))


def test_two_processes_find_what_one_finds_in_the_same_order():
    seen: list[str] = []

    runs = list(sweep_on(2, grid(1, 2), lambda name, _at_s: seen.append(name)))

    assert told(runs) == told(sweep(grid(1, 2)))
    assert seen == [run.contender for run in runs]


def test_a_single_run_needs_no_second_process():
    one = Grid(fleet(pool()), CHOSEN[:1], WORKLOAD, [20.0], [1])

    assert told(sweep_on(8, one)) == told(sweep(one))


def test_what_is_wrong_with_a_trace_is_told_by_whichever_process_finds_it(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,x,1\n")
    wrong = Workload(
        duration_s=5.0,
        warm_up_s=1.0,
        traffic=(Traffic(name="chat", rate=20.0, lengths=str(path)),),
    )

    with pytest.raises(TraceError, match=r"t\.csv, line 3: column 'prompt_tokens' is 'x'"):
        list(sweep_on(2, grid(1, of=wrong)))
