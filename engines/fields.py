"""Reads JSON that somebody else wrote: a wrong shape becomes None or empty, never an exception."""

from collections.abc import Mapping, Sequence
from math import isfinite

import orjson

NOTHING: Mapping[str, object] = {}


def parsed(text: bytes | str) -> object:
    """Return the JSON value that `text` holds; None where it holds none (or null)."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def as_object(value: object) -> Mapping[str, object]:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else NOTHING


def as_list(value: object) -> Sequence[object]:
    """Return `value` if it is an array, else an empty one."""
    return value if isinstance(value, list) else ()


def as_text(value: object) -> str | None:
    """Return `value` if it is a string with more in it than blanks."""
    return value if isinstance(value, str) and value.strip() else None


def as_count(value: object) -> int | None:
    """Return `value` if it is a whole number of at least 0; booleans are none."""
    return value if type(value) is int and value >= 0 else None


def as_number(value: object) -> float | None:
    """Return `value` if it is a finite number; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None
