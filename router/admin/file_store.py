"""Revisions in a file of JSON lines, each forced to the disk before it is acknowledged.

A crash while a line is written leaves a torn last line, which was never acknowledged: it is cut off
at the next start. When the file has twice the lines that are kept, it is written anew beside itself
and put in its own place, so that there is a whole one at every moment.
"""

import asyncio
import os
from dataclasses import asdict
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from router.admin.revisions import KEPT, NotStored, Revision, Superseded

_REVISION = TypeAdapter(Revision)


class FileStore:
    """One file, one process that writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._revisions: list[Revision] | None = None
        self._lines = 0
        self._writing = asyncio.Lock()

    async def read(self, after: int = -1) -> list[Revision]:
        """See `Store`."""
        async with self._writing:
            known = await asyncio.to_thread(self._known)
        return [each for each in known if each.version > after]

    async def append(self, revision: Revision) -> None:
        """See `Store`."""
        async with self._writing:
            await asyncio.to_thread(self._append, revision)

    def _known(self) -> list[Revision]:
        if self._revisions is None:
            self._revisions = self._load()
        return self._revisions

    def _load(self) -> list[Revision]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise self._failed(error) from error
        *lines, torn = text.split(b"\n")
        revisions = []
        for number, line in enumerate(lines, 1):
            try:
                revisions.append(_REVISION.validate_json(line))
            except ValidationError:
                where = f"{self._path}, line {number}"
                message = f"{where}: is no revision; mend the line, or move the file away"
                raise NotStored(message) from None
        if torn:
            os.truncate(self._path, len(text) - len(torn))
        self._lines = len(lines)
        return revisions[-KEPT:]

    def _append(self, revision: Revision) -> None:
        known = self._known()
        if revision.version != (known[-1].version if known else 0) + 1:
            raise Superseded
        try:
            if self._lines >= 2 * KEPT:
                self._write_anew(known)
            self._write(_line(revision))
        except OSError as error:
            self._revisions = None  # what is in the file is read again before anything else
            raise self._failed(error) from error
        self._lines += 1
        self._revisions = [*known, revision][-KEPT:]

    def _write(self, line: bytes) -> None:
        """Append one line, whole or not at all."""
        is_fresh = not self._path.exists()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        before = os.fstat(file).st_size
        try:
            written = os.write(file, line)
            if written < len(line):
                os.ftruncate(file, before)
                raise OSError(28, "no space left")
            os.fsync(file)
        finally:
            os.close(file)
        if is_fresh:
            self._sync_folder()

    def _write_anew(self, revisions: list[Revision]) -> None:
        beside = self._path.with_suffix(".tmp")
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        with os.fdopen(file, "wb") as whole:
            whole.writelines(_line(each) for each in revisions)
            whole.flush()
            os.fsync(whole.fileno())
        beside.replace(self._path)
        self._sync_folder()
        self._lines = len(revisions)

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _failed(self, error: OSError) -> NotStored:
        reason = (error.strerror or str(error)).lower()
        return NotStored(f"{str(self._path)!r} cannot be written: {reason}; see to [state]")


def _line(revision: Revision) -> bytes:
    return orjson.dumps(asdict(revision), option=orjson.OPT_APPEND_NEWLINE)
