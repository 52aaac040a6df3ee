"""What a request's body begins with, as hashes of ever longer beginnings.

Callers write the same fields in the same order, and each turn of a conversation repeats the turns
before it: two bodies that begin alike have prompts that begin alike, and an engine that has read
one has most of the other in its cache. No text is looked at, so it costs the same for every route.
"""

from zlib import crc32

BLOCK_BYTES = 2048
"""From one beginning to the next; a shorter body has none: reading it anew costs next to nothing."""
MOST_BLOCKS = 16
"""Beginnings of one body; what follows the last one counts for nothing."""


def beginnings_of(body: bytes) -> tuple[int, ...]:
    """Return one hash for each whole block, each of all up to its end."""
    blocks = min(MOST_BLOCKS, len(body) // BLOCK_BYTES)
    if not blocks:
        return ()
    view = memoryview(body)
    hashes, so_far = [], 0
    for at in range(0, blocks * BLOCK_BYTES, BLOCK_BYTES):
        so_far = crc32(view[at : at + BLOCK_BYTES], so_far)
        # With its length, a beginning is not taken for a longer one that happens to hash alike.
        hashes.append(so_far << 8 | at // BLOCK_BYTES)
    return tuple(hashes)
