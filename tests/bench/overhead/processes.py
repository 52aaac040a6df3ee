"""Processes on chosen cores, and what the kernel says they cost. Linux only (/proc)."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROC = Path("/proc")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
STOP_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run."""

    proxy: int
    harness: int
    """Mock engine and load generator; the proxy's own core where there is only one."""

    @property
    def apart(self) -> bool:
        """Whether the proxy has a core to itself."""
        return self.proxy != self.harness


def cores() -> Cores:
    """Choose the first and the last core that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on one core; processes started inside inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    core: int,
    *,
    stdin: int = subprocess.DEVNULL,
    output: IO[bytes] | int = subprocess.PIPE,
    log: IO[bytes] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Start a command on a core; on the way out it is asked to stop, and made to if it does not.

    What it writes goes to `output`, its errors to `log` (None: to ours).
    """
    with pinned(core):
        process = subprocess.Popen(  # noqa: S603 - commands of the target table
            command, stdin=stdin, stdout=output, stderr=log, text=True, cwd=cwd
        )
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                for pid in tree(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)


def tree(pid: int) -> list[int]:
    """List a process and all that descend from it, parents first; none where it is gone."""
    found = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in (PROC / str(one) / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
            found.append(one)
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a process and its descendants since they began."""
    return sum(map(_cpu_of_one_s, tree(pid)))


def _cpu_of_one_s(pid: int) -> float:
    """Nanoseconds on CPU where the kernel counts them (proc(5), schedstat), else its ticks."""
    with contextlib.suppress(OSError):
        threads = (PROC / str(pid) / "task").iterdir()
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
    with contextlib.suppress(OSError):
        after_name = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS_A_SECOND
    return 0.0


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, in MB of 10^6 bytes."""
    total_kb = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in (PROC / str(one) / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total_kb += int(line.split()[1])
    return total_kb * 1024 / 1e6


def busy_s(used: Cores) -> float:
    """Seconds that the cores of a run have been busy since boot, stolen time included."""
    names = {f"cpu{used.proxy}", f"cpu{used.harness}"}
    ticks = 0
    for line in (PROC / "stat").read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            user, nice, system, _idle, _io_wait, irq, soft_irq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + soft_irq + steal
    return ticks / TICKS_A_SECOND
