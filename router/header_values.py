"""How the value of one request header is read: each function takes one form and refuses the rest.

A refusal is a `BadRequest` that names the header, the value and what would be right. Values come
without surrounding white space. Each pattern takes time linear in a value, or the value is short.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

from router.errors import BadRequest, bad_header

_Word = TypeVar("_Word")

_DECIMAL = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")
_INTEGER = re.compile(rb"[+-]?\d{1,18}")
_GRPC_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_GRPC_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_LONGEST_LIST_BYTES = 512
_MEMBER = re.compile(rb'(?:[^,"]|"(?:[^"\\]|\\.)*"|")+')
_PRIORITY_MEMBER = re.compile(rb"([a-z*][a-z0-9_.*-]*)(?:=([^;]*))?(?:;.*)?")
_URGENCIES = {b"%d" % urgency: urgency for urgency in range(8)}
_REQUEST_ID = re.compile(rb"[\w.:~@+=/-]{1,128}")
_PRINTABLE = re.compile(rb"[ -~]{1,256}")


def bad(name: bytes, value: bytes, right: str) -> BadRequest:
    """Return what to raise for a malformed value; `right` is a noun phrase."""
    return BadRequest(bad_header(name.decode(), text(value), right))


def text(value: bytes) -> str:
    """Return a value as the text that its bytes are in a header. Source: RFC 9110, section 5.5."""
    return value.decode("latin-1")


def number(name: bytes, value: bytes, unit: str) -> float:
    """Read a positive decimal below 10^9: no sign, no exponent, no infinity."""
    amount = float(value) if _DECIMAL.fullmatch(value) else 0.0
    if amount <= 0:
        raise bad(name, value, f"a positive number of {unit} below 1000000000, such as 500")
    return amount


@lru_cache(maxsize=1024)
def milliseconds(name: bytes, value: bytes) -> float:
    """Read a number of milliseconds; return seconds. Kept, as callers send the same few."""
    return number(name, value, "milliseconds") / 1e3


def integer(name: bytes, value: bytes) -> int:
    """Read an integer of at most 18 digits."""
    if not _INTEGER.fullmatch(value):
        raise bad(name, value, "an integer, such as -1")
    return int(value)


def word(name: bytes, value: bytes, words: Mapping[bytes, _Word]) -> _Word:
    """Read one of `words`, in any case."""
    meaning = words.get(value)
    if meaning is None:
        meaning = words.get(value.lower())
    if meaning is None:
        raise bad(name, value, "one of " + ", ".join(each.decode() for each in words))
    return meaning


def opaque(name: bytes, value: bytes) -> str | None:
    """Read a name that means something to the caller alone; an empty one is None."""
    if value and not _PRINTABLE.fullmatch(value):
        raise bad(name, value, "1 to 256 printable ASCII characters")
    return value.decode() or None


def request_id(name: bytes, value: bytes) -> str | None:
    """Read an id that is fit for logs, headers and engines; an empty one is None."""
    if value and not _REQUEST_ID.fullmatch(value):
        raise bad(name, value, "1 to 128 letters, digits and any of . _ : ~ @ + = / -")
    return value.decode() or None


def grpc_timeout(name: bytes, value: bytes) -> float:
    """Read gRPC's deadline; return seconds. Source: gRPC over HTTP/2, Timeout."""
    match = _GRPC_TIMEOUT.fullmatch(value)
    if match is None or int(match[1]) == 0:
        right = "1 to 8 digits, not all 0, and one unit of H, M, S, m, u, n, such as 250m"
        raise bad(name, value, right)
    return int(match[1]) * _GRPC_UNITS_S[match[2]]


def preferred_wait(name: bytes, value: bytes) -> float | None:
    """Read the smallest `wait=`; return seconds, None without one. Source: RFC 7240, 4.3."""
    waits = []
    for member in _members(name, value):
        key, _, rest = member.partition(b"=")
        if key.rstrip().lower() == b"wait":
            seconds = rest.partition(b";")[0].strip().strip(b'"')
            if not seconds.isdigit() or not 0 < int(seconds) < 10**9:
                raise bad(name, value, "wait= and a positive number of seconds, such as wait=10")
            waits.append(float(seconds))
    return min(waits, default=None)


def urgency(name: bytes, value: bytes) -> int | None:
    """Read `u=`, 0 most urgent to 7; None without one, and the last of several.

    Source: RFC 9218, section 4.1; RFC 8941, section 3.2.
    """
    last = None
    for member in _members(name, value):
        match = _PRIORITY_MEMBER.fullmatch(member)
        if match is not None and match[1] != b"u":
            continue
        last = None if match is None else _URGENCIES.get(match[2])
        if last is None:
            raise bad(name, value, "u=0 (most urgent) to u=7, such as u=1 or u=1, i")
    return last


def _members(name: bytes, value: bytes) -> list[bytes]:
    """Split a list at its commas, but not inside quotes; empty members are none."""
    if len(value) > _LONGEST_LIST_BYTES:
        raise bad(name, value, f"a list of at most {_LONGEST_LIST_BYTES} bytes")
    members = value.split(b",") if b'"' not in value else _MEMBER.findall(value)
    return [member.strip() for member in members if member.strip()]
