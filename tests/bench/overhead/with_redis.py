"""Starts a Redis that ends with this process, and becomes the router.

python -m tests.bench.overhead.with_redis REDIS_PORT FOLDER router serve FILE
"""

import ctypes
import os
import signal
import subprocess
import sys

from tests.fakes.redis_server import executable

_PR_SET_PDEATHSIG = 1


def _apart() -> None:
    """Let it end with its parent, and run where the kernel likes rather than on the parent's core."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


def main() -> None:
    """Start one and be replaced by the other."""
    port, folder, *command = sys.argv[1:]
    given = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    subprocess.Popen(  # noqa: S603 - ours
        [executable(), *given],
        stdout=subprocess.DEVNULL,
        preexec_fn=_apart,  # noqa: PLW1509 # there are no threads here
    )
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 - ourselves


if __name__ == "__main__":
    main()
