"""The load that the H100 was measured under, sent to an emulated engine in virtual time."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from pathlib import Path
from random import Random
from typing import Any

from engines.emulator.core import Detail, EmulatedEngine
from engines.emulator.jobs import Failed, Finished, Job, Refused, Tokens
from engines.emulator.profiles import H100_8B, Launch, Profile
from engines.emulator.spec import EngineSpec, Policy, Vllm

ENGINES = {
    "A": Vllm(),
    "B": Vllm(max_num_seqs=32, max_num_batched_tokens=512),
    "B2": Vllm(scheduling_policy=Policy.PRIORITY, max_num_batched_tokens=2048),
    "D": Vllm(scheduling_policy=Policy.PRIORITY),
}
DATA = Path(__file__).parent.parent / "data" / "gpu"
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


@cache
def _launches() -> dict[tuple[str, str], tuple[float, float | None]]:
    """Return the measured medians of launches by engine and class: busy and, where known, idle, s."""
    with (DATA / "launches.csv").open() as file:
        return {
            (row["engine"], row["class"]): (
                float(row["p50"]) / 1e3,
                float(row["idle_p50"]) / 1e3 if row["idle_p50"] else None,
            )
            for row in csv.DictReader(file)
        }


def host_of(engine: str) -> Profile:
    """Return the profile with the launches as this engine's process made them.

    From one start of the same engine to the next the host is up to a quarter slower or faster; the
    profile stands in the middle. Where a start was not seen idle, it is as much slower there. Steps
    beyond a small engine's own CUDA graphs were seen of one engine alone: the profile is that one.
    """
    changes: dict[str, Any] = {}
    for name in ("captured", "large"):
        usual: Launch = getattr(H100_8B, name)
        busy_s, idle_s = _launches().get((engine, name), (usual.busy_s, None))
        if idle_s is None:
            idle_s = usual.idle_s * busy_s / usual.busy_s
        changes[name] = replace(usual, busy_s=busy_s, idle_s=idle_s)
    return replace(H100_8B, **changes)


class Client:
    """Sends requests to one engine and writes down what came back."""

    def __init__(self, engine: str, seed: int) -> None:
        self.rng = Random(seed + 1000)
        self.requests: list[Request] = []
        self._engine = EmulatedEngine(
            EngineSpec(host_of(engine), ENGINES[engine]), Random(seed), Detail.TOKENS
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


@dataclass(frozen=True, slots=True)
class Slot:
    """What was offered for a while."""

    length_s: float
    requests: int
    prompt_tokens: int
    """Of all of them."""


def poisson(engine: str, slots: Sequence[Slot], output_tokens: int, seed: int) -> Figures:
    """Send what was really offered slot by slot, and `output_tokens` in all.

    Within a slot requests come at random; lengths are exponential, scaled to these sums.
    """
    client = Client(engine, seed)
    rng, begun_s = client.rng, 0.0
    outputs = _scaled(rng, sum(slot.requests for slot in slots), output_tokens, 2, 1000)
    for slot in slots:
        prompts = _scaled(rng, slot.requests, slot.prompt_tokens, 8, 7000)
        for at, prompt in zip(sorted(rng.random() for _ in prompts), prompts, strict=True):
            client.send(begun_s + at * slot.length_s, "x", (prompt, outputs.pop()))
        begun_s += slot.length_s
    client.run(45.0)
    return client.figures("x", 3.0, begun_s)


def _scaled(rng: Random, count: int, total: int, low: int, high: int) -> list[int]:
    """Draw lengths that are exponential and have a given sum, but for rounding and bounds."""
    drawn = [rng.expovariate(1.0) for _ in range(count)]
    factor = total / sum(drawn) if drawn else 0.0
    return [max(low, min(high, round(factor * each))) for each in drawn]


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


def burst(
    engine: str, seed: int, *, mean_prompt: float = 3000.0, priority: bool
) -> tuple[Figures, float]:
    """Interactive traffic and 128 bulk prompts at once; figures and the rate of bulk output."""
    client = Client(engine, seed)
    start, end = 4.0, 25.0
    _interactive(client, end)
    drawn = [client.rng.randint(1500, 4500) for _ in range(128)]
    factor = mean_prompt * len(drawn) / sum(drawn)
    for prompt in drawn:
        client.send(start, "bulk", (round(factor * prompt), 256), 5 if priority else 0)
    client.run(end + 20.0)
    last = max(request.times[-1] for request in client.requests if request.kind == "bulk")
    return client.figures("int", start, end), 128 * 256 / (last - start)
