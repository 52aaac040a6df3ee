"""Several processes behind one address, each a router of its own: `server.workers`.

Every worker has a listening socket of its own on the same port (SO_REUSEPORT), made before it and
kept for the one that replaces it, so that the kernel spreads connections and none is lost to a
worker that died before it took it.
"""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from types import FrameType
from typing import Final

SHORT_S: Final = 2.0
"""A worker that lived no longer than this would not live longer the next time."""
BACKLOG: Final = 4096
_PR_SET_PDEATHSIG: Final = 1


class Workers:
    """Starts workers, replaces those that die, and stops them all; returns when none is left."""

    def __init__(
        self, serve: Callable[[socket.socket], int], listeners: list[socket.socket]
    ) -> None:
        """`serve`: runs in the child, on its socket; returns the child's exit status."""
        self._serve = serve
        self._listeners = listeners
        self._born: dict[int, tuple[int, float]] = {}
        """Number and time of birth of each child, by process id."""
        self._stopping = False
        self._failed = False

    def run(self) -> int:
        """Return 0, or 1 where a worker could not live."""
        with self._signals():
            for number in range(len(self._listeners)):
                self._start(number)
            while self._born:
                pid, status = os.wait()
                if pid in self._born:
                    self._ended(pid, os.waitstatus_to_exitcode(status))
        return 1 if self._failed else 0

    def _start(self, number: int) -> None:
        pid = os.fork()
        if pid:
            self._born[pid] = number, monotonic()
            return
        status = 1
        try:
            for wanted in (signal.SIGTERM, signal.SIGINT):
                signal.signal(wanted, signal.SIG_DFL)
            _end_with_parent()
            status = self._serve(self._listeners[number])
        finally:
            # Not `sys.exit`: what the parent does when it ends is not the child's to do.
            os._exit(status)

    def _ended(self, pid: int, status: int) -> None:
        number, born = self._born.pop(pid)
        if self._stopping:
            return
        lived_s = monotonic() - born
        sys.stderr.write(f"worker {number} ended with status {status} after {lived_s:.1f} s\n")
        if lived_s < SHORT_S:
            self._failed = True
            self._stop()
        else:
            self._start(number)

    def _stop(self) -> None:
        self._stopping = True
        for pid in self._born:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Pass on the wish to stop, and live until the workers have followed it."""

        def asked(_: int, __: FrameType | None) -> None:
            self._stop()

        before = {each: signal.signal(each, asked) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Return sockets that listen on the same port, any free one for port 0. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made: list[socket.socket] = []
    for _number in range(count):
        each = socket.socket(family, kind, protocol)
        made.append(each)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.bind(address)
        each.listen(BACKLOG)
        # The others bind to what the first was given.
        address = each.getsockname()
    return made


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, where it can. Source: prctl(2)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
