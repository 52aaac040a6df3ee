"""Options that commands share which offer a workload."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson

from router.report import charts
from router.report.page import page
from router.workload.load import built_in_names, load_workload
from router.workload.settings import Workload

MOST_CV: Final = 20.0


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is offered."""
    parser.add_argument(
        "--workload", default="mixed", help=f"{', '.join(built_in_names())} or a TOML file"
    )
    parser.add_argument(
        "--rate", help="requests a second, all together: 63, or from:to:step; else the workload's"
    )
    parser.add_argument("--cv", type=float, help="burstiness of all traffic drawn by chance")
    parser.add_argument("--seconds", type=float, help="how long requests come, instead")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each, 1 by default")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what becomes of the results."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--html", type=Path, help="write a page with everything inside")
    parser.add_argument(
        "--picture",
        type=Path,
        action="append",
        default=[],
        help="draw into a file, .svg or .png: attainment over the rate, or times to first token"
        " where there is one rate",
    )


def check_report_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError or `ChartsMissing` before any work is done that could not be shown."""
    for path in args.picture:
        charts.fit_suffix(path)
    for path in (*args.picture, *([args.html] if args.html else [])):
        charts.require_charts()
        if not path.absolute().parent.is_dir():
            raise ValueError(f"{str(path)!r}: there is no such folder to write it in")


def workload_of(args: argparse.Namespace) -> Workload:
    """Return the workload that is asked for; raises `ConfigError` or ValueError."""
    workload = load_workload(args.workload)
    if args.seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, not {args.seeds}")
    if args.cv is not None:
        if not 0 <= args.cv <= MOST_CV:
            raise ValueError(f"--cv must be 0 to {MOST_CV:g}, not {args.cv:g}")
        traffic = tuple(replace(each, cv=args.cv) for each in workload.traffic)
        workload = replace(workload, traffic=traffic)
    if args.seconds is not None:
        if not 0 < args.seconds < float("inf"):
            raise ValueError(f"--seconds must be more than 0, not {args.seconds:g}")
        share = min(1.0, args.seconds / workload.duration_s)
        workload = replace(workload, duration_s=args.seconds, warm_up_s=workload.warm_up_s * share)
    return workload


def write_files(
    args: argparse.Namespace,
    title: str,
    document: dict[str, Any],
    verdicts: list[tuple[bool, str]],
) -> None:
    """Write the files that are asked for."""
    rows = document["rows"]
    for path in args.picture:
        several = len({row["rate"] for row in rows}) > 1
        draw = charts.attainment_over_rate if several else charts.first_token_curves
        charts.save(draw(rows), path)
    if args.html:
        args.html.write_bytes(page(title, document, verdicts))


def as_json(document: dict[str, Any]) -> str:
    """Return a document as JSON for people and scripts."""
    # Keys are members of StrEnums, among others.
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(document, option=options).decode() + "\n"
