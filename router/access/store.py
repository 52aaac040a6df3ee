"""Where keys are kept: the seam, and a journal in memory or in a file.

A store numbers its changes, so that whoever follows it asks only for what is later. What `write`
has returned for is durable. A key is changed by whoever knows its latest revision, and by nobody
else: a revocation cannot be undone by a change that crossed it.
"""

import asyncio
import os
from pathlib import Path
from typing import Final, Protocol

import orjson
from pydantic import TypeAdapter, ValidationError

from policies.keys import Key

KEY: Final = TypeAdapter(Key)


class KeysNotKept(Exception):
    """Keys cannot be read or made durable; the text says why, and what to see to."""


class Overtaken(Exception):
    """Somebody else changed the key first."""

    def __init__(self, id_: str) -> None:
        super().__init__(f"key {id_!r} was changed by somebody else meanwhile; look at it again")


class KeyStore(Protocol):
    """Keys by id, and the order of their changes. Every call may raise `KeysNotKept`."""

    async def read(self, after: int) -> tuple[int, list[Key]]:
        """Return the latest change's number, and the keys changed after `after`, as they are."""
        ...

    async def write(self, key: Key) -> None:
        """Keep a key; raises `Overtaken` unless its revision follows the one that is kept."""
        ...


def written(key: Key) -> bytes:
    """Return a key as it is kept, on one line."""
    return orjson.dumps(KEY.dump_python(key, mode="json"))


def read_key(line: bytes, where: str) -> Key:
    """Return a key as it was kept; raises `KeysNotKept`."""
    try:
        return KEY.validate_json(line)
    except ValidationError:
        raise KeysNotKept(f"{where} is no key; mend it or take it away") from None


class Journal:
    """Keys of one process, each change a line of a file; without a path, in memory alone.

    A crash while a line is written leaves a torn last line, which nobody was told of: it is cut off.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._keys: dict[str, tuple[int, Key]] | None = None if path else {}
        self._latest = 0
        self._using = asyncio.Lock()

    async def read(self, after: int) -> tuple[int, list[Key]]:
        """See `KeyStore`."""
        async with self._using:
            keys = await self._known()
        return self._latest, [key for number, key in keys.values() if number > after]

    async def write(self, key: Key) -> None:
        """See `KeyStore`."""
        async with self._using:
            keys = await self._known()
            kept = keys[key.id][1].revision if key.id in keys else 0
            if key.revision != kept + 1:
                raise Overtaken(key.id)
            if self._path is not None:
                await asyncio.to_thread(self._append, self._path, written(key) + b"\n")
            self._latest += 1
            keys[key.id] = self._latest, key

    async def _known(self) -> dict[str, tuple[int, Key]]:
        if self._keys is None:
            self._keys = await asyncio.to_thread(self._load)
        return self._keys

    def _load(self) -> dict[str, tuple[int, Key]]:
        path = self._path
        if path is None or not path.exists():
            return {}
        try:
            text = path.read_bytes()
            *lines, torn = text.split(b"\n")
            if torn:
                os.truncate(path, len(text) - len(torn))
        except OSError as error:
            raise _failed(path, error) from error
        keys = {}
        for number, line in enumerate(lines, 1):
            key = read_key(line, f"{path}, line {number}")
            keys[key.id] = number, key
        self._latest = len(lines)
        return keys

    def _append(self, path: Path, line: bytes) -> None:
        """Add a line, whole or not at all; only the router's own user may read it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                before = os.fstat(file).st_size
                if os.write(file, line) < len(line):
                    os.ftruncate(file, before)
                    raise OSError(28, "no space left")
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> KeysNotKept:
    reason = (error.strerror or str(error)).lower()
    return KeysNotKept(f"{str(path)!r} cannot be used: {reason}; see to [state]")
