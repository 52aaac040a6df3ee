"""The workload document: what is offered, for how long, and what breaks meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Len
from pydantic import ConfigDict

from policies.facts import SlaClass
from router.document import FORBIDDING
from router.settings import Seconds, Text


@dataclass(frozen=True, slots=True)
class RateChange:
    """From a moment on, traffic comes at another rate."""

    at_s: Annotated[float, Gt(0)]
    """From the start, s."""
    times: Annotated[float, Ge(0)]
    """Factor on the traffic's own rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of one kind. Times come from chance (`rate`) or from a trace (`trace`)."""

    name: Text
    """Unique in the document."""
    sla_class: SlaClass = SlaClass.STANDARD
    """What its callers ask for."""
    rate: Annotated[float, Gt(0)] | None = None
    """Requests a second, in the mean."""
    cv: Annotated[float, Ge(0), Le(20)] = 1.0
    """Coefficient of variation of the time between two requests: 1 Poisson, more is bursty."""
    changes: tuple[RateChange, ...] = ()
    """Changes of the rate, ascending."""
    lengths: Text | None = None
    """A trace by name or path, whose pairs of prompt and output lengths are drawn at random."""
    prompt: Text | None = None
    """Or a distribution: `exp(512)`, `fixed(512)`, `uniform(1500, 4500)`, `lognormal(130, 430)`."""
    output: Text | None = None
    """The same for the output."""
    trace: Text | None = None
    """A trace by name or path, replayed with its own times, lengths and clients, again and again."""
    speed: Annotated[float, Gt(0)] = 1.0
    """The trace's times are divided by it."""
    spread_s: Annotated[float, Ge(0)] = 0.0
    """Requests of a trace that share a time are spread over so long after it: coarse clocks."""
    most_output_tokens: Annotated[int, Ge(1)] = 1 << 20
    """Longer answers are cut to it."""
    tenants: Mapping[Text, Annotated[float, Gt(0)]] = field(default_factory=dict)
    """Tenants by weight; empty: the trace's clients, else nobody in particular."""
    client_classes: Mapping[Text, SlaClass] = field(default_factory=dict)
    """Classes of a trace's clients that are not the traffic's own."""
    sessions: Annotated[int, Ge(0)] = 0
    """Sessions that requests belong to; 0: none."""
    first_token_s: Seconds | None = None
    """What answers are held to; none: the class's own target, as the next two."""
    per_token_s: Seconds | None = None
    deadline_s: Seconds | None = None
    patience_s: Seconds | None = None
    """When callers give up; none: never."""


class FaultName(StrEnum):
    """What can happen to an engine."""

    DEAD = "dead"
    """The process is gone, and its requests with it; it comes back empty."""
    HANG = "hang"
    """Nothing comes any more, while health checks pass."""
    SLOW = "slow"
    """Every step takes `factor` times as long."""
    BUSY = "busy"
    """Every request is refused at once with 429."""
    BROKEN = "broken"
    """Every request is refused at once with 500."""
    CUT = "cut"
    """Answers break off after `factor` tokens."""
    FROZEN_METRICS = "frozen_metrics"
    """Gauges stand still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that happens to one engine."""

    endpoint: Text
    """Its id: the pool's name and a number, as in `throughput-0`."""
    fault: FaultName
    at_s: Annotated[float, Ge(0)]
    """From the start, s."""
    until_s: Annotated[float, Gt(0)] | None = None
    """Until then; none: to the end."""
    factor: Annotated[float, Gt(0)] = 5.0
    """How much, for the faults that have a how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The whole document."""

    __pydantic_config__: ClassVar[ConfigDict] = FORBIDDING

    about: str = ""
    """What it is for, in a sentence."""
    duration_s: Seconds = 150.0
    """Requests come for so long."""
    warm_up_s: Annotated[float, Ge(0)] = 15.0
    """Requests of the beginning that are served and not counted."""
    traffic: Annotated[tuple[Traffic, ...], Len(1)]
    """What is offered."""
    faults: tuple[Fault, ...] = ()
    """What breaks."""
