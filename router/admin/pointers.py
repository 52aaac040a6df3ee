"""Documents as values: where something is in one, what a patch makes of it, how two differ.

Sources: RFC 6901 (JSON pointer), RFC 7396 (JSON merge patch).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_PART: Final = re.compile(r'\[(\d+)\]|\.?("(?:[^"\\]|\\.)*")|\.?([^.\[\]"]+)')


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that two documents do not share."""

    pointer: str
    """Where, as a JSON pointer."""
    before: Any
    """None where there was nothing."""
    after: Any
    """None where there is nothing."""


def pointer(parts: Sequence[str | int]) -> str:
    """Return the JSON pointer to a place; empty for the whole document."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def pointer_to(place: str) -> str:
    """Return the JSON pointer for a place as `router.document.place` writes it."""
    parts: list[str | int] = []
    for index, quoted, bare in _PART.findall(place):
        parts.append(int(index) if index else json.loads(quoted) if quoted else bare)
    return pointer(parts)


def patched(document: Any, patch: Any) -> Any:
    """Return what a merge patch makes of a document; neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = patched(result.get(key), value)
    return result


def differences(before: Any, after: Any) -> list[Difference]:
    """Return every value in which two documents differ, in order of place."""
    return list(_differences(before, after, ()))


def _differences(before: Any, after: Any, way: tuple[str | int, ...]) -> Iterator[Difference]:
    # A table that was not there, or is no more, is told by what is in it.
    before, after = _table(before, after), _table(after, before)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from _differences(before.get(key), after.get(key), (*way, key))
    elif before != after:
        yield Difference(pointer(way), before, after)


def _table(value: Any, other: Any) -> Any:
    """Return a value, an empty table where there is none beside a table that holds something."""
    return {} if value is None and isinstance(other, Mapping) and other else value
