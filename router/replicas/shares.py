"""How a cap is divided among replicas: pure arithmetic, all counts are requests."""

from collections.abc import Sequence
from typing import Final
from zlib import crc32

MOST_AT_ONCE: Final = 16
"""Permits asked for at once, at one endpoint, for bulk that waits."""
RESERVE_PART: Final = 4
"""Idle replicas together keep one part in so many of a bulk cap at hand."""


def share(cap: int, members: Sequence[str], replica: str, endpoint_id: str) -> int:
    """Return a replica's part of a cap; those of all `members` together are the cap.

    What is left over goes to other replicas at other endpoints. Who is no member gets the least.
    """
    count = max(1, len(members))
    if replica not in members:
        return cap // count
    turn = (members.index(replica) + crc32(endpoint_id.encode())) % count
    return cap // count + (turn < cap % count)


def room(free: int, count: int) -> int:
    """Return how many of `free` slots one of `count` replicas may take before it hears again.

    At least one where there is any: so together they take at most `count - 1` too many.
    """
    return max(1, free // count) if free > 0 else 0


def permits_wanted(in_use: int, waiting: int, cap: int, count: int, *, is_turn: bool) -> int:
    """Return the permits that a replica would like to hold at an endpoint.

    `is_turn`: no other replica's bulk waits before its own. Where one does, what is not in use is
    given back; else some are kept at hand, so that bulk that comes need not wait for the board.
    """
    if not is_turn:
        return in_use
    at_hand = max(1, cap // (RESERVE_PART * count))
    return min(cap, in_use + max(at_hand, min(waiting, MOST_AT_ONCE)))


def reader(endpoint_id: str, members: Sequence[str]) -> str | None:
    """Return the replica that reads an endpoint's gauges for all; None where there is none.

    Every replica comes to the same, and one that comes or goes moves only its own endpoints.
    Source: Thaler and Ravishankar, Using name-based mappings to increase hit rates, 1998.
    """
    return max(members, key=lambda each: crc32(f"{each} {endpoint_id}".encode()), default=None)
