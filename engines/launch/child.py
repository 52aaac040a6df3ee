"""A Python module run as a child process that cannot outlive its parent.

The child holds the reading end of a pipe as its standard input and the parent the only writing end,
so the parent's death, by whatever means, is the end of that input; the child then ends itself.
Unlike Linux's parent-death signal this is bound to the process and not to the thread that started
the child, and it works on every system.
"""

import http.client
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

STOP_S = 5.0
"""How long a child may take to end before it is killed."""
_POLL_S = 0.02
_LOG_TAIL_LINES = 12


class ChildFailed(Exception):
    """A child that ended, or did not answer in time; the message has the end of its log."""


class Child:
    """One running child; `child` starts and stops it."""

    def __init__(self, module: str, arguments: Sequence[str], log_path: Path) -> None:
        self.module = module
        self.log_path = log_path
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 # nosec B603 # our own interpreter and modules
                [sys.executable, "-m", "engines.launch.child", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C goes to the parent, which ends children in order
            )

    @property
    def pid(self) -> int:
        """The process id, of a session of its own."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def wait_until_ready(self, url: str, timeout_s: float) -> None:
        """Return as soon as a GET of `url` is answered 200; raise `ChildFailed` if it never is."""
        give_up_at = time.monotonic() + timeout_s
        while not _answers(url):
            self.must_run()
            if time.monotonic() > give_up_at:
                raise ChildFailed(
                    f"{self.module} did not answer {url} within {timeout_s:g} s{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def must_run(self) -> None:
        """Raise `ChildFailed` if it has ended."""
        if self.exit_code is not None:
            raise ChildFailed(
                f"{self.module} ended with exit code {self.exit_code}{self._log_tail()}"
            )

    def stop(self, timeout_s: float = STOP_S) -> int:
        """End the child, by force after `timeout_s`, and return its exit code."""
        if self.exit_code is None:
            self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return self._process.wait()

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "".join(f"\n  {line}" for line in (f"log {self.log_path}:", *lines))


@contextmanager
def child(module: str, arguments: Sequence[str], log_path: Path) -> Iterator[Child]:
    """Run `python -m module arguments…` for as long as the block lasts, its output in a file."""
    running = Child(module, arguments, log_path)
    try:
        yield running
    finally:
        running.stop()


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def require_free(port: int) -> None:
    """Raise `ChildFailed` if something listens on a loopback port: it would be taken for ours."""
    with socket.socket() as caller:
        caller.settimeout(1.0)
        if caller.connect_ex(("127.0.0.1", port)) == 0:
            raise ChildFailed(f"port {port} is taken by another program; choose a free one")


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1.0)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end_with_the_parent() -> None:
    """Wait for the end of standard input, then end this process, politely first."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    os._exit(1)


def main() -> None:
    """Run the module named first, with the other arguments as its own, until the parent is gone."""
    module, *arguments = sys.argv[1:]
    # A thread inherits the mask of its starter: signals stay the main thread's, where modules
    # expect them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
