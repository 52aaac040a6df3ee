"""Puts one load on one port and says what was counted and what it cost, process by process."""

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.overhead.processes import Cores, busy_s, cpu_s, running


class LoadFailed(Exception):
    """The load generator gave up; its own words are the message."""


@dataclass(frozen=True, slots=True)
class Rig:
    """What every load of a run shares."""

    load: tuple[str, ...]
    engine_pid: int
    cores: Cores


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the load generator."""

    count: int
    """Answers (closed) or events (streams) since the start of the phase."""
    elapsed_s: float
    cpu_s: float
    """Of the load generator, since it began."""
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Driven:
    """What one load did and cost between its two lines."""

    line: Line
    proxy_cpu_s: float
    """0 where there is no proxy."""
    foreign_share: float
    """Of both cores, taken by others, by the hypervisor or by this process; 0..1."""

    @property
    def proxy_us(self) -> float:
        """CPU microseconds of the proxy for each thing counted."""
        return self.proxy_cpu_s * 1e6 / max(self.line.count, 1)


@dataclass(frozen=True, slots=True)
class _Moment:
    at_s: float
    proxy_s: float
    engine_s: float
    busy_s: float


class Load:
    """A load generator that is warm and waits for the word."""

    def __init__(self, process: subprocess.Popen[str], rig: Rig, proxy_pid: int | None) -> None:
        self._process = process
        self._rig = rig
        self._proxy_pid = proxy_pid
        self.ready = self._read("ready")

    def go(self) -> Driven:
        """Measure until the load is done. Raises LoadFailed."""
        before = self._now()
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._read("done")
        after = self._now()
        wall_s = max(after.at_s - before.at_s, 1e-6)
        load_s = line.cpu_s - self.ready.cpu_s
        harness_s = after.engine_s - before.engine_s + load_s
        proxy_s = after.proxy_s - before.proxy_s
        foreign_s = max(0.0, after.busy_s - before.busy_s - harness_s - proxy_s)
        count = len({self._rig.cores.proxy, self._rig.cores.harness})
        return Driven(line, proxy_s, foreign_s / wall_s / count)

    def _now(self) -> _Moment:
        proxy_s = 0.0 if self._proxy_pid is None else cpu_s(self._proxy_pid)
        return _Moment(
            time.monotonic(), proxy_s, cpu_s(self._rig.engine_pid), busy_s(self._rig.cores)
        )

    def _read(self, phase: str) -> Line:
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            raise LoadFailed(f"the load generator ended before it was {phase}")
        said = json.loads(text)
        assert said["phase"] == phase, text
        return Line(*(said[name] for name in Line.__slots__))


@contextlib.contextmanager
def load(
    rig: Rig, proxy_pid: int | None, mode: str, port: int, options: Sequence[object]
) -> Iterator[Load]:
    """Start a load generator and wait until it is ready. Raises LoadFailed, with its words."""
    command = [*rig.load, mode, str(port), *map(str, options)]
    with tempfile.TemporaryFile() as log:
        try:
            with running(command, rig.cores.harness, stdin=subprocess.PIPE, log=log) as process:
                yield Load(process, rig, proxy_pid)
        except LoadFailed as failure:
            log.seek(0)
            words = log.read().decode(errors="replace").strip()
            raise LoadFailed(f"{failure} ({' '.join(command)}): {words}") from failure
