"""What one replica tells the others, and its text on the board."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from engines.engine import EngineLoad

VERSION: Final = 1
"""Replicas of another version are counted, and not understood."""


class Mode(StrEnum):
    """How a replica stands with the others."""

    JOINING = "joining"
    """It has not reached the board yet."""
    SHARED = "shared"
    """It knows what the others have."""
    ALONE = "alone"
    """It has not reached the board for a while: it keeps to its share of every cap."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a replica has at one endpoint."""

    in_flight: tuple[int, int, int] = (0, 0, 0)
    """Requests by rank of class."""
    pending_prompt_tokens: int = 0
    kv_tokens: int = 0
    first_waiting_s: float | None = None
    """Place in the order of waiting of the first bulk request that could go there, board's time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An engine's gauges, as one replica has read them for all."""

    load: EngineLoad
    at_s: float
    """Board's time."""


@dataclass(frozen=True, slots=True)
class Said:
    """All that a replica says at one moment."""

    host: str = ""
    """Where it runs; for people."""
    mode: Mode = Mode.JOINING
    waiting: tuple[int, int, int] = (0, 0, 0)
    """Requests that wait in it, by rank of class."""
    work: Mapping[str, Work] = field(default_factory=dict)
    """By endpoint id, of those where there is any."""
    permits: Mapping[str, int] = field(default_factory=dict)
    """Bulk requests that it may have, by endpoint id."""
    down: tuple[str, ...] = ()
    """Endpoints that it sends nothing to because they failed."""
    readings: Mapping[str, Reading] = field(default_factory=dict)
    """By endpoint id, of those that it asks for all."""


NOTHING: Final = Said()


def written(said: Said) -> bytes:
    """Return the text for the board; whatever is 0 is left out."""
    work = {
        name: (*each.in_flight, each.pending_prompt_tokens, each.kv_tokens, each.first_waiting_s)
        for name, each in said.work.items()
    }
    readings = {name: (each.at_s, each.load) for name, each in said.readings.items()}
    document = {
        "version": VERSION,
        "host": said.host,
        "mode": said.mode,
        "waiting": said.waiting,
        "work": work,
        "permits": said.permits,
        "down": said.down,
        "readings": readings,
    }
    return orjson.dumps(document, default=sorted)


def read(text: bytes) -> Said:
    """Return what a text says; `NOTHING` where it cannot be understood."""
    try:
        document = orjson.loads(text)
        return _said(document) if document["version"] == VERSION else NOTHING
    except (ValueError, TypeError, KeyError):
        return NOTHING


def _said(document: Mapping[str, Any]) -> Said:
    interactive, standard, bulk = document["waiting"]
    return Said(
        host=document["host"],
        mode=Mode(document["mode"]),
        waiting=(interactive, standard, bulk),
        work={
            name: Work((high, middle, low), pending, kv, first)
            for name, (high, middle, low, pending, kv, first) in document["work"].items()
        },
        permits=document["permits"],
        down=tuple(document["down"]),
        readings={
            name: Reading(_load(load), at_s) for name, (at_s, load) in document["readings"].items()
        },
    )


def _load(fields: Mapping[str, Any]) -> EngineLoad:
    return EngineLoad(**{**fields, "running_loras": frozenset(fields["running_loras"])})
