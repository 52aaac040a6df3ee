"""What one replica tells the others, and its text on the board.

A text is written and read twenty times a second for every replica, so rows are plain and short, and
what did not change since the text before is not read again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from engines.engine import EngineLoad
from policies.latency import Lesson

VERSION: Final = 2
"""Replicas of another version are counted, and not understood."""


class Mode(StrEnum):
    """How a replica stands with the others."""

    JOINING = "joining"
    """It has not reached the board yet."""
    SHARED = "shared"
    """It knows what the others have."""
    ALONE = "alone"
    """It has not reached the board for a while: it keeps to its share of every cap."""


class Work(NamedTuple):
    """What a replica has at one endpoint."""

    interactive: int = 0
    """Requests in flight of this class."""
    standard: int = 0
    bulk: int = 0
    pending_prompt_tokens: int = 0
    kv_tokens: int = 0
    first_waiting_s: float | None = None
    """Place in the order of waiting of the first bulk request that could go there, board's time."""

    @property
    def in_flight(self) -> int:
        """Requests of all classes."""
        return self.interactive + self.standard + self.bulk


NO_WORK: Final = Work()


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
    used: Mapping[str, int] = field(default_factory=dict)
    """Weighted tokens that its own requests used lately, by tenant, of those who used most."""
    lessons: Mapping[str, Lesson] = field(default_factory=dict)
    """What it has learned of engines' speed, by pool and weight, where nobody learned more."""


NOTHING: Final = Said()


def written(said: Said) -> bytes:
    """Return the text for the board."""
    document = {
        "version": VERSION,
        "host": said.host,
        "mode": said.mode,
        "waiting": said.waiting,
        # A plain tuple is written several times faster than one with names.
        "work": {name: tuple(each) for name, each in said.work.items()},
        "permits": said.permits,
        "down": said.down,
        "readings": {name: (each.at_s, each.load) for name, each in said.readings.items()},
        "used": said.used,
        "lessons": said.lessons,
    }
    # Compiled dataclasses are not what orjson takes them for: it would abort the process.
    return orjson.dumps(document, default=_plain, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return sorted(value)


def read(text: bytes, before: Said = NOTHING) -> Said:
    """Return what a text says; `NOTHING` where it cannot be understood.

    `before`: what the same replica said before, of which equal parts are kept.
    """
    try:
        document = orjson.loads(text)
        return _said(document, before) if document["version"] == VERSION else NOTHING
    except (ValueError, TypeError, KeyError):
        return NOTHING


def _said(document: Mapping[str, Any], before: Said) -> Said:
    interactive, standard, bulk = document["waiting"]
    return Said(
        host=document["host"],
        mode=Mode(document["mode"]),
        waiting=(interactive, standard, bulk),
        work={name: Work(*row) for name, row in document["work"].items()},
        permits=document["permits"],
        down=tuple(document["down"]),
        readings={
            name: _reading(at_s, load, before.readings.get(name))
            for name, (at_s, load) in document["readings"].items()
        },
        used=document["used"],
        lessons={name: _lesson(lesson) for name, lesson in document["lessons"].items()},
    )


def _lesson(said: Mapping[str, Any]) -> Lesson:
    weights = {name: tuple(said[name]) for name in ("first_token", "per_token")}
    return Lesson(**{**said, **weights})


def _reading(at_s: float, load: Mapping[str, Any], before: Reading | None) -> Reading:
    if before is not None and before.at_s == at_s:
        return before
    loras = frozenset(load["running_loras"])
    return Reading(EngineLoad(**{**load, "running_loras": loras}), at_s)
