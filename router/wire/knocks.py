"""Requests that differ from one that was refused by nothing but the key in them.

Whoever tries keys says the same again and again but for the key, and none of it has to be parsed
to be refused. What is found here is refused or goes to the parser; it never lets anybody in.
"""

import re
from typing import Final

from router.wire.heads import MAX_KNOWN_BYTES, MAX_LENGTH_DIGITS, RequestHead, split_head

_KEY: Final = re.compile(rb"[A-Za-z0-9._~+/=-]{1,2048}")
"""What stands for itself in a header: RFC 9110, section 11.2."""
_LENGTH: Final = re.compile(rb"[0-9]{1,%d}" % MAX_LENGTH_DIGITS)


class RefusedHead:
    """A head as it came, around the key in it and the length of the body."""

    __slots__ = ("_first", "_key_first", "_last", "_middle", "head")

    def __init__(
        self, first: bytes, middle: bytes, last: bytes, head: RequestHead, *, key_first: bool
    ) -> None:
        self._first = first
        self._middle = middle
        self._last = last
        self._key_first = key_first
        """The key comes before the length."""
        self.head = head

    def read(self, data: bytes, at: int, max_body_bytes: int) -> tuple[bytes, int] | None:
        """Return the key, and where it ends, of a whole request at `at` that has this head."""
        if not data.startswith(self._first, at):
            return None
        one, other = (_KEY, _LENGTH) if self._key_first else (_LENGTH, _KEY)
        found = one.match(data, at + len(self._first))
        if found is None or not data.startswith(self._middle, found.end()):
            return None
        next_ = other.match(data, found.end() + len(self._middle))
        if next_ is None or not data.startswith(self._last, next_.end()):
            return None
        key, length = (found, next_) if self._key_first else (next_, found)
        size = int(length[0])
        end = next_.end() + len(self._last) + size
        return (key[0], end) if end <= len(data) and size <= max_body_bytes else None


def refused_head(data: bytes, key: bytes, head: RequestHead) -> RefusedHead | None:
    """Return how `data` begins around the key in its head; None where that is not plain.

    `data` is one whole request, read by the parser. The key stands in its head once and at the
    end of its line, and the head announces a length: so whatever stands in its place there makes
    no other header, and no other length.
    """
    found = split_head(data)
    if found is None or not head.keep_alive or not _KEY.fullmatch(key):
        return None
    before, after, start, size = found
    end, rest = len(before), start - len(after)
    at = data.find(key, 0, start)
    past = at + len(key)
    alone = data.count(key, 0, start) == 1 and data.startswith(b"\r\n", past)
    apart = past <= end or at >= rest
    if start > MAX_KNOWN_BYTES or len(data) - start != size or not alone or not apart:
        return None
    if past <= end:
        return RefusedHead(data[:at], data[past:end], after, head, key_first=True)
    return RefusedHead(before, data[rest:at], data[past:start], head, key_first=False)
