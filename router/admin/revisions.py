"""The versions of a document that is changed at run time, and the seam behind which they are kept.

A store holds revisions in order, each one version above the one before. What `append` has returned
for is durable: it is there after a crash at any moment.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

KEPT: Final = 1000
"""Revisions that a store remembers at most; older ones are forgotten first."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One acknowledged change."""

    version: int
    """From 1; 0 is what the configuration file says."""
    at_s: float
    """Since 1970."""
    who: str
    """As the caller named itself."""
    origin: str
    """The address that it came from."""
    reason: str
    action: str
    """What was asked for: put, patch, rollback, endpoint added, ..."""
    document: dict[str, Any] | None
    """The whole document as from here on; None: as the configuration file says."""


class Superseded(Exception):
    """Another change came first: the store's latest version is not the one before the revision's."""


class NotStored(Exception):
    """A revision could not be made durable, and so is not in effect; the text says why."""


class Store(Protocol):
    """Where the revisions of one document are kept."""

    async def read(self, after: int = -1) -> list[Revision]:
        """Return the revisions above version `after`, oldest first; raises `NotStored`."""
        ...

    async def append(self, revision: Revision) -> None:
        """Make one durable; raises `Superseded` or `NotStored`, and then it is not there."""
        ...


class MemoryStore:
    """Keeps revisions for as long as the process lives."""

    def __init__(self) -> None:
        self._revisions: list[Revision] = []

    async def read(self, after: int = -1) -> list[Revision]:
        """See `Store`."""
        return [each for each in self._revisions if each.version > after]

    async def append(self, revision: Revision) -> None:
        """See `Store`."""
        latest = self._revisions[-1].version if self._revisions else 0
        if revision.version != latest + 1:
            raise Superseded
        self._revisions = [*self._revisions, revision][-KEPT:]
