"""Holds several routers over one fleet to what they promise: `make bench-replicas`.

Real routers and a real Redis; engines that only take time. Exits with 1 where something falls
short, and says what. Takes about five minutes; scenes can be named to run only these.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.overhead.tools import BUILD
from tests.bench.replicas import costs, eight, live, steps
from tests.bench.replicas.finding import Finding
from tests.fakes.redis_server import redis_server


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of everything."""

    seconds: float
    """Of load in each run."""
    seed: int


def _live(name: str) -> "Scene":
    return lambda amount: live.play(name, amount.seconds)


def _costs(name: str) -> "Scene":
    def scene(_: Amount) -> list[Finding]:
        with (
            tempfile.TemporaryDirectory(prefix="headway-") as folder,
            redis_server(Path(folder)) as redis,
        ):
            return costs.SCENES[name](Path(folder), redis, costs.Extent())

    return scene


Scene = Callable[[Amount], list[Finding]]
SCENES: dict[str, tuple[str, Scene]] = {
    "quality": ("three real replicas against one", _live("quality")),
    "eight": (
        "eight replicas against one, in virtual time",
        lambda _: eight.findings(eight.Extent()),
    ),
    "membership": ("a replica is killed in full load, another joins", _live("membership")),
    "steps": ("200 random steps of trouble on a real Redis", lambda a: steps.findings(a.seed)),
    "trouble": ("Redis frozen for 10 s, killed, started empty", _live("trouble")),
    "failover": ("the master dies, sentinels name another", _live("failover")),
    "cost": ("what sharing costs", _costs("cost")),
    "workers": ("two workers against one", _costs("workers")),
}


def played(name: str, amount: Amount, console: Console) -> dict[str, Any]:
    """Play a scene, show it, and return it as plain values."""
    about, scene = SCENES[name]
    findings = scene(amount)
    table = Table("figure", "measured", "bound", "", title=f"{name}: {about}")
    for each in findings:
        table.add_row(
            each.what, f"{each.measured:.3g}", each.bound, "" if each.right else "falls short"
        )
    console.print(table)
    return {
        "about": about,
        "figures": [
            {
                "figure": each.what,
                "measured": each.measured,
                "most": each.most,
                "least": each.least,
                "right": each.right,
            }
            for each in findings
        ],
    }


def main(given: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", default=list(SCENES), help=", ".join(SCENES))
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each live run")
    parser.add_argument("--seed", type=int, default=1, help="of the random steps")
    parser.add_argument(
        "--json", type=Path, default=BUILD / "replicas.json", help="where the figures go"
    )
    args = parser.parse_args(given)
    unknown = [name for name in args.scenes if name not in SCENES]
    if unknown:
        parser.error(f"no scene {unknown[0]!r}; known: {', '.join(SCENES)}")
    console = Console(width=100, highlight=False)
    amount = Amount(args.seconds, args.seed)
    made = {name: played(name, amount, console) for name in args.scenes}
    args.json.parent.mkdir(exist_ok=True)
    args.json.write_text(json.dumps(made, indent=1) + "\n")
    short = [
        f"{name}: {each['figure']} is {each['measured']:.3g}"
        for name, scene in made.items()
        for each in scene["figures"]
        if not each["right"]
    ]
    for sentence in short:
        console.print(f"falls short in {sentence}")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
