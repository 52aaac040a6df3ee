"""Everything that is counted, in one table, and where each number comes from.

Names are `headway_<what>_<unit>`; labels have few values, never a request id or a path; of models and
tenants there are so many and the others together.
A request only adds to plain numbers (`router.counters`); they become text when somebody scrapes.
 All state is changed here, in methods that never await.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.facts import FailureKind, Reason, RefusalReason, SlaClass
from router.counters import LAG_S, Attainment, Histogram, Latencies, Series

OTHER: Final = "other"
"""The label of every model beyond the bound."""


class Sort(StrEnum):
    """Types of metric, as Prometheus names them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"
    """Count and sum only."""
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; the name is without the suffix that its type adds (`_total`, `_bucket`, …)."""

    name: str
    sort: Sort
    documentation: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    """Empty, or what the name ends in (OpenMetrics asks for that)."""


_C, _G, _H, _S = Sort.COUNTER, Sort.GAUGE, Sort.HISTOGRAM, Sort.SUMMARY
_PLACE: Final = ("pool", "endpoint", "class", "model")
_HOME: Final = ("pool", "class", "model")
_GOAL: Final = ("class", "model")

# fmt: off
# Counted on the way.
REQUESTS = Family("headway_requests", _C, "Requests sent to an endpoint, by how they ended.", (*_PLACE, "outcome"))
PROMPT_TOKENS = Family("headway_prompt_tokens", _C, "Tokens read by engines.", _PLACE)
OUTPUT_TOKENS = Family("headway_output_tokens", _C, "Tokens written by engines.", _PLACE)
ENDPOINT_FIRST_TOKEN = Family("headway_endpoint_first_token_seconds", _S, "Arrival to first token, by endpoint.", _PLACE, "seconds")
FIRST_TOKEN = Family("headway_first_token_seconds", _H, "Arrival to first token.", _HOME, "seconds")
PER_TOKEN = Family("headway_per_output_token_seconds", _H, "Mean time per output token after the first, once a request.", _HOME, "seconds")
QUEUE = Family("headway_queue_seconds", _H, "Time waited in the router.", _HOME, "seconds")
OVERHEAD = Family("headway_overhead_seconds", _H, "The router's own time, once a request.", _HOME, "seconds")
OFFERED = Family("headway_offered", _C, "Requests with a latency target, those refused for want of room included.", _GOAL)
ATTAINED = Family("headway_attained", _C, "Requests whose latency targets were met.", _GOAL)
REFUSED = Family("headway_refused", _C, "Requests not served.", ("reason", "class"))
DECISIONS = Family("headway_decisions", _C, "Requests by why they went where they went: home, spill, affinity, retry, hedge, ...", ("reason", "class"))
TRANSITIONS = Family("headway_health_transitions", _C, "Changes of an endpoint's state, by the state that it came to.", ("endpoint", "state"))
RETRIES = Family("headway_retries", _C, "Attempts that followed a failed one, by its failure.", ("reason",))
LOOP_LAG = Family("headway_event_loop_lag_seconds", _H, "How late the event loop ran a timer.", (), "seconds")

# Read at the moment of the scrape.
IN_FLIGHT = Family("headway_in_flight", _G, "Requests at an endpoint.", ("endpoint", "class"))
WAITING = Family("headway_waiting", _G, "Requests waiting in the router.", ("class",))
ENDPOINT_STATE = Family("headway_endpoint_state", _G, "1 for the state that an endpoint is in: up, suspect, trial, down or draining.", ("pool", "endpoint", "state"))
ENDPOINT_UP = Family("headway_endpoint_up", _G, "1 where requests may go, else 0.", ("pool", "endpoint"))
ENGINE_RUNNING = Family("headway_engine_running", _G, "Requests running, in the engine's words.", ("endpoint",))
ENGINE_WAITING = Family("headway_engine_waiting", _G, "Requests queued in the engine, in its words.", ("endpoint",))
ENGINE_KV_USAGE = Family("headway_engine_kv_usage_ratio", _G, "Share of the KV cache in use, in the engine's words.", ("endpoint",), "ratio")
PREDICTION_BOUND = Family("headway_prediction_bound_ratio", _G, "What nine in ten answers take at most, over what was predicted.", ("pool", "measure"), "ratio")
PREDICTED_PREFILL = Family("headway_predicted_prompt_token_seconds", _G, "What reading one prompt token is taken to cost.", ("pool",), "seconds")
PREDICTED_STEP = Family("headway_predicted_step_seconds", _G, "What one step of an idle engine is taken to cost.", ("pool",), "seconds")
CONNECTIONS = Family("headway_open_connections", _G, "Open connections, to callers and to engines.", ("side",))
TASKS = Family("headway_tasks", _G, "Tasks of the event loop: the router's own work, and connections that are being made.")
LOG_LINES_LOST = Family("headway_log_lines_lost", _C, "Log lines dropped because their target could not keep up.", ("log",))
REPLICAS = Family("headway_replicas", _G, "Routers that share the fleet, this one included.")
REPLICA_MODE = Family("headway_replica_mode", _G, "1 for how this router stands with the others: joining, shared or alone.", ("replica", "mode"))
REPLICA_EXCHANGES = Family("headway_replica_exchanges", _C, "Exchanges with the board, by whether it answered.", ("outcome",))
REPLICA_EXCHANGE = Family("headway_replica_exchange_seconds", _G, "What the last exchange with the board took.", (), "seconds")
BULK_PERMITS = Family("headway_bulk_permits", _G, "Bulk requests that this router may have at an endpoint.", ("endpoint",))
AUTH_FAILURES = Family("headway_auth_failures", _C, "Requests that no key opened the router for.", ("reason",))
JWKS_READS = Family("headway_jwks_reads", _C, "Readings of the token issuer's public keys, by whether there were any to be had.", ("outcome",))
JWKS_AGE = Family("headway_jwks_age_seconds", _G, "Time since the token issuer's public keys were last read; from the start where they never were.", (), "seconds")
JWKS_KEYS = Family("headway_jwks_keys", _G, "Public keys of the token issuer that tokens can be verified with.")
TOKENS_KNOWN = Family("headway_tokens_known", _G, "Tokens that are remembered as verified.")
LIMITED = Family("headway_limited", _C, "Requests over a limit of their key or tenant.", ("kind",))
LOWERED = Family("headway_class_lowered", _C, "Requests for a class above their caller's highest.")
TENANT_REQUESTS = Family("headway_tenant_requests", _C, "Requests of holders of keys that have ended.", ("tenant",))
TENANT_TOKENS = Family("headway_tenant_tokens", _C, "Tokens of holders of keys, prompt and answer.", ("tenant",))
BURN_RATE = Family("headway_slo_burn_rate_ratio", _G, "Share of requests that missed their targets, over the share that may; with administration.", ("class", "window"), "ratio")
VARIANT_REQUESTS = Family("headway_variant_requests", _C, "Requests that a variant of a model served, by how they ended; with administration.", ("model", "variant", "outcome"))
COPIES = Family("headway_copies_in_flight", _G, "Copies of requests under way at a model's shadow.", ("model",))
COPIES_DROPPED = Family("headway_copies_dropped", _C, "Copies that were due while the shadow had no room.", ("model",))
SPANS = Family("headway_trace_spans", _C, "Spans of traced requests, by what became of them: exported, failed (the collector did not take them) or dropped (no room); with tracing.", ("outcome",))
BUILD = Family("headway_build", Sort.INFO, "What is running.", ("version", "python"))
# fmt: on

READ: Final = (
    *(IN_FLIGHT, WAITING, ENDPOINT_UP, ENDPOINT_STATE, BURN_RATE, VARIANT_REQUESTS),
    *(COPIES, COPIES_DROPPED, TRANSITIONS, SPANS),
    *(ENGINE_RUNNING, ENGINE_WAITING, ENGINE_KV_USAGE),
    *(PREDICTION_BOUND, PREDICTED_PREFILL, PREDICTED_STEP),
    *(CONNECTIONS, TASKS, LOG_LINES_LOST, BUILD),
    *(JWKS_READS, JWKS_AGE, JWKS_KEYS, TOKENS_KNOWN),
    *(AUTH_FAILURES, LIMITED, LOWERED, TENANT_REQUESTS, TENANT_TOKENS),
    *(REPLICAS, REPLICA_MODE, REPLICA_EXCHANGES, REPLICA_EXCHANGE, BULK_PERMITS),
)

_CALLERS_OWN: Final = frozenset(
    {RefusalReason.UNKNOWN_MODEL, RefusalReason.UNSUPPORTED, RefusalReason.TOO_LONG}
)
"""Refusals that no amount of room would have changed: no target was missed by them."""

Rows = Iterable[tuple[tuple[str, ...], float]]
"""Label values in the family's order, and the value."""
Distributions = Iterable[tuple[tuple[str, ...], Histogram]]


class Metrics:
    """The process's counts."""

    def __init__(self, *, max_models: int = 64) -> None:
        self.loop_lag = Histogram(LAG_S)
        self._max_models = max_models
        self._models: set[str] = set()
        self._series: dict[tuple[str, str, SlaClass, str], Series] = {}
        self._latencies: dict[tuple[str, SlaClass, str], Latencies] = {}
        self._attainments: dict[tuple[SlaClass, str], Attainment] = {}
        self._refused: dict[tuple[RefusalReason, SlaClass], int] = {}
        self._retries = dict.fromkeys(FailureKind, 0)
        self._decisions: dict[tuple[Reason, SlaClass], int] = {}
        self._rows: dict[Family, Callable[[], Rows]] = {
            REQUESTS: self._requests,
            PROMPT_TOKENS: lambda: ((p, s.prompt_tokens) for p, s in list(self._series.items())),
            OUTPUT_TOKENS: lambda: ((p, s.output_tokens) for p, s in list(self._series.items())),
            OFFERED: lambda: [(goal, a.offered) for goal, a in self._attainments.items()],
            ATTAINED: lambda: [(goal, a.attained) for goal, a in self._attainments.items()],
            REFUSED: lambda: list(self._refused.items()),
            DECISIONS: lambda: list(self._decisions.items()),
            RETRIES: lambda: [((kind,), count) for kind, count in self._retries.items()],
        }
        self._distributions: dict[Family, Callable[[], Distributions]] = {
            ENDPOINT_FIRST_TOKEN: lambda: [(p, s.first_token) for p, s in self._series.items()],
            FIRST_TOKEN: lambda: [(h, each.first_token) for h, each in self._latencies.items()],
            PER_TOKEN: lambda: [(h, each.per_token) for h, each in self._latencies.items()],
            QUEUE: lambda: [(h, each.queue) for h, each in self._latencies.items()],
            OVERHEAD: lambda: [(h, each.overhead) for h, each in self._latencies.items()],
            LOOP_LAG: lambda: [((), self.loop_lag)],
        }

    def series(self, pool: str, endpoint: str, sla_class: SlaClass, model: str) -> Series:
        """Return the counts of one endpoint, class and model: the same object every time."""
        known = self._series.get((pool, endpoint, sla_class, model))
        return known or self._open(pool, endpoint, sla_class, self._bounded(model))

    def refused(self, reason: RefusalReason, sla_class: SlaClass, model: str) -> None:
        """Count a request that was not served; it missed its target, unless the fault was its own.

        Counting refusals as misses keeps an admission that refuses much from looking good.
        """
        key = (reason, sla_class)
        self._refused[key] = self._refused.get(key, 0) + 1
        if reason not in _CALLERS_OWN:
            self._attainment(sla_class, self._bounded(model)).offered += 1

    def retried(self, kind: FailureKind) -> None:
        """Count an attempt that followed a failed one."""
        self._retries[kind] += 1

    def decided(self, reason: Reason, sla_class: SlaClass) -> None:
        """Count a request that was sent somewhere for a reason."""
        key = (reason, sla_class)
        self._decisions[key] = self._decisions.get(key, 0) + 1

    def read(self, family: Family, rows: Callable[[], Rows]) -> None:
        """Have a family of `READ` read by calling `rows` at each scrape; the last one given wins."""
        if family not in READ:
            raise ValueError(f"{family.name!r} is counted, not read")
        self._rows[family] = rows

    def forget(self, endpoint: str) -> None:
        """Drop the series of an endpoint that was removed; its pool's distributions stay."""
        for key in [key for key in self._series if key[1] == endpoint]:
            del self._series[key]

    def families(self) -> Iterator[tuple[Family, Rows | Distributions]]:
        """Yield every family with its values; both may be consumed slowly while counts go on."""
        for family, rows in list(self._rows.items()):
            yield family, rows()
        for family, distributions in self._distributions.items():
            yield family, distributions()

    def _bounded(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= self._max_models:
                return OTHER
            self._models.add(model)
        return model

    def _open(self, pool: str, endpoint: str, sla_class: SlaClass, model: str) -> Series:
        place = (pool, endpoint, sla_class, model)
        if place not in self._series:
            latencies = self._latencies.setdefault((pool, sla_class, model), Latencies())
            self._series[place] = Series(latencies, self._attainment(sla_class, model))
        return self._series[place]

    def _attainment(self, sla_class: SlaClass, model: str) -> Attainment:
        return self._attainments.setdefault((sla_class, model), Attainment())

    def _requests(self) -> Rows:
        for place, series in list(self._series.items()):
            for ending, count in series.outcomes.items():
                yield (*place, ending), count
