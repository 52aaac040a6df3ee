"""What goes on, once a second, for whoever watches: one snapshot, made once and shared by all.

Requests only leave a record behind (`router.admin.recent`); counting them is done here, beside the
traffic. Nothing is written for nobody: the snapshot is made only while somebody watches.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

import orjson

from policies.facts import Reason, SlaClass
from policies.fleet import EndpointState
from policies.health import State
from router import metrics as families
from router.admin.compared import Compared
from router.admin.recent import Recent, Seen, row
from router.admin.slo import Slo, Trend
from router.door import Door
from router.metrics import Metrics, Rows
from router.overview import Overview

TICK_S: Final = 1.0
COUNT_S: Final = 0.25
"""Requests are counted this often: the ring must not go round between two countings."""
MOST_DECISIONS: Final = 40
"""Decisions told in one tick; there may be thousands."""
MOST_BEHIND: Final = 8
"""Snapshots that a watcher may be behind before it misses some."""
MOST_WATCHERS: Final = 64
AWAY_S: Final = 300.0
"""Time over which spill is summed up."""


class TooManyWatch(Exception):
    """As many as may watch do; the text says how many."""


class Live:
    """Counts what ended, and tells those who watch."""

    def __init__(
        self,
        door: Door,
        overview: Overview,
        recent: Recent,
        objective: float,
        versions: Callable[[], dict[str, Any]],
        prices: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.slo = Slo(objective)
        self.compared = Compared(lambda: door.dispatcher.policy, prices, door.clock)
        door.shadows.record = self.compared.add_copy
        self._trends = {sla_class: Trend() for sla_class in SlaClass}
        self._door = door
        self._overview = overview
        self._recent = recent
        self._versions = versions
        self._counted = 0
        self._told = 0
        self._watchers: set[asyncio.Queue[bytes]] = set()
        self._states: dict[str, State] = {}
        self._events: list[dict[str, Any]] = []
        self._closed = False

    async def run(self) -> None:
        """Count and tell, for ever."""
        told_at = self._door.clock()
        while True:
            await asyncio.sleep(COUNT_S)
            self.count()
            now = self._door.clock()
            if now - told_at >= TICK_S - COUNT_S / 2:
                told_at = now
                self._tell(now)
            if self._overview.draining:
                self.close()

    def close(self) -> None:
        """Let every watcher go."""
        self._closed = True
        for watcher in self._watchers:
            _put(watcher, b"")

    def count(self) -> None:
        """Take in what ended since the last time."""
        for seen in self._recent.since(self._counted):
            self.slo.add(seen)
            self.compared.add(seen)
            self._trends[seen.sla_class].add(seen)
        self._counted = self._recent.count
        self._note_states()

    async def watch(self) -> AsyncGenerator[bytes]:
        """Yield server-sent events until the router stops; raises `TooManyWatch`."""
        if len(self._watchers) >= MOST_WATCHERS:
            raise TooManyWatch(f"{MOST_WATCHERS} watch already; close one of them")
        watcher: asyncio.Queue[bytes] = asyncio.Queue(MOST_BEHIND)
        self._watchers.add(watcher)
        try:
            # What ended since the last time comes with the next, to all: nothing is told twice.
            latest = self._recent.latest(MOST_DECISIONS)
            told = [seen for seen in latest if seen.number <= self._told]
            yield _event("snapshot", self.snapshot(told))
            while not self._closed and (event := await watcher.get()):
                yield event
        finally:
            self._watchers.discard(watcher)

    def snapshot(self, decisions: list[Seen] | None = None) -> dict[str, Any]:
        """Return how everything stands; `decisions` are told with it."""
        door, now = self._door, self._door.clock()
        dispatcher = door.dispatcher
        waiting = dispatcher.waiting_by_rank
        report = self.slo.report(now)
        return {
            **self._versions(),
            "draining": self._overview.draining,
            "in_flight": len(door.active) - sum(waiting),
            "requests": self._recent.count,
            "objective": report["objective"],
            "queue": dict(zip(SlaClass, waiting, strict=True)),
            "endpoints": [endpoint_row(each, now) for each in dispatcher.endpoints.values()],
            "classes": {
                name: {"windows": windows, "trend": self._trends[name].points(now)}
                for name, windows in report["classes"].items()
            },
            "away": self._away(now),
            "variants": self.compared.report(),
            "decisions": [row(each) for each in decisions or ()],
            "events": self._events[-50:],
        }

    def _tell(self, now: float) -> None:
        fresh = self._recent.since(self._told)[-MOST_DECISIONS:]
        self._told = self._recent.count
        if not self._watchers:
            return
        event = _event("snapshot", self.snapshot(fresh[::-1]))
        for watcher in self._watchers:
            _put(watcher, event)

    def _away(self, now: float) -> dict[str, Any]:
        """Return what spill brings: requests that another pool took, and how they fared."""
        taken = met = judged = served = 0
        for seen in self._recent.latest(2000):
            if seen.ended_at < now - AWAY_S:
                break
            served += seen.flight is not None
            if seen.flight is not None and seen.flight.reason is Reason.SPILL:
                taken += 1
                judged += seen.met is not None
                met += seen.met is True
        return {
            "requests": taken,
            "share": taken / served if served else None,
            "met": met / judged if judged else None,
        }

    def _note_states(self) -> None:
        """Note endpoints whose state is another than before."""
        endpoints = self._door.dispatcher.endpoints
        for id_, endpoint in endpoints.items():
            state, before = endpoint.health.state, self._states.get(id_)
            if before is not None and state is not before:
                self._events = [
                    *self._events[-199:],
                    {
                        "at": self._versions()["at"],
                        "endpoint": id_,
                        "from": before,
                        "to": state,
                        "why": why(endpoint, self._door.clock()),
                    },
                ]
            self._states[id_] = state


def tell_metrics(metrics: Metrics, live: Live, clock: Callable[[], float]) -> None:
    """Have promises and variants read at every scrape."""

    def burning() -> Rows:
        live.count()
        return [((each, window), rate) for each, window, rate in live.slo.burning(clock())]

    metrics.read(families.BURN_RATE, burning)
    metrics.read(families.VARIANT_REQUESTS, live.compared.counts)


def endpoint_row(endpoint: EndpointState, now: float) -> dict[str, Any]:
    """Return all that is known of one endpoint; times in seconds."""
    plan, load = endpoint.plan, endpoint.load
    return {
        "id": endpoint.id,
        "pool": plan.pool,
        "profile": plan.profile,
        "models": sorted(plan.models),
        "weight": plan.weight,
        "state": endpoint.health.state,
        "why": why(endpoint, now),
        "in_flight": endpoint.in_flight,
        "slots": endpoint.slots,
        "held": dict(zip(SlaClass, endpoint.held, strict=True)),
        "pending_prompt_tokens": endpoint.pending_prompt_tokens,
        "kv_tokens": endpoint.kv_tokens,
        "first_token_s": endpoint.first_token_s(now),
        "running": load.running if load else None,
        "waiting": load.waiting if load else None,
        "kv_usage": load.kv_usage if load else None,
        "sent": endpoint.sent,
        "completed": endpoint.completed,
        "failed": endpoint.failed,
        "busy": endpoint.busy,
        "rejected": endpoint.rejected,
        "abandoned": endpoint.abandoned,
    }


def why(endpoint: EndpointState, now: float) -> str:
    """Return in words why an endpoint is in its state."""
    health = endpoint.health
    if now < health.busy_until:
        busy = f"; said that it is busy for {health.busy_until - now:.1f} s more"
    else:
        busy = ""
    match health.state:
        case State.UP:
            return f"takes requests{busy}"
        case State.DRAINING:
            return f"drained by an operator; {endpoint.in_flight} requests still run"
        case State.DOWN if health.probed_down:
            return f"{health.failed_probes} probes failed in a row; up again after a good one"
        case State.DOWN:
            return (
                f"requests failed in a row; tried again in {max(0.0, health.retry_at - now):.1f} s"
            )
        case State.TRIAL:
            return "was down; one request at a time until one succeeds"
        case _:
            return f"{health.failures} requests failed in a row{busy}"


def _event(name: str, document: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        name.encode(),
        orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS),
    )


def _put(watcher: asyncio.Queue[bytes], event: bytes) -> None:
    """Hand an event on; a watcher that is far behind misses the oldest."""
    if watcher.full():
        watcher.get_nowait()
    watcher.put_nowait(event)
