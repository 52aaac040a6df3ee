"""The load that the H100 was measured under, sent to an emulated engine in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from random import Random

from engines.emulator.core import Detail, EmulatedEngine
from engines.emulator.jobs import Failed, Finished, Job, Refused, Tokens
from engines.emulator.profiles import H100_8B
from engines.emulator.spec import EngineSpec, Policy, Vllm

ENGINES = {
    "A": Vllm(),
    "B": Vllm(max_num_seqs=32, max_num_batched_tokens=512),
    "B2": Vllm(scheduling_policy=Policy.PRIORITY, max_num_batched_tokens=2048),
    "D": Vllm(scheduling_policy=Policy.PRIORITY),
}
TURNAROUND_S = 0.0005
"""From an answer's end to a closed-loop client's next request."""

Lengths = tuple[int, int]
"""Prompt and output tokens."""


@dataclass(slots=True)
class Request:
    """One request and when its tokens came."""

    kind: str
    sent_s: float
    prompt_tokens: int
    times: list[float] = field(default_factory=list)
    ended: Callable[[float], None] | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed of one kind of request: times in ms, rates per second."""

    ttft_p50: float
    ttft_p99: float
    itl_p50: float
    itl_p99: float
    output_rate: float


class Client:
    """Sends requests to one engine and writes down what came back."""

    def __init__(self, engine: str, seed: int) -> None:
        self.rng = Random(seed + 1000)
        self.requests: list[Request] = []
        self._engine = EmulatedEngine(
            EngineSpec(H100_8B, ENGINES[engine]), Random(seed), Detail.TOKENS
        )
        self._due: list[tuple[float, int, Request, Job]] = []
        self._count = 0
        self._sent: dict[str, Request] = {}

    def send(
        self,
        at_s: float,
        kind: str,
        lengths: Lengths,
        priority: int = 0,
        ended: Callable[[float], None] | None = None,
    ) -> None:
        """Send one request at `at_s`."""
        self._count += 1
        job = Job(str(self._count), *lengths, priority=priority)
        request = Request(kind, at_s, job.prompt_tokens, ended=ended)
        heappush(self._due, (at_s, self._count, request, job))

    def poisson(self, kind: str, rate: float, draw: Callable[[], Lengths], until: float) -> None:
        """Send at random from 0 to `until`."""
        at_s = self.rng.expovariate(rate)
        while at_s < until:
            self.send(at_s, kind, draw())
            at_s += self.rng.expovariate(rate)

    def closed_loop(
        self,
        kind: str,
        clients: int,
        draw: Callable[[], Lengths],
        priority: int = 0,
        until: float = inf,
    ) -> None:
        """Keep `clients` requests under way.

        The first answers have random lengths, so that the clients do not end in step.
        """

        def again(now: float) -> None:
            if now < until:
                self.send(now + TURNAROUND_S, kind, draw(), priority, again)

        for _ in range(clients):
            prompt, output = draw()
            self.send(0.0, kind, (prompt, self.rng.randint(1, output)), priority, again)

    def run(self, until: float) -> None:
        """Let time pass."""
        while (now := min(self._next_event(), self._next_due())) <= until:
            if self._next_due() == now:
                _, _, request, job = heappop(self._due)
                answer = self._engine.submit(job, now)
                if isinstance(answer, Refused):
                    raise ValueError(f"{job} refused: {answer}")
                self._sent[job.id] = request
                self.requests.append(request)
            else:
                self._listen(now)

    def figures(self, kind: str, start: float, end: float) -> Figures:
        """Look at the requests sent in `start`..`end`, and at every gap from `start` on."""
        requests = [request for request in self.requests if request.kind == kind]
        ttft = [
            request.times[0] - request.sent_s
            for request in requests
            if start <= request.sent_s < end and request.times
        ]
        gaps = [
            later - earlier
            for request in requests
            for earlier, later in pairwise(request.times)
            if later >= start
        ]
        tokens = sum(start <= at_s < end for request in requests for at_s in request.times)
        return Figures(
            1e3 * quantile(ttft, 0.5),
            1e3 * quantile(ttft, 0.99),
            1e3 * quantile(gaps, 0.5),
            1e3 * quantile(gaps, 0.99),
            tokens / (end - start),
        )

    def _next_due(self) -> float:
        return self._due[0][0] if self._due else inf

    def _next_event(self) -> float:
        at_s = self._engine.next_event()
        return inf if at_s is None else at_s

    def _listen(self, now: float) -> None:
        for event in self._engine.advance(now):
            request = self._sent[event.job_id]
            if isinstance(event, Tokens):
                request.times.append(event.at_s)
            elif isinstance(event, Finished | Failed) and request.ended is not None:
                request.ended(event.at_s)


def quantile(values: list[float], share: float) -> float:
    """Return the nearest-rank quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else inf


def exponential(rng: Random, mean: float, low: int, high: int) -> int:
    """Draw a length."""
    return max(low, min(high, round(rng.expovariate(1 / mean))))


def unloaded(engine: str, prompt: int, count: int, seed: int) -> Figures:
    """One request at a time, two tokens of output."""
    client = Client(engine, seed)
    client.closed_loop("x", 1, lambda: (prompt, 2))
    client.run(count * (0.016 + prompt * 28e-6))
    return client.figures("x", 0.0, inf)


def closed(engine: str, clients: int, seed: int) -> Figures:
    """Prompt 512, output 128."""
    client = Client(engine, seed)
    client.closed_loop("x", clients, lambda: (512, 128))
    client.run(13.0)
    return client.figures("x", 0.0 if clients == 1 else 1.0 + 0.013 * clients, 13.0)


def poisson(engine: str, rate: float, means: tuple[float, float], seed: int) -> Figures:
    """Lengths exponential around `means`, prompt and output tokens."""
    client = Client(engine, seed)
    rng, (prompt, output) = client.rng, means
    client.poisson(
        "x",
        rate,
        lambda: (exponential(rng, prompt, 8, 7000), exponential(rng, output, 2, 1000)),
        20.0,
    )
    client.run(45.0)
    return client.figures("x", 3.0, 20.0)


def _interactive(client: Client, until: float) -> None:
    rng = client.rng
    client.poisson(
        "int", 8.0, lambda: (exponential(rng, 200, 8, 4000), exponential(rng, 100, 2, 1000)), until
    )


def mixed(engine: str, bulk: int, seed: int, *, priority: bool = False) -> tuple[Figures, Figures]:
    """Interactive traffic beside `bulk` closed-loop streams; figures of both."""
    client = Client(engine, seed)
    start, end = (13.0, 28.0) if bulk > 16 else (6.0, 18.0)
    _interactive(client, end)
    rng = client.rng
    client.closed_loop(
        "bulk", bulk, lambda: (rng.randint(1500, 4500), 256), 5 if priority else 0, end
    )
    client.run(end + 20.0)
    return client.figures("int", start, end), client.figures("bulk", start, end)


def burst(engine: str, seed: int, *, priority: bool) -> tuple[Figures, float]:
    """Interactive traffic and 128 bulk prompts at once; figures and the rate of bulk output."""
    client = Client(engine, seed)
    start, end = 4.0, 25.0
    _interactive(client, end)
    for _ in range(128):
        client.send(start, "bulk", (client.rng.randint(1500, 4500), 256), 5 if priority else 0)
    client.run(end + 20.0)
    last = max(request.times[-1] for request in client.requests if request.kind == "bulk")
    return client.figures("int", start, end), 128 * 256 / (last - start)
