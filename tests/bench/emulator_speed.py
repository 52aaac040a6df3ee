"""What simulated time costs: `python -m tests.bench.emulator_speed`.

150 seconds of six emulated H100 engines at 60 requests a second, prompts and answers as long as in
conversations (log-normal with the medians and means of the Azure 2023 conversation trace).
"""

import argparse
import sys
import time
from math import inf
from random import Random

from engines.emulator.core import EmulatedEngine
from engines.emulator.jobs import Job
from engines.emulator.profiles import H100_8B
from engines.emulator.spec import EngineSpec, Vllm


def fleet(engines: int, rate: float, seconds: float, seed: int) -> tuple[int, int]:
    """Simulate a fleet, requests in turn; return how many events and engine steps there were."""
    rng = Random(seed)
    spec = EngineSpec(H100_8B, Vllm(max_model_len=32_768))
    servers = [EmulatedEngine(spec, Random(seed + index)) for index in range(engines)]
    due = [inf] * engines
    arrival, sent, events = rng.expovariate(rate), 0, 0
    while True:
        soonest = min(due)
        if arrival < seconds and arrival <= soonest:
            chosen = sent % engines
            prompt = max(1, min(14_000, round(rng.lognormvariate(6.93, 0.5))))
            output = max(1, min(1000, round(rng.lognormvariate(4.86, 0.99))))
            servers[chosen].submit(Job(str(sent), prompt, output), arrival)
            sent += 1
            arrival += rng.expovariate(rate)
        elif soonest < inf:
            chosen = due.index(soonest)
            events += len(servers[chosen].advance(soonest))
        else:
            return events, sum(server.gauges().steps for server in servers)
        next_event = servers[chosen].next_event()
        due[chosen] = inf if next_event is None else next_event


def main(arguments: list[str] | None = None) -> int:
    """Print the cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", type=int, default=6)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=150.0, help="of simulated time")
    options = parser.parse_args(arguments)
    begun_s = time.process_time()
    events, steps = fleet(options.engines, options.rate, options.seconds, seed=1)
    spent_s = time.process_time() - begun_s
    sys.stdout.write(f"{events} events, {steps} engine steps: {spent_s:.2f} s of CPU time\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
