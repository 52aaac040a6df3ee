"""`headway simulate`: try policies on a trace, in virtual time."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from router.document import ConfigError
from router.report import charts, summary
from router.report.charts import ChartsMissing
from router.report.summary import Entry
from router.report.table import console, highest, table
from router.simulation import fleet as fleets
from router.simulation.contenders import CONTENDERS, Contender, contender
from router.simulation.fleet import load_fleet
from router.simulation.run import Grid, Run, sweep
from router.simulation.world import Pace
from router.workload import load as workloads
from router.workload.load import WORKLOAD, load_workload
from router.workload.rows import TraceError
from router.workload.settings import Workload
from router.workload.stream import nominal_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL_POLICIES: Final = "headway,least_busy,round_robin"
MOST_RATES: Final = 100
EXAMPLE: Final = """\
example:
  headway simulate
      the router's defaults beside two plain load balancers: six H100, chat and summaries
  headway simulate --fleet h100-8b-classic-tgi --policy headway,least_busy,round_robin,hard_split \\
      --rate 42:77:7 --seeds 3 --picture attainment.svg
      attainment over the rate, the same requests for each policy, with 95 % intervals
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
        "--workload",
        default="mixed",
        help=f"{', '.join(workloads.built_in_names())} or a TOML file",
    )
    parser.add_argument(
        "--policy",
        default=USUAL_POLICIES,
        help=f"several, with commas: {', '.join(CONTENDERS)}, or a TOML file with [policy];"
        f" {USUAL_POLICIES} by default",
    )
    parser.add_argument(
        "--rate", help="requests a second, all together: 63, or from:to:step; else the workload's"
    )
    parser.add_argument("--cv", type=float, help="burstiness of all traffic drawn by chance")
    parser.add_argument("--seconds", type=float, help="how long requests come, instead")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, 1 by default")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument(
        "--scrape", type=float, default=Pace().scrape_s, help="interval between gauges, s"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--picture",
        type=Path,
        action="append",
        default=[],
        help="draw into a file, .svg or .png: attainment over the rate, or times to first token"
        " where there is one rate",
    )


def run(args: argparse.Namespace) -> int:
    """Simulate; returns the exit status."""
    try:
        for path in args.picture:
            charts.fit_suffix(path)
            charts.require_charts()
        grid = _grid(args)
        found = document(grid, _simulate(grid))
    except (ConfigError, TraceError, ChartsMissing, ValueError) as error:
        sentences = error.sentences() if isinstance(error, ConfigError) else [str(error)]
        sys.stderr.writelines(f"headway simulate: {sentence}\n" for sentence in sentences)
        return 2
    if args.json:
        sys.stdout.buffer.write(
            orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
    else:
        _show(found)
    for path in args.picture:
        charts.save(_picture(found["rows"]), path)
    return 0


def _picture(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw what there is to see: a curve over the rate where there are several."""
    if len({row["rate"] for row in rows}) > 1:
        return charts.attainment_over_rate(rows)
    return charts.first_token_curves(rows)


def _grid(args: argparse.Namespace) -> Grid:
    """Return what the command line asks for; raises where it makes no sense."""
    fleet, workload = load_fleet(args.fleet), _workload(args)
    if args.seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, not {args.seeds}")
    if not args.scrape > 0:
        raise ValueError(f"--scrape must be more than 0 s, not {args.scrape:g}")
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
        Pace(scrape_s=args.scrape),
    )


def _simulate(grid: Grid) -> list[Run]:
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

        runs.extend(sweep(grid, seen))
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


def rates(text: str) -> list[float]:
    """Read `63`, `40,50` or `from:to:step`, the last included; raises ValueError."""
    try:
        numbers = [float(part) for part in text.replace(":", ",").split(",")]
    except ValueError:
        numbers = []
    if text.count(":") == 2:  # noqa: PLR2004 - from, to, step
        numbers = _steps(*numbers) if len(numbers) == 3 else []  # noqa: PLR2004 - the same
    elif ":" in text:
        numbers = []
    if not numbers or not all(0 < rate < float("inf") for rate in numbers):
        raise ValueError(
            f"--rate {text!r} is no rate; 63, 40,50,60 or 40:80:10 would be, {MOST_RATES} at most"
        )
    return numbers


def _steps(first: float, last: float, step: float) -> list[float]:
    """Return the numbers from first to last; none where there is no way or it is too long."""
    if not (step > 0 and first <= last and (last - first) / step < MOST_RATES):
        return []
    return [first + index * step for index in range(int((last - first) / step + 1e-9) + 1)]


def _contenders(names: str) -> list[Contender]:
    found = [contender(name.strip()) for name in names.split(",") if name.strip()]
    if len({each.name for each in found}) < len(found) or not found:
        raise ValueError(f"--policy {names!r}: give one or more, each once")
    return found


def _workload(args: argparse.Namespace) -> Workload:
    workload = load_workload(args.workload)
    if args.cv is not None:
        if not 0 <= args.cv <= 20:  # noqa: PLR2004 - as the document allows
            raise ValueError(f"--cv must be 0 to 20, not {args.cv:g}")
        traffic = tuple(replace(each, cv=args.cv) for each in workload.traffic)
        workload = replace(workload, traffic=traffic)
    if args.seconds is not None:
        if not 0 < args.seconds < float("inf"):
            raise ValueError(f"--seconds must be more than 0, not {args.seconds:g}")
        share = args.seconds / workload.duration_s
        workload = replace(
            workload, duration_s=args.seconds, warm_up_s=workload.warm_up_s * min(1.0, share)
        )
    return workload


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
