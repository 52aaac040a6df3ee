"""Hold the simulation to the world over sockets: `python -m tests.bench.anchors`.

At six points (three loads, two policies) the same requests go through the simulation and through
the real router before emulated engines, sent by the load generator of `headway bench`. Attainment
must agree within 3 points and the 99th percentile of the time to first token within 15 %.

The simulation runs with several seeds of the engines' noise, the world over sockets once. A figure
beyond its tolerance, but within the range of single simulated runs, is marked `~` and does not
count as short. A point whose load generator or engines were late is measured again, and then is
not valid. Exits with 1 naming what falls short.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from engines.emulator.faces.reading import chat_prompt
from policies.facts import SlaClass
from router.bench.drive import MOST_LAG_S
from router.bench.prompts import BYTES_A_TOKEN
from router.bench.question import Target
from router.bench.run import Plan, measure
from router.measure.tally import Tally
from router.settings import Probes
from router.simulation.conditions import Conditions
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import MODEL, load_fleet
from router.simulation.world import World
from router.workload.offers import Offer
from router.workload.settings import Traffic, Workload
from router.workload.stream import at_rate, offers
from tests.bench.agreement import Figure, Gate, shortcomings
from tests.bench.http_world import http_world

FLEET: Final = "small-70b"
CAPACITY: Final = 15.0
"""Requests a second of this workload at which the fleet begins to miss targets."""
LOADS: Final = (0.4, 0.75, 1.1)
POLICIES: Final = ("headway", "round_robin")
SECONDS: Final = 50.0
QUICK_SECONDS: Final = 12.0
WARM_UP_SHARE: Final = 0.1
SEED: Final = 1
SIMULATED_RUNS: Final = 15
TEMPLATE_TOKENS: Final = chat_prompt([{"role": "user", "content": ""}]).tokens
"""Tokens that emulated engines count beyond a message's own."""
CONDITIONS: Final = Conditions(scrape_s=Probes().load_s, probe_s=Probes().health_s)
"""As the router over sockets is configured."""
ATTAINMENT_TOLERANCE: Final = 0.03
FIRST_TOKEN_TOLERANCE: Final = 0.15
MOST_STEP_LATENESS_S: Final = 0.002
WORKLOAD: Final = Workload(
    about="Chat that somebody watches and a quarter of it that nobody waits for.",
    traffic=(
        Traffic(
            name="chat",
            sla_class=SlaClass.INTERACTIVE,
            rate=3,
            lengths="azure_conv_lengths",
            most_output_tokens=512,
        ),
        Traffic(
            name="batch",
            sla_class=SlaClass.BULK,
            rate=1,
            lengths="azure_conv_lengths",
            most_output_tokens=512,
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One anchor point, measured."""

    load: float
    """Share of capacity."""
    policy: str
    requests: int
    gates: tuple[Gate, ...]
    figures: tuple[Figure, ...]
    troubles: dict[str, int]
    """What went wrong over sockets, in words."""

    @property
    def where(self) -> str:
        """What it is called."""
        return f"{self.policy} at {self.load:g} of capacity"

    @property
    def is_valid(self) -> bool:
        """Whether it can be believed."""
        return all(gate.holds for gate in self.gates)


def workload(load: float, seconds: float) -> Workload:
    """Return what is offered at a share of capacity."""
    whole = replace(WORKLOAD, duration_s=seconds, warm_up_s=WARM_UP_SHARE * seconds)
    return at_rate(whole, load * CAPACITY)


def as_sent(offered: Iterator[Offer]) -> Iterator[Offer]:
    """Yield offers as engines see them when the load generator sends them.

    The bound is the length, and a template stands around the prompt.
    """
    return (
        replace(
            offer,
            prompt_tokens=offer.prompt_tokens + TEMPLATE_TOKENS,
            max_tokens=offer.length,
        )
        for offer in offered
    )


def sent_bytes(offer: Offer) -> int:
    """Return how long the text is that the load generator sends for an offer as sent, bytes."""
    return BYTES_A_TOKEN * (offer.prompt_tokens - TEMPLATE_TOKENS)


def simulated(policy: str, offered: Workload, seed: int) -> Tally:
    """Return what comes of a workload in virtual time; `seed` is the engines' and the router's."""
    tally = Tally(offered.duration_s, offered.warm_up_s)
    conditions = replace(CONDITIONS, prompt_bytes=sent_bytes)
    world = World(load_fleet(FLEET), CONTENDERS[policy], seed=seed, conditions=conditions)
    for outcome in world.run(as_sent(offers(offered, SEED))):
        tally.add(outcome)
    return tally


def figures(simulations: list[Tally], real: Tally) -> tuple[Figure, ...]:
    """Return what both worlds found."""

    def figure(name: str, tolerance: float, *, relative: bool) -> Figure:
        values = tuple(_values(each)[name] for each in simulations)
        return Figure(name, values, _values(real)[name], tolerance, relative=relative)

    return (
        figure("attainment", ATTAINMENT_TOLERANCE, relative=False),
        figure("interactive attainment", ATTAINMENT_TOLERANCE, relative=False),
        figure("interactive ttft p99", FIRST_TOKEN_TOLERANCE, relative=True),
        figure("interactive ttft p50", FIRST_TOKEN_TOLERANCE, relative=True),
    )


def _values(tally: Tally) -> dict[str, float]:
    interactive = tally.classes[SlaClass.INTERACTIVE]
    return {
        "attainment": tally.all.attainment,
        "interactive attainment": interactive.attainment,
        "interactive ttft p99": _known(interactive.first_token.percentile(0.99)),
        "interactive ttft p50": _known(interactive.first_token.percentile(0.5)),
    }


def _known(value: float | None) -> float:
    return math.inf if value is None else value


def over_sockets(policy: str, load: float, offered: Workload, simulations: list[Tally]) -> Point:
    """Measure one point; raises `ChildFailed`."""
    with http_world(FLEET, load_fleet(FLEET), CONTENDERS[policy], SEED) as world:
        plan = Plan([Target(policy, world.url, MODEL)], offered, [load * CAPACITY], [SEED])
        (run,) = measure(plan)
    lag_s = _known(run.generator.lag.percentile(0.99))
    late_s = world.lateness.get("p99", math.inf)
    gates = (
        Gate("p99 send lag, s", lag_s, MOST_LAG_S),
        Gate("p99 step lateness, s", late_s, MOST_STEP_LATENESS_S),
    )
    found = figures(simulations, run.tally)
    return Point(load, policy, run.tally.offered, gates, found, dict(run.generator.troubles))


def points(seconds: float) -> Iterator[Point]:
    """Measure one point after the other; one that is not valid once more."""
    for load in LOADS:
        offered = workload(load, seconds)
        for policy in POLICIES:
            simulations = [simulated(policy, offered, seed) for seed in range(SIMULATED_RUNS)]
            point = over_sockets(policy, load, offered, simulations)
            if not point.is_valid:
                point = over_sockets(policy, load, offered, simulations)
            yield point


def table(found: list[Point], seconds: float) -> Table:
    """Return the figures for people."""
    shown = Table(title=f"Simulated / over sockets, {seconds:g} s a point", title_justify="left")
    for heading in ("load", "policy", "requests", "lag ms", "late ms"):
        shown.add_column(heading, justify="left" if heading == "policy" else "right")
    for heading in ("attainment", "interactive", "TTFT p99 ms", "TTFT p50 ms"):
        shown.add_column(heading, justify="right")
    for point in found:
        times = [f"{1000 * gate.value:.1f}{'' if gate.holds else ' !'}" for gate in point.gates]
        cells = [_cell(figure) for figure in point.figures]
        shown.add_row(f"{point.load:g}", point.policy, f"{point.requests}", *times, *cells)
    return shown


def _cell(figure: Figure) -> str:
    if figure.relative:
        text = f"{1000 * figure.middle:.0f} / {1000 * figure.found:.0f} {figure.error:+.0%}"
    else:
        text = f"{figure.middle:.3f} / {figure.found:.3f}"
    return f"{text}{figure.verdict.value}"


def document(found: list[Point], seconds: float) -> dict[str, Any]:
    """Return the figures for scripts."""
    return {
        "fleet": FLEET,
        "capacity": CAPACITY,
        "seconds": seconds,
        "points": [
            asdict(point)
            | {
                "valid": point.is_valid,
                "verdicts": {each.name: each.verdict.name for each in point.figures},
            }
            for point in found
        ],
        "short": short(found),
    }


def short(found: list[Point]) -> list[str]:
    """Return a sentence for each thing that falls short."""
    return [
        sentence
        for point in found
        for sentence in shortcomings(point.where, point.gates, point.figures)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where something falls short."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs: a look, no figure")
    parser.add_argument("--seconds", type=float, help=f"length of a point, {SECONDS:g} by default")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    screen = Console(stderr=True)
    found = []
    for point in points(seconds):
        found.append(point)
        screen.print(f"{point.where}: done", highlight=False)
    sentences = short(found)
    if options.json:
        sys.stdout.write(json.dumps(document(found, seconds), indent=2) + "\n")
    else:
        Console(width=130).print(table(found, seconds))
        sys.stdout.writelines(f"short: {sentence}\n" for sentence in sentences)
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
