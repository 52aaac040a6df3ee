"""Hold the emulated H100 against the measured one: `python -m tests.bench.calibration`.

Prints measured and emulated figures row by row and exits 1 naming those that fall short. A figure
holds where the median of several emulated runs is within 15 % (a median, a rate) or 35 % (a p99) of
the measured one. A measured figure is one run of 10-20 seconds: where it is further off, but within
the range that single emulated runs show, it is marked `~` and does not count as short. What is
known not to hold is listed with its reason in `KNOWN`.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median

from tests.bench.gpu_load import Figures, burst, closed, mixed, poisson, unloaded

DATA = Path(__file__).parent.parent / "data" / "gpu"
TOLERANCE = {"p50": 0.15, "p99": 0.35, "rate": 0.15}

_FIRST_SCENARIO = "the first scenario after the start: slower than 128 tokens on the same engine"
_TWICE = "128 tokens take 14.2 ms on one engine and 18.9 on the next: the model stands between"
_WORST_OF_FEW = "the worst of 12-17 requests, none of which met a late launch"
_ONE_EPISODE = "one episode in a run of 15 seconds: the run's maximum is the same figure"
_SECOND_WORST = "the second worst of 94; with priorities, which can only help, it measured 171.4 ms"
_COHORTS = (
    "clients whose answers end in the same step stay in step: how many there are is chaotic, and "
    "from 256 streams on the API server's backlog decides"
)
_SATURATED = (
    "at 41 requests/s the launches of prefill steps take all of the host's time; the real API "
    "server queues for 30 ms more than the model's"
)
_BIMODAL = (
    "half of the gaps are plain decode steps (17 ms) and half steps with prefill (60 ms): the "
    "median falls on one side or the other"
)
_SLOW_START = (
    "these two engines launched steps 10-30 % slower than A did; the same engine with equal "
    "priorities measured 42.0 ms"
)
_UNEXPLAINED = "not explained: the steps agree (rate, size, share with prefill), the wait does not"
KNOWN = {
    "unloaded A 16 ttft_p50": _FIRST_SCENARIO,
    "unloaded A 128 ttft_p50": _TWICE,
    "unloaded B2 128 ttft_p50": _TWICE,
    "unloaded A 128 ttft_p99": _WORST_OF_FEW,
    "unloaded A 1024 ttft_p99": _WORST_OF_FEW,
    "closed A 64 itl_p99": _COHORTS,
    "closed A 128 itl_p50": _COHORTS,
    "closed A 128 itl_p99": _COHORTS,
    "closed A 256 itl_p50": _COHORTS,
    "closed A 256 itl_p99": _COHORTS,
    "poisson A 40 ttft_p50": _SATURATED,
    "poisson A 40 itl_p50": _SATURATED,
    "poisson B 8 ttft_p99": _ONE_EPISODE,
    "mixed A 64 ttft_p50": _UNEXPLAINED,
    "mixed B2 0 ttft_p99": _SLOW_START,
    "mixed B2 16 ttft_p99": _SECOND_WORST,
    "mixed B2 64 itl_p50": _BIMODAL,
    "mixed B2 64 priority itl_p50": _BIMODAL,
    "mixed B2 16 priority ttft_p50": _SLOW_START,
    "mixed D 16 priority ttft_p50": _SLOW_START,
    "burst B2 ttft_p50": _UNEXPLAINED,
}


class Verdict(StrEnum):
    """How a figure compares."""

    HOLDS = " "
    SPREAD = "~"
    KNOWN = "k"
    SHORT = "!"


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario: its name, the measured figures, and how to emulate it once."""

    name: str
    measured: dict[str, float]
    emulate: Callable[[int], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of one row."""

    row: str
    figure: str
    measured: float
    emulated: float
    lowest: float
    highest: float

    @property
    def name(self) -> str:
        """The name that `KNOWN` uses."""
        return f"{self.row} {self.figure}"

    @property
    def error(self) -> float:
        """Relative error, measured as 1."""
        return self.emulated / self.measured - 1.0

    @property
    def verdict(self) -> Verdict:
        """Say whether it holds."""
        if abs(self.error) <= TOLERANCE[self.figure.rpartition("_")[2]]:
            return Verdict.HOLDS
        if self.lowest <= self.measured <= self.highest:
            return Verdict.SPREAD
        return Verdict.KNOWN if self.name in KNOWN else Verdict.SHORT


def measured() -> dict[tuple[str, str, str], dict[str, float]]:
    """Read the measured figures, by phase, scenario and kind of request."""
    with (DATA / "summary.csv").open() as file:
        return {
            (row["phase"], row["scenario"], row["kind"]): {
                "count": float(row["done"]),
                "ttft_p50": float(row["ttft_p50"]),
                "ttft_p99": float(row["ttft_p99"]),
                "itl_p50": float(row["itl_p50"]),
                "itl_p99": float(row["itl_p99"]),
                "output_rate": float(row["out_tok_s"]),
            }
            for row in csv.DictReader(file)
        }


def rows() -> Iterator[Row]:
    """Return every scenario that was measured and is held to."""
    figures = measured()
    yield from _unloaded_rows(figures)
    yield from _closed_rows(figures)
    yield from _poisson_rows(figures)
    yield from _mixed_rows(figures)
    yield from _burst_rows(figures)


Measured = dict[tuple[str, str, str], dict[str, float]]


_LATENCIES = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99")


def _latencies(run: Figures) -> dict[str, float]:
    return {name: getattr(run, name) for name in _LATENCIES}


def _only(figures: dict[str, float], *names: str) -> dict[str, float]:
    return {name: figures[name] for name in names}


def _unloaded_rows(figures: Measured) -> Iterator[Row]:
    lengths = {"A": (16, 128, 512, 1024, 2048, 4096, 8000), "B": (128, 512, 2048, 8000)}
    for engine, prompts in {**lengths, "B2": (128, 2048, 8000)}.items():
        phase = "A1" if engine == "A" else engine
        for prompt in prompts:
            facts = figures[phase, f"ttft_L{prompt}", "ttft"]
            names = ("ttft_p50", "ttft_p99")

            def emulate(
                seed: int, engine: str = engine, prompt: int = prompt, n: float = facts["count"]
            ) -> dict[str, float]:
                run = unloaded(engine, prompt, int(n), seed)
                return {"ttft_p50": run.ttft_p50, "ttft_p99": run.ttft_p99}

            yield Row(f"unloaded {engine} {prompt}", _only(facts, *names), emulate)


def _closed_rows(figures: Measured) -> Iterator[Row]:
    for engine, counts in {"A": (1, 8, 32, 64, 128, 256, 512), "B": (8, 32)}.items():
        for clients in counts:
            facts = figures["A2" if engine == "A" else engine, f"closed_C{clients}", "cl"]

            def emulate(
                seed: int, engine: str = engine, clients: int = clients
            ) -> dict[str, float]:
                run = closed(engine, clients, seed)
                return {
                    "itl_p50": run.itl_p50,
                    "itl_p99": run.itl_p99,
                    "output_rate": run.output_rate,
                }

            names = ("itl_p50", "itl_p99", "output_rate")
            yield Row(f"closed {engine} {clients}", _only(facts, *names), emulate)


def _poisson_rows(figures: Measured) -> Iterator[Row]:
    with (DATA / "offered.csv").open() as file:
        offered = list(csv.DictReader(file))
    for load in offered:
        engine, nominal = load["engine"], load["nominal_rate"]
        facts = figures["A2" if engine == "A" else engine, f"poisson_r{nominal}", "po"]
        requests = float(load["requests"])
        means = (float(load["prompt_tokens"]) / requests, float(load["output_tokens"]) / requests)

        def emulate(
            seed: int,
            engine: str = engine,
            rate: float = requests / float(load["span_s"]),
            means: tuple[float, float] = means,
        ) -> dict[str, float]:
            return _latencies(poisson(engine, rate, means, seed))

        yield Row(f"poisson {engine} {nominal}", _only(facts, *_LATENCIES), emulate)


_MIXED = (
    ("A", "A1", "mixed", False),
    ("B", "B", "mixed", False),
    ("B2", "B2", "mixed_noprio", False),
    ("B2", "B2", "mixed_prio", True),
    ("D", "D", "mixed_prio", True),
)


def _mixed_rows(figures: Measured) -> Iterator[Row]:
    for engine, phase, scenario, priority in _MIXED:
        for bulk in (0, 16, 64):
            name = f"{scenario}_C{bulk}" if bulk else "mixed_C0"
            facts = figures.get((phase, name, "int"))
            if facts is None or (priority and not bulk):
                continue
            rate = {"bulk_rate": figures[phase, name, "bulk"]["output_rate"]} if bulk else {}

            def emulate(
                seed: int, engine: str = engine, bulk: int = bulk, priority: bool = priority
            ) -> dict[str, float]:
                run, other = mixed(engine, bulk, seed, priority=priority)
                return _latencies(run) | {"bulk_rate": other.output_rate}

            label = f"mixed {engine} {bulk}" + (" priority" if priority else "")
            yield Row(label, _only(facts, *_LATENCIES) | rate, emulate)


def _burst_rows(figures: Measured) -> Iterator[Row]:
    for engine, phase, scenario, priority in _MIXED:
        facts = figures.get((phase, f"{scenario}_C0_burst128", "int"))
        if facts is None:
            continue
        bulk = figures[phase, f"{scenario}_C0_burst128", "bulk"]["output_rate"]

        def emulate(seed: int, engine: str = engine, priority: bool = priority) -> dict[str, float]:
            run, rate = burst(engine, seed, priority=priority)
            return _latencies(run) | {"bulk_rate": rate}

        yield Row(f"burst {engine}", _only(facts, *_LATENCIES) | {"bulk_rate": bulk}, emulate)


def compare(row: Row, runs: int) -> list[Comparison]:
    """Emulate a row `runs` times and hold each of its figures to the measured one."""
    results = [row.emulate(seed) for seed in range(runs)]
    return [
        Comparison(
            row.name,
            figure,
            value,
            median(result[figure] for result in results),
            min(result[figure] for result in results),
            max(result[figure] for result in results),
        )
        for figure, value in row.measured.items()
    ]


def line(comparisons: list[Comparison]) -> str:
    """Write one row: measured / emulated, error and verdict of each figure."""
    cells = (
        f"{c.figure} {c.measured:7.1f} /{c.emulated:7.1f} {100 * c.error:+4.0f}%{c.verdict.value}"
        for c in comparisons
    )
    return f"{comparisons[0].row:22}" + "  ".join(cells)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where something falls short."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7, help="emulated runs a row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    options = parser.parse_args(arguments)
    found: list[Comparison] = []
    for row in rows():
        if options.only in row.name:
            comparisons = compare(row, options.runs)
            found += comparisons
            if options.json:
                for c in comparisons:
                    _say(json.dumps(asdict(c)))
            else:
                _say(line(comparisons))
    return _sum_up(found)


def _sum_up(found: list[Comparison]) -> int:
    counts = {verdict: sum(c.verdict is verdict for c in found) for verdict in Verdict}
    _say(
        f"{len(found)} figures: {counts[Verdict.HOLDS]} hold, {counts[Verdict.SPREAD]} within the "
        f"spread of single runs (~), {counts[Verdict.KNOWN]} known not to hold (k), "
        f"{counts[Verdict.SHORT]} short (!)"
    )
    for c in found:
        if c.verdict is Verdict.KNOWN:
            _say(f"known: {c.name}: {KNOWN[c.name]}")
        elif c.verdict is Verdict.SHORT:
            _say(f"short: {c.name}: measured {c.measured:.1f}, emulated {c.emulated:.1f}")
    return 1 if counts[Verdict.SHORT] else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
