"""The text of a key, `hw_<id>_<secret>`, and the digest that is kept of it.

The id names the key in the clear. The secret has 256 bits, so no dictionary helps against its
digest; the digest is keyed all the same, so that what is stolen from a store is of no use without
the router's own pepper. Source: RFC 7693 (BLAKE2), section 2.9.
"""

import secrets
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

START: Final = b"hw_"
ID_CHARACTERS: Final = 12
SECRET_CHARACTERS: Final = 43
LENGTH: Final = len(START) + ID_CHARACTERS + 1 + SECRET_CHARACTERS
_ID_END: Final = len(START) + ID_CHARACTERS
MOST_PEPPER_BYTES: Final = 64


def new_id() -> str:
    """Return an id that no key has."""
    return secrets.token_hex(ID_CHARACTERS // 2)


def new_text(id_: str) -> str:
    """Return the text of a key; nobody can make it again."""
    return f"{START.decode()}{id_}_{secrets.token_urlsafe(32)}"


def id_in(text: bytes) -> str | None:
    """Return the id of what looks like a key; None for what does not."""
    if len(text) != LENGTH or not text.startswith(START) or text[_ID_END] != ord("_"):
        return None
    return text[len(START) : _ID_END].decode("latin-1")


def pepper_of(text: str | None) -> bytes:
    """Return what digests are keyed with, however long its text is."""
    if text is None:
        return b"headway"
    return blake2b(text.encode(), digest_size=MOST_PEPPER_BYTES).digest()


def digest_of(text: bytes, pepper: bytes) -> bytes:
    """Return what is kept of a key."""
    return blake2b(text, key=pepper, digest_size=32).digest()


def is_same(digest: bytes, known: bytes) -> bool:
    """Tell whether two digests are the same, in the same time whatever they hold."""
    return compare_digest(digest, known)
