"""Reads request traces line by line: `.csv`, `.csv.gz`, `.jsonl`, `.jsonl.gz`.

The columns' names tell which of the known forms a file has; other columns are passed over. A file
of any size is read in the memory of one line. Whatever is wrong is said with file and line.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import TextIOWrapper
from math import isfinite
from pathlib import Path
from typing import Any, Final, TextIO

MAX_LINE_CHARACTERS: Final = 1 << 20
"""Longer lines are no request: the longest known, with 250 prefix blocks, has 2,000."""
MAX_TOKENS: Final = 100_000_000
"""More tokens than any request has; a larger number is a mistake in the file."""


class TraceError(ValueError):
    """A trace that cannot be used; the text says what is wrong, where, and what would be right."""

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        where = path.name if line is None else f"{path.name}, line {line}"
        super().__init__(f"{where}: {message}")
        self._made_of = path, line, message

    def __reduce__(self) -> tuple[type["TraceError"], tuple[Path, int | None, str]]:
        """Let it go from one process to another."""
        return type(self), self._made_of


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a trace."""

    line: int
    """Its line in the file, from 1."""
    at_s: float | None
    """From the first request, s; None in a file of lengths alone."""
    prompt_tokens: int
    output_tokens: int
    """At least 1: what a trace gives as 0 was cut short before its first token."""
    client: str = ""
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Form:
    """Which columns a kind of trace has."""

    prompt: str
    output: str
    at: str | None = None
    seconds: Callable[[Any], float] = float
    client: str | None = None
    prefix: str | None = None

    @property
    def required(self) -> tuple[str, ...]:
        return (
            (self.prompt, self.output) if self.at is None else (self.at, self.prompt, self.output)
        )


def _stamp_s(text: Any) -> float:
    """Read a date and time; digits beyond microseconds are cut."""
    head, dot, digits = str(text).partition(".")
    return datetime.fromisoformat(f"{head}{dot}{digits[:6]}").timestamp()


def _milliseconds(value: Any) -> float:
    return float(value) / 1000.0


_FORMS: Final = (
    _Form("ContextTokens", "GeneratedTokens", at="TIMESTAMP", seconds=_stamp_s),  # Azure
    _Form("input_tokens", "output_tokens", at="arrival_s", client="client_id"),  # ServeGen
    _Form("prompt_tokens", "output_tokens", at="arrival_s", client="tenant"),
    _Form(  # Mooncake
        "input_length",
        "output_length",
        at="timestamp",
        seconds=_milliseconds,
        prefix="hash_ids",
    ),
    _Form("num_prefill_tokens", "num_decode_tokens"),  # Vidur
    _Form("ContextTokens", "GeneratedTokens"),
    _Form("prompt_tokens", "output_tokens"),
)
"""Tried in this order."""


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the requests of a trace in order of time; raises `TraceError`, also on the way.

    Times count from the first request.
    """
    first_s: float | None = None
    latest_s = 0.0
    row = None
    for line, record, form in _records(path):
        try:
            row = _row(line, record, form)
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(path, line, str(error)) from None
        if row.at_s is not None:
            if first_s is None:
                first_s = row.at_s
            elif row.at_s < latest_s:
                raise TraceError(
                    path,
                    line,
                    f"goes back in time, by {latest_s - row.at_s:.6g} s; sort the file by {form.at!r}",
                )
            latest_s = row.at_s
            row = Row(
                line,
                row.at_s - first_s,
                row.prompt_tokens,
                row.output_tokens,
                row.client,
                row.prefix,
            )
        yield row
    if row is None:
        raise TraceError(path, None, "holds no request")


def _row(line: int, record: Mapping[str, Any], form: _Form) -> Row:
    at_s = None
    if form.at is not None:
        at_s = _read(record, form.at, form.seconds, "a time")
        if not isfinite(at_s):
            raise ValueError(f"column {form.at!r} is {record[form.at]!r}, not a time")
    client = record.get(form.client, "") if form.client else ""
    return Row(
        line,
        at_s,
        _tokens(record, form.prompt, least=1),
        max(1, _tokens(record, form.output, least=0)),
        str(client),
        _prefix(record.get(form.prefix, ())) if form.prefix else (),
    )


def _read(record: Mapping[str, Any], column: str, read: Callable[[Any], Any], what: str) -> Any:
    value = record.get(column)
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"column {column!r} is {_shown(value)}, not {what}") from None


def _tokens(record: Mapping[str, Any], column: str, *, least: int) -> int:
    tokens: int = _read(record, column, _whole, "a whole number")
    if not least <= tokens <= MAX_TOKENS:
        raise ValueError(f"column {column!r} is {tokens}; {least} to {MAX_TOKENS} would be right")
    return tokens


def _whole(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError
    return int(value)


def _prefix(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(each) is int for each in value):
        raise ValueError(f"prefix ids are {_shown(value)}, not a list of whole numbers")
    return tuple(value)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - one line of a terminal


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any], _Form]]:
    """Yield each line's number and columns, and the file's form."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    match suffixes[-1:]:
        case [".csv"]:
            read = _csv_records
        case [".jsonl"]:
            read = _json_records
        case _:
            raise TraceError(path, None, "is no trace; .csv, .csv.gz, .jsonl or .jsonl.gz would be")
    try:
        with _opened(path) as stream:
            yield from read(path, stream)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TraceError(path, None, f"cannot be read: {reason.lower()}") from None
    except UnicodeDecodeError as error:
        raise TraceError(path, None, f"is not UTF-8: {error.reason}") from None


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _lines(path: Path, stream: TextIO) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, none of them longer than a request can be."""
    number = 0
    while line := stream.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise TraceError(
                path, number, f"has more than {MAX_LINE_CHARACTERS} characters; is it a trace?"
            )
        if line.strip():
            yield number, line


def _csv_records(path: Path, stream: TextIO) -> Iterator[tuple[int, Mapping[str, Any], _Form]]:
    columns: list[str] | None = None
    form = _FORMS[0]
    for number, line in _lines(path, stream):
        try:
            (cells,) = csv.reader([line])
        except csv.Error as error:
            raise TraceError(path, number, f"is not CSV: {error}") from None
        if columns is None:
            columns = [cell.strip().removeprefix("\ufeff") for cell in cells]
            form = _form(path, number, columns)
        elif len(cells) < len(columns):
            raise TraceError(path, number, f"has {len(cells)} of {len(columns)} columns")
        else:
            yield number, dict(zip(columns, cells, strict=False)), form


def _json_records(path: Path, stream: TextIO) -> Iterator[tuple[int, Mapping[str, Any], _Form]]:
    form: _Form | None = None
    for number, line in _lines(path, stream):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise TraceError(path, number, f"is not JSON: {error.msg.lower()}") from None
        if not isinstance(record, dict):
            raise TraceError(path, number, "is no JSON object")
        form = form or _form(path, number, list(record))
        yield number, record, form


def _form(path: Path, line: int, columns: list[str]) -> _Form:
    for form in _FORMS:
        if set(form.required) <= set(columns):
            return form
    known = "; ".join(", ".join(form.required) for form in _FORMS)
    raise TraceError(
        path, line, f"has the columns {', '.join(columns)[:200]}; known sets of columns: {known}"
    )
