"""A workload's requests, one by one in order of time; the same seed, the same requests."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from heapq import merge
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from policies.facts import SlaClass, Targets
from policies.policy import Policy
from router.workload.arrivals import arrivals
from router.workload.lengths import Independent, Lengths, distribution, sample
from router.workload.load import trace_path
from router.workload.offers import Offer
from router.workload.rows import Row, TraceError, read_rows
from router.workload.settings import Traffic, Workload

LEAST_MAX_TOKENS: Final = 256
MOST_MAX_TOKENS: Final = 2048
"""Callers' bounds on output: twice the answer, within these. A guess: no trace tells them."""
MOST_AT_ONCE: Final = 100_000
"""Requests of a trace with one and the same time that can be spread."""


class _Body(NamedTuple):
    """A request, but for its number."""

    at_s: float
    order: int
    """Place of its traffic in the document: who goes first of those that come together."""
    prompt_tokens: int
    output_tokens: int
    client: str
    prefix: tuple[int, ...]


def offers(workload: Workload, seed: int) -> Iterator[Offer]:
    """Yield all requests; raises `TraceError` where a trace turns out to be wrong.

    Every traffic has its own random source: a change of one leaves the others as they are.
    """
    streams = [
        _bodies(traffic, order, workload.duration_s, Random(f"{seed}/{traffic.name}/when"))
        for order, traffic in enumerate(workload.traffic)
    ]
    makers = [_Maker(traffic, Random(f"{seed}/{traffic.name}/who")) for traffic in workload.traffic]
    for number, body in enumerate(merge(*streams)):
        yield makers[body.order].offer(number, body)


def nominal_rate(workload: Workload) -> float:
    """Return the requests a second that a workload offers, changes of rate left aside.

    A trace is read through once for it. Raises `TraceError`.
    """
    return sum(
        traffic.rate or _trace_rate(trace_path(traffic.trace or "")) * traffic.speed
        for traffic in workload.traffic
    )


def at_rate(workload: Workload, rate: float) -> Workload:
    """Return the workload with all its traffic in proportion, `rate` requests a second together."""
    factor = rate / nominal_rate(workload)
    return replace(
        workload,
        traffic=tuple(
            replace(
                traffic,
                rate=None if traffic.rate is None else traffic.rate * factor,
                speed=traffic.speed * (factor if traffic.trace is not None else 1.0),
            )
            for traffic in workload.traffic
        ),
    )


def targets_of(traffic: Traffic, sla_class: SlaClass) -> Targets:
    """Return what answers are held to: the traffic's own targets, else the class's defaults."""
    usual = Policy().of_class(sla_class).targets
    return Targets(
        traffic.first_token_s or usual.first_token_s,
        traffic.per_token_s or usual.per_token_s,
        traffic.deadline_s or usual.deadline_s,
    )


class _Maker:
    """Gives requests of one traffic their callers."""

    def __init__(self, traffic: Traffic, rng: Random) -> None:
        self._traffic = traffic
        self._rng = rng
        self._targets = {each: targets_of(traffic, each) for each in SlaClass}
        self._tenants = list(traffic.tenants)
        self._weights = list(traffic.tenants.values())

    def offer(self, number: int, body: _Body) -> Offer:
        traffic, rng = self._traffic, self._rng
        tenant = body.client
        if self._tenants:
            (tenant,) = rng.choices(self._tenants, self._weights)
        session = None
        if traffic.sessions:
            session = f"{traffic.name}-{int(rng.random() * traffic.sessions)}"
        sla_class = traffic.client_classes.get(body.client, traffic.sla_class)
        output_tokens = min(body.output_tokens, traffic.most_output_tokens)
        return Offer(
            number,
            body.at_s,
            traffic.name,
            sla_class,
            body.prompt_tokens,
            output_tokens,
            min(MOST_MAX_TOKENS, max(LEAST_MAX_TOKENS, 2 * output_tokens)),
            self._targets[sla_class],
            tenant,
            session,
            body.prefix,
            traffic.patience_s,
        )


def _bodies(traffic: Traffic, order: int, until_s: float, rng: Random) -> Iterator[_Body]:
    if traffic.trace is not None:
        yield from _replayed(traffic, order, until_s, rng)
        return
    lengths = _lengths(traffic)
    rate = traffic.rate or 0.0
    steps = [(0.0, rate), *((change.at_s, rate * change.times) for change in traffic.changes)]
    for at_s in arrivals(rng, traffic.cv, steps, until_s):
        prompt_tokens, output_tokens = lengths.draw(rng)
        yield _Body(at_s, order, prompt_tokens, output_tokens, "", ())


def _lengths(traffic: Traffic) -> Lengths:
    if traffic.lengths is not None:
        return _sample(trace_path(traffic.lengths))
    return Independent(distribution(traffic.prompt or ""), distribution(traffic.output or ""))


@lru_cache(maxsize=8)
def _sample(path: Path) -> Lengths:
    """Return a trace's lengths; kept, for every seed and policy asks for them again."""
    return sample(path)


@lru_cache(maxsize=8)
def _trace_rate(path: Path) -> float:
    count, span_s = 0, 0.0
    for row in read_rows(path):
        count += 1
        span_s = _time(path, row)
    if not span_s:
        raise TraceError(path, None, "has all its requests at one time; their rate is infinite")
    return count / span_s


def _time(path: Path, row: Row) -> float:
    if row.at_s is None:
        raise TraceError(
            path, row.line, "has lengths but no times; use it as `lengths`, with a `rate`"
        )
    return row.at_s


def _replayed(traffic: Traffic, order: int, until_s: float, rng: Random) -> Iterator[_Body]:
    """Yield a trace's requests; one that is over too soon begins again after a mean gap."""
    path = trace_path(traffic.trace or "")
    begun_s = 0.0
    while True:
        rows: Iterator[tuple[float, Row]] = ((_time(path, row), row) for row in read_rows(path))
        if traffic.spread_s:
            rows = _spread(path, rows, traffic.spread_s, rng)
        number, at_s = 0, begun_s
        for number, (trace_s, row) in enumerate(rows, start=1):  # noqa: B007 - a count is left
            at_s = begun_s + trace_s / traffic.speed
            if at_s >= until_s:
                return
            yield _Body(at_s, order, row.prompt_tokens, row.output_tokens, row.client, row.prefix)
        if at_s == begun_s:
            return  # all at one time: nothing says when they would come again
        begun_s = at_s + (at_s - begun_s) / number


def _spread(
    path: Path, rows: Iterator[tuple[float, Row]], spread_s: float, rng: Random
) -> Iterator[tuple[float, Row]]:
    """Spread the rows that share a time evenly at random, as far as the next time allows."""
    following = next(rows, None)
    while following is not None:
        at_s = following[0]
        group = [following[1]]
        while (following := next(rows, None)) is not None and following[0] == at_s:
            group.append(following[1])
            if len(group) > MOST_AT_ONCE:
                message = f"has more than {MOST_AT_ONCE} requests at one time, too many to spread"
                raise TraceError(path, following[1].line, message)
        room_s = spread_s if following is None else min(spread_s, following[0] - at_s)
        times = sorted(at_s + room_s * rng.random() for _ in group)
        yield from zip(times, group, strict=True)
