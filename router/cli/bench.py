"""`headway bench`: put load on a router and measure."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from router.bench.drive import MOST_LAG_S
from router.bench.question import Target, target
from router.bench.run import Plan, Run, measure
from router.cli.load_options import (
    add_load_arguments,
    add_report_arguments,
    as_json,
    check_report_arguments,
    workload_of,
    write_files,
)
from router.document import ConfigError
from router.measure.distribution import Distribution
from router.report import summary
from router.report.charts import ChartsMissing
from router.report.rates import rates
from router.report.summary import Entry
from router.report.table import console, highest, milliseconds, table
from router.workload.load import WORKLOAD
from router.workload.rows import TraceError
from router.workload.stream import nominal_rate

TITLE: Final = "Measured over sockets"
EXAMPLE: Final = """\
example:
  headway bench http://127.0.0.1:8080 --model llama-3.1-8b --rate 13 --seconds 60
      chat and summaries against a router, at times of their own
  headway bench router=http://127.0.0.1:8080 nginx=http://127.0.0.1:8090 --model llama-3.1-8b \\
      --rate 13 --seeds 3 --html report.html
      the same requests to each, a page that compares them

Requests are sent when they are due, whatever became of those before (open loop). A request says
its class and its targets in headers. Exits with 1 where the load generator itself was late (99th
percentile above 5 ms): then it has measured itself.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("targets", nargs="+", metavar="[NAME=]URL", help="what to measure")
    parser.add_argument("--model", default="model", help="the model to ask for")
    add_load_arguments(parser)
    parser.add_argument(
        "--timeout", type=float, default=120.0, help="when an answer is given up, s"
    )
    parser.add_argument(
        "--natural",
        action="store_true",
        help="let the model end its answers itself; else ignore_eos makes them as long as the"
        " workload says",
    )
    parser.add_argument(
        "--api-key-env", metavar="VARIABLE", help="the environment variable that holds the key"
    )
    add_report_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; returns the exit status."""
    try:
        check_report_arguments(args)
        plan = _plan(args)
        runs = _measure(plan)
    except (ConfigError, TraceError, ChartsMissing, ValueError) as error:
        sentences = error.sentences() if isinstance(error, ConfigError) else [str(error)]
        sys.stderr.writelines(f"headway bench: {sentence}\n" for sentence in sentences)
        return 2
    found = document(plan, runs)
    verdicts = [_verdict(row) for row in found["rows"]]
    if args.json:
        sys.stdout.write(as_json(found))
    else:
        _show(found, verdicts)
    write_files(args, TITLE, found, verdicts)
    return 0 if all(valid for valid, _ in verdicts) else 1


def document(plan: Plan, runs: Sequence[Run]) -> dict[str, Any]:
    """Return everything as plain values."""
    together: dict[tuple[float, str], list[Run]] = {}
    for each in runs:
        together.setdefault((each.rate, each.target), []).append(each)
    entries = [
        Entry(name, rate, [each.tally for each in same], _generator(same))
        for (rate, name), same in together.items()
    ]
    rows = [summary.row(entry) for entry in entries]
    return {
        "targets": {each.name: each.url for each in plan.targets},
        "workload": WORKLOAD.write(plan.workload),
        "seeds": list(plan.seeds),
        "exact": plan.exact,
        "rows": rows,
        "differences": summary.differences(entries),
        "highest_rates": summary.highest_rates(rows) if len(plan.rates) > 1 else [],
    }


def _plan(args: argparse.Namespace) -> Plan:
    workload = workload_of(args)
    if workload.faults:
        raise ValueError(
            f"workload {args.workload!r} breaks engines, which only a simulation can; give another"
        )
    if not 0 < args.timeout < float("inf"):
        raise ValueError(f"--timeout must be more than 0 s, not {args.timeout:g}")
    return Plan(
        _targets(args),
        workload,
        [nominal_rate(workload)] if args.rate is None else rates(args.rate),
        range(args.seed, args.seed + args.seeds),
        args.timeout,
        not args.natural,
    )


def _targets(args: argparse.Namespace) -> list[Target]:
    api_key = None
    if args.api_key_env is not None:
        api_key = os.environ.get(args.api_key_env)
        if api_key is None:
            raise ValueError(f"--api-key-env: there is no variable {args.api_key_env!r}")
    found = [target(text, args.model, api_key) for text in args.targets]
    if len({each.name for each in found}) < len(found):
        raise ValueError(f"targets {', '.join(args.targets)}: give each a name of its own")
    return found


def _measure(plan: Plan) -> list[Run]:
    """Run everything, with a bar on standard error."""
    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} requests"),
        TimeElapsedColumn(),
    )
    per_rate = plan.workload.duration_s * len(plan.targets) * len(plan.seeds)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=sum(plan.rates) * per_rate)
        return list(measure(plan, lambda name: bar.update(task, description=name, advance=1)))


def _generator(runs: Sequence[Run]) -> dict[str, Any]:
    """Return how the load generator itself did."""
    lag = Distribution()
    troubles = Counter[str]()
    for each in runs:
        lag.merge(each.generator.lag)
        troubles.update(each.generator.troubles)
    return {
        "generator": {
            "valid": all(each.generator.valid for each in runs),
            "lag_s": summary.percentiles(lag),
            "connections": sum(each.generator.connections for each in runs),
            "troubles": dict(troubles.most_common()),
        }
    }


def _verdict(row: dict[str, Any]) -> tuple[bool, str]:
    """Say whether a row can be believed."""
    generator = row["generator"]
    late = milliseconds(generator["lag_s"]["p99"])
    where = f"{row['name']} at {row['rate']:g}/s"
    limit = milliseconds(MOST_LAG_S)
    if generator["valid"]:
        return True, f"{where}: requests left on time (99th percentile {late} ms late)"
    return False, f"{where}: not valid, requests left {late} ms late; up to {limit} ms is on time"


def _show(found: dict[str, Any], verdicts: list[tuple[bool, str]]) -> None:
    screen = console()
    screen.print(table(f"{TITLE}. {found['workload']['about']}", found["rows"]))
    if found["highest_rates"]:
        screen.print(highest(found["highest_rates"]))
    for valid, sentence in verdicts:
        screen.print(sentence, style="" if valid else "bold red", highlight=False)
    for row in found["rows"]:
        for trouble, times in row["generator"]["troubles"].items():
            screen.print(f"{row['name']}: {times} x {trouble}", highlight=False, markup=False)
