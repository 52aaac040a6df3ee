"""One document and its versions: changed by one writer at a time, stored before it takes effect.

The document in effect is changed between two requests: `adopt` never awaits. A change is
acknowledged when it is durable and in effect; one that cannot be stored changes nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any, Generic, TypeVar

import orjson

from router.admin.pointers import Difference, differences
from router.admin.revisions import KEPT, Revision, Store, Superseded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Author:
    """Who asks for a change, from where and why."""

    who: str
    origin: str
    reason: str


class Stale(Exception):
    """The change was made for another version than the present one."""

    def __init__(self) -> None:
        super().__init__(
            "somebody changed it since: GET it again and send its ETag as If-Match, with a change"
            " made to that"
        )


class UnknownVersion(Exception):
    """No such version is kept; `known` are those that are."""

    def __init__(self, version: int, known: Sequence[int]) -> None:
        super().__init__(f"no version {version} is kept; kept: {known[0]} to {known[-1]}")


class Ledger(Generic[T]):
    """The history of one document and its present value."""

    def __init__(  # noqa: PLR0913 # all that a document needs
        self,
        store: Store,
        base: T,
        *,
        read: Callable[[dict[str, Any]], T],
        write: Callable[[T], dict[str, Any]],
        adopt: Callable[[T], None],
        wall_clock: Callable[[], float],
        changed: Callable[[Revision, list[Difference]], None] = lambda _, __: None,
    ) -> None:
        """`base` is what the configuration file says, in effect already.

        `read` may raise `ConfigError`; `adopt` puts a value into effect, at once; `changed` is told
        of each change made here.
        """
        self._store = store
        self._base = base
        self._read = read
        self._write = write
        self._adopt = adopt
        self._wall_clock = wall_clock
        self._changed = changed
        self._revisions: list[Revision] = []
        self._changing = asyncio.Lock()
        self.value = base
        self.document = write(base)
        self.version = 0

    @property
    def etag(self) -> str:
        """The present version as an entity tag; the digest tells one file's version 0 from another's."""
        digest = blake2s(orjson.dumps(self.document), digest_size=4).hexdigest()
        return f'"{self.version}-{digest}"'

    @property
    def history(self) -> list[Revision]:
        """All that is kept, oldest first; version 0 is not among it."""
        return self._revisions

    async def start(self) -> None:
        """Take up what the store holds; raises `NotStored`, or `ConfigError` where it is wrong."""
        self._revisions = await self._store.read()
        if self._revisions:
            self._take(self._revisions[-1])

    async def follow(self) -> bool:
        """Take up what another process has stored since; return whether there was anything."""
        async with self._changing:
            return await self._catch_up()

    async def _catch_up(self) -> bool:
        later = await self._store.read(self.version)
        if not later:
            return False
        self._revisions = [*self._revisions, *later][-KEPT:]
        self._take(later[-1])
        return True

    async def change(
        self,
        make: Callable[[dict[str, Any]], dict[str, Any]],
        author: Author,
        action: str,
        *,
        if_match: str | None,
    ) -> Revision:
        """Make the present document another; `if_match` is an entity tag, None or "*" any.

        Raises `Stale`, `NotStored`, or what `make` and `read` raise; then nothing has changed.
        """
        async with self._changing:
            if if_match not in (None, "*", self.etag):
                raise Stale
            value = self._read(make(self.document))
            return await self._append(self._write(value), author, action)

    async def roll_back(self, version: int, author: Author, *, if_match: str | None) -> Revision:
        """Make a kept version the present one, as a version of its own."""
        async with self._changing:
            document = None if version == 0 else self._stored(version).document
            if if_match not in (None, "*", self.etag):
                raise Stale
            if document is not None:
                self._read(document)
            return await self._append(document, author, f"rollback to {version}")

    def document_of(self, version: int) -> dict[str, Any]:
        """Return one version's document; raises `UnknownVersion`."""
        if version == self.version:
            return self.document
        kept = None if version == 0 else self._stored(version).document
        return self._write(self._base) if kept is None else kept

    def difference_of(self, revision: Revision) -> list[Difference]:
        """Return what a kept revision changed; empty where the version before it is forgotten."""
        try:
            before = self.document_of(revision.version - 1)
        except UnknownVersion:
            return []
        return differences(before, self.document_of(revision.version))

    def _stored(self, version: int) -> Revision:
        for each in self._revisions:
            if each.version == version:
                return each
        raise UnknownVersion(version, [0, *(each.version for each in self._revisions)])

    async def _append(
        self, document: dict[str, Any] | None, author: Author, action: str
    ) -> Revision:
        revision = Revision(
            self.version + 1,
            self._wall_clock(),
            author.who,
            author.origin,
            author.reason,
            action,
            document,
        )
        try:
            await self._store.append(revision)
        except Superseded as late:
            # Whoever is told to look again must see what came first.
            await self._catch_up()
            raise Stale from late
        self._revisions = [*self._revisions, revision][-KEPT:]
        self._take(revision)
        self._changed(revision, self.difference_of(revision))
        return revision

    def _take(self, revision: Revision) -> None:
        document = revision.document
        value = self._base if document is None else self._read(document)
        self._adopt(value)
        self.value = value
        self.document = self._write(value)
        self.version = revision.version
