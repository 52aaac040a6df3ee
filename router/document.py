"""A document somebody typed, held to a tree of dataclasses: the values, or every flaw in a sentence.

Field types and bounds are the dataclasses' own; nothing is guessed and nothing converted, save
that a whole number may stand for a float. Used for the configuration file and for policies.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from enum import EnumType
from types import NoneType
from typing import Annotated, Any, Final, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

T = TypeVar("T")

NONE: Final = "none"
"""What a person writes where a key may have no value: TOML has no word for it."""
FORBIDDING: Final = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is wrong."""

    place: str
    """Where, from the document's root: `pools[0].endpoints[1].url`; empty for the whole of it."""
    message: str
    """What is wrong, with the value, and what would be right."""


class ConfigError(ValueError):
    """A document that cannot be used, and everything that is wrong with it."""

    def __init__(self, name: str, flaws: Iterable[Flaw]) -> None:
        """`name` is what the reader calls the document, such as `headway.toml`."""
        self.name = name
        self.flaws = tuple(flaws)
        super().__init__("\n".join(self.sentences()))

    def sentences(self) -> list[str]:
        """Return one sentence a flaw, place first."""
        return [
            f"{'.'.join(filter(None, (self.name, flaw.place)))}: {flaw.message}"
            for flaw in self.flaws
        ]


class Document(Generic[T]):
    """One kind of document: how it is read and written."""

    def __init__(self, kind: type[T]) -> None:
        """`kind` is a dataclass whose `__pydantic_config__` is `FORBIDDING`."""
        self._kind = kind
        self._adapter = TypeAdapter(kind)

    def read(self, name: str, document: Mapping[str, object], **context: object) -> T:
        """Return the values; raises `ConfigError` with every flaw."""
        text = json.dumps(_cleared(self._kind, document), default=str)
        try:
            return self._adapter.validate_json(text, strict=True, context=context)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            flaws = [flaw for each in errors for flaw in _flaws(self._kind, each)]
            raise ConfigError(name, flaws) from None

    def write(self, value: T) -> dict[str, Any]:
        """Return a document that reads as this value, with every key."""
        document: dict[str, Any] = self._adapter.dump_python(value, mode="json")
        return document


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with what `over` says, table by table."""
    both = dict(under)
    for key, value in over.items():
        known = under.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            both[key] = merged(known, value)
        else:
            both[key] = value
    return both


def place(parts: Iterable[int | str]) -> str:
    """Return the way into a document as one writes it: `pools[0].labels."a.b"`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if is_bare(part) else f".{json.dumps(part)}"
    return text.removeprefix(".")


def is_bare(key: str) -> bool:
    """Tell whether TOML takes a key without quotes."""
    return key.replace("_", "").replace("-", "").isalnum() and key.isascii()


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence about a name that is not known, with those that come near it."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3) or names
    return f"unknown {what} {name!r}; known: {', '.join(near) or 'none'}"


def _cleared(kind: Any, document: Any) -> Any:
    """Return the document with None for `"none"` wherever the type allows None."""
    bare, may_be_none = _bare(kind)
    if may_be_none and document == NONE:
        return None
    if isinstance(document, Mapping):
        return {key: _cleared(_inside(bare, key), value) for key, value in document.items()}
    if isinstance(document, list):
        return [_cleared(_inside(bare, index), value) for index, value in enumerate(document)]
    return document


def _bare(kind: Any) -> tuple[Any, bool]:
    """Return a type without its bounds, and whether None is a value of it."""
    may_be_none = False
    while (origin := get_origin(kind)) is Annotated or NoneType in get_args(kind):
        may_be_none |= origin is not Annotated
        kind = next(each for each in get_args(kind) if each is not NoneType)
    return kind, may_be_none


def _inside(kind: Any, part: int | str) -> Any:
    """Return the type of one field or item; None where there is no such thing."""
    if is_dataclass(kind):
        return get_type_hints(kind, include_extras=True).get(str(part))
    arguments = get_args(kind)
    if not arguments:
        return None
    return arguments[0] if isinstance(part, int) else arguments[-1]


def _flaws(kind: Any, error: ErrorDetails) -> Iterator[Flaw]:
    where, value = error["loc"], error["input"]
    context = error.get("ctx", {})
    match error["type"]:
        case "unexpected_keyword_argument":
            known = [field.name for field in fields(_at(kind, where[:-1]))]
            yield Flaw(place(where[:-1]), unknown("key", str(where[-1]), known))
        case "missing" | "missing_argument":
            wanted = _at(kind, where)
            hint = f"; it is one of {', '.join(wanted)}" if isinstance(wanted, EnumType) else ""
            yield Flaw(place(where), f"is missing{hint}")
        case "enum":
            yield Flaw(place(where), f"must be {context['expected']}, not {_shown(value)}")
        case "value_error":
            yield Flaw(place(where), str(context["error"]))
        case "too_short" if len(value) >= context["min_length"]:
            return  # too short only without the items that have flaws of their own
        case type_ if type_ in _WANTED:
            message = f"must be {_WANTED[type_].format(**context)}, not {_shown(value)}"
            yield Flaw(place(where), message)
        case _:
            yield Flaw(
                place(where), f"{error['msg'].removeprefix('Input ').lower()}, not {_shown(value)}"
            )


def _at(kind: Any, way: Iterable[int | str]) -> Any:
    """Return the type at a place, without bounds and None."""
    for part in way:
        kind = _inside(_bare(kind)[0], part)
    return _bare(kind)[0]


_WANTED: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "an array",
    "dict_type": "a table",
    "mapping_type": "a table",
    "dataclass_type": "a table",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
}


_LONGEST_SHOWN: Final = 60


def _shown(value: object) -> str:
    """Return a wrong value as TOML or JSON would show it, cut short where it is long."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
