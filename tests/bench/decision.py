"""What one routing decision costs, µs of CPU: `python -m tests.bench.decision`.

Median, and least in brackets, of many short runs with the garbage collector off. CPU time, so that
what else runs on the machine counts only as far as it takes the caches.
"""

import sys
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import median
from time import process_time
from timeit import Timer

from policies.commands import Send
from policies.dispatcher import Dispatcher
from policies.facts import Ending, EndpointPlan, Profile, RequestFacts, SlaClass, Targets, Wish
from policies.policy import Policy

RUNS = 60
REQUESTS = 400
NEEDS = frozenset[SlaClass]()


def fleet(size: int) -> list[EndpointPlan]:
    return [
        EndpointPlan(
            id=f"endpoint-{number}",
            pool="pool",
            profile=Profile.PREDICTABLE if number % 3 == 0 else Profile.THROUGHPUT,
            models=frozenset({"model"}),
            offers=frozenset(),
            max_in_flight=256,
        )
        for number in range(size)
    ]


def facts(wish: Wish) -> RequestFacts:
    return RequestFacts(
        "id", "model", NEEDS, prompt_bytes=2000, max_tokens=200, wish=wish, tenant="tenant"
    )


def dispatcher(size: int, request: RequestFacts, in_flight: int) -> Dispatcher:
    made = Dispatcher(fleet(size), Policy(), Random(1))
    for _ in range(in_flight):
        made.arrive(request, 0.0)
    return made


def life_of(size: int, request: RequestFacts) -> Callable[[], None]:
    """Arrival, first token and end, beside three requests an endpoint."""
    made = dispatcher(size, request, 3 * size)

    def run() -> None:
        answer = made.arrive(request, 1.0)
        assert isinstance(answer, Send)
        made.first_token(answer.flight, 1.1)
        made.ended(answer.flight, Ending.COMPLETED, 1.5, prompt_tokens=540, output_tokens=120)

    return run


def arrival_of(size: int, request: RequestFacts) -> Callable[[], None]:
    """Arrival alone, in a fleet that fills up."""
    made = dispatcher(size, request, 0)

    def run() -> None:
        made.arrive(request, 1.0)

    return run


def run_costs_us(
    make: Callable[[], Callable[[], None]], number: int = REQUESTS, runs: int = RUNS
) -> list[float]:
    """Time of one call, by run; `make` gives each run a fresh state."""
    return [Timer(make(), timer=process_time).timeit(number) / number * 1e6 for _ in range(runs)]


def cost_us(make: Callable[[], Callable[[], None]], number: int = REQUESTS) -> str:
    """Time of one call: median and least of many runs."""
    runs = run_costs_us(make, number)
    return f"{median(runs):5.1f} µs ({min(runs):4.1f})"


def table() -> str:
    """One line for each size of fleet and kind of request."""
    interactive = facts(Wish(SlaClass.INTERACTIVE, Targets(first_token_s=0.3)))
    plain = facts(Wish(SlaClass.STANDARD))
    lines = []
    for size in (1, 6, 64):
        for name, request in (("interactive with target", interactive), ("standard", plain)):
            life_us = cost_us(partial(life_of, size, request))
            arrival_us = cost_us(partial(arrival_of, size, request), number=64)
            lines.append(
                f"{size:3} endpoints, {name:24}: arrive {arrival_us}, whole life {life_us}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
