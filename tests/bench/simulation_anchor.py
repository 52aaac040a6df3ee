"""Whether the simulation says what sockets say: `python -m tests.bench.simulation_anchor`.

The same requests for the same fleet, once in virtual time and once through a real router to
emulated engines over HTTP. Attainment should agree within 3 points, times to first token within
15 % or 10 ms. Exits with 1 where they do not, with 3 where the machine was too busy to tell: the
load generator's own lateness says so. `--rate 6,9 --seconds 60` for other points.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from engines.launch.child import free_port
from policies.facts import SlaClass
from router.bench.question import Target
from router.bench.run import Plan, measure
from router.measure.tally import Tally
from router.report.rates import rates
from router.simulation.conditions import Conditions
from router.simulation.contenders import CONTENDERS
from router.simulation.fleet import load_fleet
from router.simulation.world import World
from router.workload.load import load_workload
from router.workload.settings import Workload
from router.workload.stream import at_rate, offers

FLEET = "small-70b"
SEED = 1
POINTS = 0.03
SHARE = 0.15
LEAST_S = 0.010
START_S = 30.0
CONTEXT = 16_384


def simulated(workload: Workload) -> Tally:
    tally = Tally(workload.duration_s, workload.warm_up_s)
    # Over sockets every token of a prompt has four bytes, the chat template comes on top, and an
    # answer's length is asked for as the caller's bound.
    even = Conditions(bytes_sigma=0.0)
    world = World(load_fleet(FLEET), CONTENDERS["headway"], seed=SEED, conditions=even)
    told = (
        replace(
            offer,
            prompt_tokens=offer.prompt_tokens + even.template_tokens,
            max_tokens=offer.length,
        )
        for offer in offers(workload, SEED)
    )
    for outcome in world.run(told):
        tally.add(outcome)
    return tally


def config(quick: int, wide: list[int]) -> str:
    endpoints = ", ".join(
        f'{{ engine = "vllm", url = "http://127.0.0.1:{port}" }}' for port in wide
    )
    return f"""
[server]
access_log = "off"
[[pools]]
name = "predictable"
profile = "predictable"
models = ["emulated"]
endpoints = [{{ engine = "vllm", url = "http://127.0.0.1:{quick}" }}]
[[pools]]
name = "throughput"
profile = "throughput"
models = ["emulated"]
endpoints = [{endpoints}]
"""


@contextmanager
def running(*words: str, url: str) -> Iterator[None]:
    """Run a command until the block ends; it is up when the URL answers."""
    child = subprocess.Popen([sys.executable, "-m", "router", *words], stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
    try:
        until = time.monotonic() + START_S
        while True:
            try:
                httpx.get(url, trust_env=False)
                break
            except httpx.TransportError:
                if child.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.1)
        yield
    finally:
        child.terminate()
        child.wait()


@contextmanager
def router() -> Iterator[str]:
    """Run the fleet and a router before it; yields its URL."""
    quick, port = free_port(), free_port()
    wide = [free_port(), free_port()]
    emulate = ("emulate", "--profile", "h100-70b-tp4", "--port")
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        longest = f"max_model_len={CONTEXT}"
        few = ("--set", longest, "max_num_seqs=32", "max_num_batched_tokens=2048")
        stack.enter_context(
            running(*emulate, str(quick), *few, url=f"http://127.0.0.1:{quick}/health")
        )
        for each in wide:
            many = (str(each), "--set", longest)
            stack.enter_context(running(*emulate, *many, url=f"http://127.0.0.1:{each}/health"))
        path = Path(folder) / "headway.toml"
        path.write_text(config(quick, wide))
        url = f"http://127.0.0.1:{port}"
        serve = ("serve", str(path), "--port", str(port))
        stack.enter_context(running(*serve, url=f"{url}/v1/models"))
        yield url


def compared(rate: float, virtual: Tally, real: Tally) -> bool:
    """Print both; return whether they agree."""
    agree = True
    for sla_class in SlaClass:
        one, other = virtual.classes[sla_class], real.classes[sla_class]
        if not one.offered:
            continue
        off = abs(one.attainment - other.attainment)
        agree &= off <= POINTS
        line = f"{rate:5g}/s {sla_class:12} attained {100 * one.attainment:5.1f} simulated,"
        line += f" {100 * other.attainment:5.1f} over sockets"
        for name, times in (("TTFT", "first_token"), ("TPOT", "per_token")):
            for share in (0.5, 0.99):
                pair_s = [getattr(each, times).percentile(share) or 0.0 for each in (one, other)]
                if name == "TTFT":
                    agree &= abs(pair_s[0] - pair_s[1]) <= max(LEAST_S, SHARE * pair_s[1])
                line += (
                    f"; {name} p{100 * share:.0f} {1000 * pair_s[0]:.0f}, {1000 * pair_s[1]:.0f} ms"
                )
        sys.stdout.write(f"{line}; {dict(one.fates)}, {dict(other.fates)}\n")
    return agree


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", default="6,9")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    mixed = replace(load_workload("mixed"), duration_s=asked.seconds, warm_up_s=asked.seconds / 10)
    agree, valid = True, True
    with router() as url:
        for rate in rates(asked.rate):
            plan = Plan([Target("router", url, "emulated")], mixed, [rate], [SEED])
            (run,) = measure(plan)
            valid &= run.generator.valid
            late_s = run.generator.lag.percentile(0.99) or 0.0
            agree &= compared(rate, simulated(at_rate(mixed, rate)), run.tally)
            sys.stdout.write(f"{rate:5g}/s requests left {1000 * late_s:.1f} ms late (p99)\n")
    if not valid:
        sys.stdout.write("not valid: this machine was too busy\n")
        return 3
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
