"""TOML files into plain values, and the way back."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from router.document import NONE, ConfigError, Flaw, is_bare


def parsed(path: Path) -> dict[str, Any]:
    """Return what a file says; raises `ConfigError` where it is not there or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot be read: {(error.strerror or str(error)).lower()} ({path})"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: {error.reason} at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        message = f"is not TOML: {str(error)[:1].lower()}{str(error)[1:]}"
    raise ConfigError(path.name, [Flaw("", message)])


def text(document: Mapping[str, Any]) -> str:
    """Return a document of text, numbers, booleans, None, lists, tuples and mappings as TOML.

    None is written as `"none"`, for TOML has no such value.
    """
    return "\n".join(_table(document, ())).strip() + "\n"


def _table(table: Mapping[str, Any], way: tuple[str, ...]) -> Iterator[str]:
    """Yield a table's lines: its own keys first, for a header ends the table before it."""
    for key, value in table.items():
        if not _has_header(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        inside = (*way, key)
        name = ".".join(map(_key, inside))
        if isinstance(value, Mapping) and value:
            if not all(map(_has_header, value.values())):  # else the headers below it say enough
                yield from ("", f"[{name}]")
            yield from _table(value, inside)
        elif _has_header(value):
            for item in value:
                yield from ("", f"[[{name}]]")
                yield from _table(item, inside)


def _has_header(value: object) -> bool:
    """Tell whether a value is a table with keys, or an array of nothing but tables."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping) and bool(value)


def _value(value: Any) -> str:
    match value:
        case None:
            return _quoted(NONE)
        case str():
            return _quoted(value)
        case Mapping():
            pairs = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return json.dumps(value)


def _key(key: str) -> str:
    return key if is_bare(key) else _quoted(key)


def _quoted(value: str) -> str:
    """Return a basic string; JSON's escapes are among TOML's, which wants one more."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
