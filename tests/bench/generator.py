"""Hold `headway bench` to itself and to a public tool: `python -m tests.bench.generator`.

One emulated engine at a low load, a fresh one for each run. The same seed twice must find the same
medians within 3 %; AIPerf (NVIDIA), which runs between the two with prompts and answers of the same
lengths at the same constant rate, must find the median time to first token and per token within
5 %. Where AIPerf cannot be installed, that part is skipped and says so. Exits with 1 naming what
falls short.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from engines.launch.child import child, free_port
from router.workload.load import load_workload
from router.workload.stream import offers
from tests.bench import public_tool
from tests.bench.agreement import Figure, Gate, shortcomings
from tests.bench.public_tool import Medians, ToolFailed, ToolMissing

PROFILE: Final = "h100-70b-tp4"
MODEL: Final = "model"
RATE: Final = 4.0
PROMPT_TOKENS: Final = 1024
OUTPUT_TOKENS: Final = 64
SECONDS: Final = 30.0
QUICK_SECONDS: Final = 8.0
SEED: Final = 1
START_S: Final = 30.0
MOST_LAG_S: Final = 0.005
REPEAT_TOLERANCE: Final = 0.03
TOOL_TOLERANCE: Final = 0.05


def workload_text(seconds: float) -> str:
    """Return the workload document."""
    return f"""\
about = "Equal requests at equal distances."
duration_s = {seconds}
warm_up_s = 0

[[traffic]]
name = "equal"
rate = {RATE}
cv = 0
prompt = "fixed({PROMPT_TOKENS})"
output = "fixed({OUTPUT_TOKENS})"
"""


@contextmanager
def engine(folder: Path) -> Iterator[str]:
    """Run one engine for as long as the block lasts; yields its URL.

    Each run of a load generator has a fresh one: the second sends the prompts of the first, which
    would be in the prefix cache.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ["emulate", "--kind", "vllm", "--profile", PROFILE, "--model", MODEL]
    with child("router", [*arguments, "--port", str(port)], folder / "engine.log") as running:
        running.wait_until_ready(f"{url}/health", START_S)
        yield url
        running.must_run()


def headway_bench(url: str, workload: Path) -> dict[str, Any]:
    """Run the command; returns its only row. Raises `ToolFailed`."""
    command = [sys.executable, "-m", "router", "bench", url, "--model", MODEL]
    command += ["--workload", str(workload), "--seed", str(SEED), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 # ours
    if not done.stdout:
        raise ToolFailed(f"headway bench ended with {done.returncode}: {done.stderr.strip()}")
    row: dict[str, Any] = json.loads(done.stdout)["rows"][0]
    return row


def medians(row: dict[str, Any]) -> Medians:
    """Return what `headway bench` found; infinite where nothing was served."""
    values = [row["all"][name]["p50"] for name in ("first_token_s", "per_token_s")]
    return Medians(*(math.inf if value is None else value for value in values))


def gates(row: dict[str, Any]) -> tuple[Gate, ...]:
    """Return whether a run of `headway bench` can be believed."""
    lag_s = row["generator"]["lag_s"]["p99"]
    missing = row["all"]["offered"] - row["all"]["fates"].get("served", 0)
    return (
        Gate("p99 send lag, s", math.inf if lag_s is None else lag_s, MOST_LAG_S),
        Gate("requests not served", missing, 1),
    )


def figures(expected: Sequence[Medians], found: Medians, tolerance: float) -> tuple[Figure, ...]:
    """Return the comparison of one run with one or more others."""
    return tuple(
        Figure(
            f"{name} p50",
            tuple(getattr(each, field) for each in expected),
            getattr(found, field),
            tolerance,
            relative=True,
        )
        for name, field in (("ttft", "first_token_s"), ("tpot", "per_token_s"))
    )


def measured(seconds: float) -> dict[str, Any]:
    """Run everything; returns rows, comparisons, gates and, where the tool is missing, why."""
    command = skipped = tool = None
    try:
        command = public_tool.installed()
    except ToolMissing as error:
        skipped = str(error)
    with tempfile.TemporaryDirectory(prefix="headway-") as name:
        workload = Path(name) / "equal.toml"
        workload.write_text(workload_text(seconds))
        with engine(Path(name)) as url:
            first = headway_bench(url, workload)
        if command is not None:
            sent = list(offers(load_workload(str(workload)), SEED))
            with engine(Path(name)) as url:
                tool = public_tool.run(command, url, MODEL, sent, RATE)
        with engine(Path(name)) as url:
            second = headway_bench(url, workload)
    runs = [medians(first), medians(second)]
    return {
        "runs": runs,
        "tool": tool,
        "skipped": skipped,
        "gates": (*gates(first), *gates(second)),
        "repeat": figures(runs[:1], runs[1], REPEAT_TOLERANCE),
        "agreement": figures(runs, tool, TOOL_TOLERANCE) if tool else (),
    }


def short(found: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that falls short."""
    return [
        *shortcomings("second run against the first", found["gates"], found["repeat"]),
        *shortcomings(f"{public_tool.NAME} against both runs", (), found["agreement"]),
    ]


def lines(found: dict[str, Any]) -> list[str]:
    """Return the figures for people."""
    rows = [("headway bench", found["runs"][0]), ("again, same seed", found["runs"][1])]
    if found["tool"] is not None:
        rows.insert(1, (public_tool.REQUIREMENT, found["tool"]))
    told = [f"{'':20}{'TTFT p50 ms':>14}{'TPOT p50 ms':>14}"]
    told += [
        f"{name:20}{1000 * run.first_token_s:14.2f}{1000 * run.per_token_s:14.2f}"
        for name, run in rows
    ]
    for name in ("repeat", "agreement"):
        errors = [f"{each.name} {each.error:+.1%}" for each in found[name]]
        if errors:
            told.append(f"{name}: {', '.join(errors)}; up to {found[name][0].tolerance:.0%} holds")
    if found["skipped"] is not None:
        told.append(f"skipped: no {public_tool.NAME}: {found['skipped']}")
    return told


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; 1 where something falls short."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs: a look, no figure")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    try:
        found = measured(QUICK_SECONDS if options.quick else SECONDS)
    except ToolFailed as error:
        sys.stdout.write(f"short: {error}\n")
        return 1
    sentences = short(found)
    if options.json:
        plain = {key: _plain(value) for key, value in found.items()} | {"short": sentences}
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
    else:
        told = [*lines(found), *(f"short: {sentence}" for sentence in sentences)]
        sys.stdout.writelines(f"{line}\n" for line in told)
    return 1 if sentences else 0


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [asdict(each) for each in value]
    return asdict(value) if isinstance(value, Medians) else value


if __name__ == "__main__":
    sys.exit(main())
