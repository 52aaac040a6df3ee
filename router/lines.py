"""Lines on their way to a slow place: taken at once, written by a thread of their own.

Whoever appends never waits, whatever the disk or the reader of a pipe does. What does not fit is
dropped and counted.
"""

import os
import select
import threading
from collections import deque
from pathlib import Path
from typing import Final

STANDARD_OUTPUT: Final = 1
STANDARD_ERROR: Final = 2
_BATCH_BYTES: Final = 1 << 18


class LineWriter:
    """Appends lines to a file or to an open descriptor, in order.

    Only one thread at a time may append. A file that was moved away or deleted is opened afresh
    at the next write, so a rotation needs no signal. Several processes may share a file: what is
    written at once ends with a line.
    """

    def __init__(
        self,
        target: Path | int,
        *,
        flush_s: float = 0.25,
        flush_bytes: int = 1 << 16,
        limit_bytes: int = 1 << 23,
    ) -> None:
        """Open the target; raises OSError where that cannot be.

        Lines are written `flush_s` after they came, or once `flush_bytes` of them wait. Those that
        would make it more than `limit_bytes` are dropped.
        """
        self._path = target if isinstance(target, Path) else None
        self._file = _opened(target) if isinstance(target, Path) else target
        self._flush_s = flush_s
        self._flush_bytes = flush_bytes
        self._limit_bytes = limit_bytes
        self._lines: deque[bytes] = deque()
        # Each of the two is changed by one side only, so their difference needs no lock.
        self._taken_bytes = 0
        self._given_bytes = 0
        self._torn = False
        self._closing = False
        self._given_up = False
        self._wanted = threading.Event()
        self._writing = threading.Lock()
        self.dropped = 0
        """Lines for which there was no room."""
        self.failed = 0
        """Lines that the target refused: a full disk, a pipe that nobody reads any more."""
        self._thread = threading.Thread(target=self._run, name="headway-lines", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Take a line that ends in a newline; never waits."""
        size = len(line)
        taken = self._taken_bytes + size
        waiting = taken - self._given_bytes
        if waiting > self._limit_bytes:
            self.dropped += 1
            return
        self._lines.append(line)
        self._taken_bytes = taken
        if waiting >= self._flush_bytes > waiting - size:
            self._wanted.set()

    def flush(self) -> None:
        """Write all that waits at this moment; may take as long as the target does.

        What comes meanwhile is left for the next time: written line by line as it comes, each
        would cost more than a request does.
        """
        with self._writing:
            left = len(self._lines)
            while left > 0 and not self._given_up and (batch := self._batch()):
                left -= len(batch)
                self._follow()
                self._write(batch)

    def close(self, timeout_s: float = 5.0) -> int:
        """Write what waits, let go of the target and return how many lines were left unwritten.

        A target that hangs is given up after `timeout_s`.
        """
        self._closing = True
        self._wanted.set()
        self._thread.join(timeout_s)
        # Its descriptor may soon be another file's: what hangs in it must be the last of it.
        self._given_up = self._thread.is_alive()
        if self._path is not None and not self._given_up:
            os.close(self._file)
        return len(self._lines)

    def _run(self) -> None:
        while not self._closing:
            self._wanted.wait(self._flush_s)
            self._wanted.clear()
            self.flush()

    def _batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size_bytes = 0
        while self._lines and size_bytes < _BATCH_BYTES:
            batch.append(self._lines.popleft())
            size_bytes += len(batch[-1])
        return batch

    def _write(self, batch: list[bytes]) -> None:
        # A line that was cut short must not swallow the one after it.
        text = memoryview(b"\n" * self._torn + b"".join(batch))
        written = 0
        try:
            while written < len(text):
                written += self._written_bytes(text[written:])
        except OSError:
            self.failed += len(batch)
            self._torn = self._torn or written > 0
        else:
            self._torn = False
        self._given_bytes += sum(map(len, batch))

    def _written_bytes(self, text: memoryview) -> int:
        try:
            return os.write(self._file, text)
        except BlockingIOError:  # somebody who shares the descriptor made it non-blocking
            select.select((), (self._file,), ())
            return 0

    def _follow(self) -> None:
        """Open the file again if the path leads elsewhere by now; keep the old one if it cannot."""
        if self._path is None:
            return
        try:
            there = self._path.stat()
        except OSError:
            there = None
        here = os.fstat(self._file)
        if there is not None and (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
            return
        try:
            fresh = _opened(self._path)
        except OSError:
            return
        os.close(self._file)
        self._file = fresh


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
