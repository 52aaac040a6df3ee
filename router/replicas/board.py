"""The seam: a board on which every replica says what it has, and reads what the others have.

All of it happens in one atomic exchange, several times a second. Values are absolute and live for
seconds, so that a replica that dies leaves nothing behind. What must hold, for every endpoint:

1. The permits that a board has given away are at most the cap, unless replicas claim to hold more.
2. A replica is given no more than it wants, and never less than it says that it holds.
3. A replica not heard of for a life is forgotten, permits and all.
4. A board that is young, was silent for a life, or lives on another server than before gives away
   nothing for a life: there may be replicas that it has not heard of yet.
5. What arrives late, after a later word of the same replica, changes nothing.

Times on the board are the board's own, in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

LIFE_S: Final = 2.0
"""How long a replica counts as alive after its last word."""


class BoardFailed(Exception):
    """The board did not answer, or not as it should; the text says how."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a replica asks for at one endpoint; counts of requests."""

    keep: int
    """Permits that it holds and does not give back."""
    want: int
    """Permits that it would like to hold, at least `keep`."""
    cap: int
    """What all replicas together may hold."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a replica says at one moment. It replaces all that it said before."""

    replica: str
    number: int
    """Ascending with each word."""
    text: bytes
    """For the other replicas; the board does not read it."""
    claims: Mapping[str, Claim] = field(default_factory=dict)
    """By endpoint id."""


@dataclass(frozen=True, slots=True)
class View:
    """What the board answers."""

    now_s: float
    """The board's time."""
    texts: Mapping[str, bytes]
    """The last text of every living replica, by its name, the caller's included."""
    permits: Mapping[str, int]
    """What the caller holds from here on, by endpoint id, for all that it claimed."""
    cautious: bool
    """Nothing is given away at present; see rule 4."""


class Board(Protocol):
    """Where replicas meet. Every call may raise `BoardFailed`, and may take as long as it likes."""

    async def exchange(self, word: Word) -> View:
        """Replace what a replica said before, and return what there is."""
        ...

    async def look(self) -> View:
        """Return what there is and change nothing; it holds no permits."""
        ...

    async def leave(self, replica: str) -> None:
        """Forget a replica."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
