"""What one routing decision costs, µs: `python -m tests.bench.decision`.

Median of many short runs with the garbage collector off, one request in flight at a time.
"""

from collections.abc import Callable
from random import Random
from statistics import median
from timeit import Timer

from policies.commands import Send
from policies.dispatcher import Dispatcher
from policies.facts import EndpointPlan, Ending, Profile, RequestFacts, SlaClass, Targets, Wish
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


def whole(made: Dispatcher, request: RequestFacts) -> Callable[[], None]:
    def run() -> None:
        answer = made.arrive(request, 1.0)
        assert isinstance(answer, Send)
        made.first_token(answer.flight, 1.1)
        made.ended(answer.flight, Ending.COMPLETED, 1.5, prompt_tokens=540, output_tokens=120)

    return run


def arriving(made: Dispatcher, request: RequestFacts) -> Callable[[], None]:
    def run() -> None:
        made.arrive(request, 1.0)

    return run


def cost_us(make: Callable[[], Callable[[], None]], number: int = REQUESTS) -> float:
    """Median time of one call, µs; `make` gives each run a fresh state."""
    return median(Timer(make()).timeit(number) / number * 1e6 for _ in range(RUNS))


def main() -> None:
    interactive = facts(Wish(SlaClass.INTERACTIVE, Targets(first_token_s=0.3)))
    plain = facts(Wish(SlaClass.STANDARD))
    for size in (1, 6, 64):
        for name, request in (("interactive with target", interactive), ("standard", plain)):
            both = cost_us(lambda: whole(dispatcher(size, request, 3 * size), request))  # noqa: B023 - called at once
            alone = cost_us(lambda: arriving(dispatcher(size, request, 0), request), 64)  # noqa: B023 - called at once
            print(
                f"{size:3} endpoints, {name:24}: arrive {alone:5.1f} µs, whole life {both:5.1f} µs"
            )


if __name__ == "__main__":
    main()
