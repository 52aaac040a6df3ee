"""`headway simulate`: try policies on a trace, in virtual time."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from router.cli.load_options import (
    add_load_arguments,
    add_report_arguments,
    as_json,
    check_report_arguments,
    workload_of,
    write_files,
)
from router.document import ConfigError
from router.report import summary
from router.report.charts import ChartsMissing
from router.report.rates import rates
from router.report.summary import Entry
from router.report.table import console, highest, table
from router.simulation import fleet as fleets
from router.simulation.conditions import USUAL, Conditions
from router.simulation.contenders import CONTENDERS, Contender, contender
from router.simulation.fleet import load_fleet
from router.simulation.parallel import sweep_on
from router.simulation.run import Grid, Run
from router.workload.load import WORKLOAD
from router.workload.rows import TraceError
from router.workload.stream import nominal_rate

USUAL_POLICIES: Final = "headway,least_busy,round_robin"
EXAMPLE: Final = """\
example:
  headway simulate
      the router's defaults beside two plain load balancers: six H100, chat and summaries
  headway simulate --fleet h100-8b-classic-tgi --policy headway,least_busy,round_robin,hard_split \\
      --rate 42:77:7 --seeds 3 --picture attainment.svg
      attainment over the rate, the same requests for each policy, with 95 % intervals
      (--jobs 0 uses every processor)
  headway simulate --policy headway.toml,headway --workload mine.toml --fleet mine-too.toml --json

Attainment is the share of all offered requests whose answer came whole and met its targets.
A refused request counts as missed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--fleet", default="h100-8b", help=f"{', '.join(fleets.built_in_names())} or a TOML file"
    )
    parser.add_argument(
        "--policy",
        default=USUAL_POLICIES,
        help=f"several, with commas: {', '.join(CONTENDERS)}, or a TOML file with [policy];"
        f" {USUAL_POLICIES} by default",
    )
    add_load_arguments(parser)
    parser.add_argument(
        "--scrape", type=float, default=USUAL.scrape_s, help="interval between gauges, s"
    )
    parser.add_argument(
        "--replicas",
        type=int,
        default=USUAL.replicas,
        help="routers that share the fleet and tell each other what they have; 1 by default",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="runs at a time, each on a processor of its own; 1 by default, 0 for all processors."
        " The results are the same",
    )
    add_report_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Simulate; returns the exit status."""
    try:
        check_report_arguments(args)
        grid = _grid(args)
        found = document(grid, _simulate(grid, _jobs(args.jobs)))
    except (ConfigError, TraceError, ChartsMissing, ValueError) as error:
        sentences = error.sentences() if isinstance(error, ConfigError) else [str(error)]
        sys.stderr.writelines(f"headway simulate: {sentence}\n" for sentence in sentences)
        return 2
    if args.json:
        sys.stdout.write(as_json(found))
    else:
        _show(found)
    write_files(args, "Policies in simulation", found, [])
    return 0


def _grid(args: argparse.Namespace) -> Grid:
    """Return what the command line asks for; raises where it makes no sense."""
    fleet, workload = load_fleet(args.fleet), workload_of(args)
    if not args.scrape > 0:
        raise ValueError(f"--scrape must be more than 0 s, not {args.scrape:g}")
    if args.replicas < 1:
        raise ValueError(f"--replicas must be 1 or more, not {args.replicas}")
    ids = [member.plan.id for member in fleet.members]
    for fault in workload.faults:
        if fault.endpoint not in ids:
            raise ValueError(
                f"the workload breaks endpoint {fault.endpoint!r}, which the fleet has not;"
                f" it has {', '.join(ids)}"
            )
    return Grid(
        fleet,
        _contenders(args.policy),
        workload,
        [nominal_rate(workload)] if args.rate is None else rates(args.rate),
        range(args.seed, args.seed + args.seeds),
        Conditions(scrape_s=args.scrape, replicas=args.replicas),
    )


def _jobs(jobs: int) -> int:
    if jobs < 0:
        raise ValueError(f"--jobs must be 1 or more, or 0 for all processors, not {jobs}")
    return jobs or len(os.sched_getaffinity(0))


def _simulate(grid: Grid, jobs: int) -> list[Run]:
    """Run everything, with a bar on standard error."""
    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    duration_s = grid.workload.duration_s
    runs: list[Run] = []
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=grid.runs * duration_s)

        def seen(name: str, at_s: float) -> None:
            bar.update(task, description=name, completed=len(runs) * duration_s + at_s)

        runs.extend(sweep_on(jobs, grid, seen))
    return runs


def document(grid: Grid, runs: Sequence[Run]) -> dict[str, Any]:
    """Return everything as plain values; the same command, the same values."""
    entries = _entries(runs)
    rows = [summary.row(entry, grid.fleet.usd_per_hour or None) for entry in entries]
    return {
        "fleet": fleets.described(grid.fleet),
        "workload": WORKLOAD.write(grid.workload),
        "seeds": list(grid.seeds),
        "policies": {each.name: each.about for each in grid.contenders},
        "rows": rows,
        "differences": summary.differences(entries),
        "highest_rates": summary.highest_rates(rows) if len(grid.rates) > 1 else [],
    }


def _contenders(names: str) -> list[Contender]:
    found = [contender(name.strip()) for name in names.split(",") if name.strip()]
    if len({each.name for each in found}) < len(found) or not found:
        raise ValueError(f"--policy {names!r}: give one or more, each once")
    return found


def _entries(runs: Sequence[Run]) -> list[Entry]:
    """Bring the seeds of each contender and rate together."""
    together: dict[tuple[float, str], list[Run]] = {}
    for each in runs:
        together.setdefault((each.rate, each.contender), []).append(each)
    return [
        Entry(name, rate, [each.tally for each in same], _extra(same))
        for (rate, name), same in together.items()
    ]


def _extra(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what only a simulation sees."""
    sweeps = sum(each.observed.sweeps for each in runs)
    in_flight: dict[str, float] = {}
    for each in runs:
        for endpoint, count in each.observed.in_flight.items():
            in_flight[endpoint] = in_flight.get(endpoint, 0.0) + count / sweeps
    return {
        "mean_in_flight": in_flight,
        "mean_waiting": sum(each.observed.waiting for each in runs) / sweeps,
        "preemptions": sum(each.observed.preemptions for each in runs),
    }


def _show(found: dict[str, Any]) -> None:
    screen = console()
    workload, seeds = found["workload"], found["seeds"]
    title = workload["about"] or "Simulated"
    runs = "" if len(seeds) == 1 else f" {len(seeds)} seeds; in brackets where the mean may lie."
    screen.print(table(title + runs, found["rows"]))
    if found["highest_rates"]:
        screen.print(highest(found["highest_rates"]))
