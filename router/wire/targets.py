"""Request targets that two parsers might take for different paths, or for none.

Whoever stands in front may let some paths through and others not, and may judge them before or
after decoding them and taking the dots out. So a path that would change by that is refused.
Source: RFC 9112, section 3.2; RFC 3986, sections 3.3 and 6.2.2.
"""

import re
from typing import Final

AUTHORITY: Final = re.compile(rb"(?:[\w.~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")
"""A host, and perhaps a port; no user. (A name with a comma is a list of two.)"""
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(?:[/?].*)?", re.DOTALL)
_PATH = re.compile(rb"(?:/(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)+")
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_NEVER_ENCODED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._\\\x7f" + bytes(range(32))
)
"""Letters and digits, which need no encoding, and what no name of ours holds."""
_PREFIX_SEGMENTS: Final = 3
"""An encoded slash is a part of a name, never of what routes begin with: `/v1/models`."""


def doubtful_target(target: bytes) -> str | None:
    """Say what is wrong with a target that does not begin with a slash; None where nothing is."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return f"the request target {target.decode('latin-1')!r} is not a path"
    if not AUTHORITY.fullmatch(absolute[1]):
        shown = absolute[1].decode("latin-1")
        return f"{shown!r} in the request target is not a host, with or without a port"
    return None


def doubtful_path(path: bytes) -> str | None:
    """Say why others might read a path otherwise; None where they cannot."""
    shown = path.decode("latin-1")
    if not _PATH.fullmatch(path):
        return f"the path {shown!r} holds a character that must be percent-encoded, or a bare '%'"
    segments = path.split(b"/")
    if b"" in segments[1:-1] or (len(path) > 1 and path.startswith(b"//")):
        return f"the path {shown!r} has an empty segment; write one slash"
    if any(segment.partition(b";")[0] in {b".", b".."} for segment in segments):
        return f"the path {shown!r} has dot segments; write it without"
    return _doubtful_encoding(path, segments, shown) if b"%" in path else None


def _doubtful_encoding(path: bytes, segments: list[bytes], shown: str) -> str | None:
    decoded = [int(digits, 16) for digits in _ENCODED.findall(path)]
    if not _NEVER_ENCODED.isdisjoint(decoded):
        return f"the path {shown!r} encodes what must be written as it is, or not at all"
    if any(b"%2f" in segment.lower() for segment in segments[:_PREFIX_SEGMENTS]):
        return f"the path {shown!r} encodes a slash; write it as it is"
    try:
        _ENCODED.sub(lambda digits: bytes([int(digits[1], 16)]), path).decode()
    except UnicodeDecodeError:
        return f"the path {shown!r} does not decode to UTF-8"
    return None
