"""Anything at all as one line of JSON."""

import json
from collections.abc import Mapping
from typing import Final

import orjson

_OPTIONS: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS
"""orjson reads dataclasses as if nobody had compiled them."""


def json_line(fields: Mapping[str, object]) -> bytes:
    """Return `fields` as one line that ends in a newline; what JSON has no word for, as its text."""
    try:
        return orjson.dumps(fields, default=str, option=_OPTIONS)
    except TypeError:  # half a character, or a number beyond 64 bits; a caller may send either
        return json.dumps(fields, default=str).encode() + b"\n"
