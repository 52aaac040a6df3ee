"""A grid of runs on several processes: the same runs in the same order as on one."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from router.simulation.run import Grid, Run, run_point, sweep


def sweep_on(
    jobs: int, grid: Grid, seen: Callable[[str, float], None] = lambda _name, _at_s: None
) -> Iterator[Run]:
    """Yield the runs of a grid, `jobs` at a time, at least 1; see `sweep`.

    On several processes `seen` is told of whole runs only. What is wrong in one is raised here.
    """
    jobs = min(jobs, grid.runs)
    if jobs == 1:
        yield from sweep(grid, seen)
        return
    # Spawned, not forked: a fork would copy the locks of whatever threads there are.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        for run in pool.map(
            run_point, *zip(*((grid, point) for point in grid.points), strict=True)
        ):
            yield run
            seen(run.contender, 0.0)
    finally:
        pool.shutdown(cancel_futures=True)
