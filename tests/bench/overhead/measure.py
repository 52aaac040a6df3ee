"""The figures: a table of what is measured of a proxy, and the interleaved run that measures it.

Every repeat starts all proxies afresh, then takes figure by figure and, within a figure, proxy by
proxy, forwards and backwards in turn: what drifts on the machine drifts for all of them.
"""

import contextlib
import http.client
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.bench.overhead.drive import Driven, Rig, load
from tests.bench.overhead.processes import Cores, cpu_s, rss_mb, running
from tests.bench.overhead.targets import Place, Target, free_port
from tests.bench.overhead.tools import ROOT, Tools

START_WITHIN_S = 20.0
QUESTION = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "hello"}]})


class CannotStart(Exception):
    """A proxy did not come up; its own words are in the message."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of everything; the defaults are those of a full run."""

    repeats: int = 5
    seconds: float = 2.0
    """Of each load."""
    warm_up_s: float = 0.3
    connections: int = 32
    streams: int = 256
    interval_us: int = 20_000
    idle_streams: int = 2000
    large_body_bytes: int = 200_000


QUICK = Extent(repeats=1, seconds=0.5, warm_up_s=0.1)
IDLE_INTERVAL_US = 5_000_000


@dataclass(slots=True)
class Subject:
    """A target that runs, and what has been learned of it in this repeat."""

    target: Target
    port: int
    pid: int | None
    """None where there is no proxy."""
    idle_cpu_share: float = 0.0
    """CPU seconds a second while nothing is asked of it."""
    rss_start_mb: float = 0.0


@dataclass(slots=True)
class Record:
    """Every value of a run, by target and figure, one a repeat."""

    values: dict[str, dict[str, list[float]]]
    foreign_shares: list[float] = field(default_factory=list)
    """One a load."""

    def note(self, target: str, values: Mapping[str, float]) -> None:
        """Add one repeat's values of some figures."""
        for figure, value in values.items():
            self.values[target].setdefault(figure, []).append(value)

    def note_validity(self, driven: Driven) -> None:
        """Add what tells whether a load's figures can be believed."""
        self.foreign_shares.append(driven.foreign_share)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a measurement needs beside its subject."""

    rig: Rig
    extent: Extent
    record: Record

    def drive(self, subject: Subject, mode: str, **options: object) -> Driven:
        """Put a load on a subject and note its validity. Raises LoadFailed."""
        options |= {"seconds": self.extent.seconds, "warm-up": self.extent.warm_up_s}
        with load(self.rig, subject.pid, mode, subject.port, _flags(options)) as ready:
            driven = ready.go()
        self.record.note_validity(driven)
        return driven


def _flags(options: Mapping[str, object]) -> list[object]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _of_proxy(subject: Subject, **values: float) -> dict[str, float]:
    """Keep what is a proxy's own cost; nothing where there is no proxy."""
    return {} if subject.pid is None else values


Measurement = Callable[[Bench, Subject], dict[str, float]]


def memory(bench: Bench, subject: Subject) -> dict[str, float]:
    """Resident memory after the start and with many streams open that hardly speak."""
    if subject.pid is None:
        return {}
    options = {
        "connections": bench.extent.idle_streams,
        "interval-us": IDLE_INTERVAL_US,
        "seconds": 0,
    }
    with load(bench.rig, subject.pid, "streams", subject.port, _flags(options)) as ready:
        held_mb = rss_mb(subject.pid)
        ready.go()
    return {"rss_start_mb": subject.rss_start_mb, "rss_streams_mb": held_mb}


def requests(bench: Bench, subject: Subject) -> dict[str, float]:
    """CPU for a small request and its answer, and how many a second, with many connections."""
    driven = bench.drive(subject, "closed", connections=bench.extent.connections)
    requests_per_s = driven.line.count / driven.line.elapsed_s
    return {"requests_per_s": requests_per_s} | _of_proxy(subject, request_us=driven.proxy_us)


def chunks(bench: Bench, subject: Subject) -> dict[str, float]:
    """CPU for an event of a stream, with many paced streams; what it costs idle is taken off."""
    extent = bench.extent
    options = {"connections": extent.streams, "interval-us": extent.interval_us}
    driven = bench.drive(subject, "streams", **options)
    idle_s = subject.idle_cpu_share * driven.line.elapsed_s
    cost_us = max(0.0, driven.proxy_cpu_s - idle_s) * 1e6 / max(driven.line.count, 1)
    return {"chunk_p50_ms": driven.line.p50_us / 1000} | _of_proxy(subject, chunk_us=cost_us)


def latency(bench: Bench, subject: Subject) -> dict[str, float]:
    """Time of a small request when it is the only one."""
    driven = bench.drive(subject, "closed", connections=1)
    return {"p50_ms": driven.line.p50_us / 1000, "p99_ms": driven.line.p99_us / 1000}


def large_bodies(bench: Bench, subject: Subject) -> dict[str, float]:
    """CPU for a request with a long prompt."""
    options = {"connections": 8, "body-bytes": bench.extent.large_body_bytes}
    return _of_proxy(subject, large_us=bench.drive(subject, "closed", **options).proxy_us)


MEASUREMENTS: tuple[Measurement, ...] = (memory, requests, chunks, latency, large_bodies)


@contextlib.contextmanager
def engine(tools: Tools, cores: Cores) -> Iterator[tuple[int, int]]:
    """Run the mock engine; gives its port and its process id."""
    with running([*tools.engine, "0"], cores.harness, cwd=ROOT) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"], process.pid


@contextlib.contextmanager
def started(target: Target, engine_port: int, cores: Cores) -> Iterator[Subject]:
    """Run a target until it answers. Raises CannotStart."""
    if target.command is None:
        yield Subject(target, engine_port, None)
        return
    with (
        tempfile.TemporaryDirectory(prefix="overhead-") as directory,
        tempfile.TemporaryFile() as log,
    ):
        place = Place(free_port(), engine_port, Path(directory))
        command = target.command(place)
        # A file takes what a proxy writes for every request; a pipe that nobody reads would not.
        with running(command, cores.proxy, output=log, log=log, cwd=ROOT) as process:
            subject = Subject(target, place.port, process.pid)
            wait_until_it_answers(subject, lambda: process.poll() is not None, log)
            yield subject


def wait_until_it_answers(subject: Subject, ended: Callable[[], bool], log: IO[bytes]) -> None:
    """Ask a small question until it is answered with 200. Raises CannotStart."""
    give_up_s = time.monotonic() + START_WITHIN_S
    said = "no connection"
    while time.monotonic() < give_up_s and not ended():
        connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=2)
        try:
            connection.request("POST", "/v1/chat/completions", QUESTION, {"Connection": "close"})
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read(500).decode(errors='replace')}"
            if answer.status == http.client.OK:
                return
        except (OSError, http.client.HTTPException) as error:
            said = repr(error)
        finally:
            connection.close()
        time.sleep(0.05)
    log.seek(0)
    words = log.read().decode(errors="replace").strip()[-2000:]
    raise CannotStart(f"target {subject.target.name!r} does not answer: {said}; it said: {words}")


def note_idle(subjects: Sequence[Subject], seconds: float) -> None:
    """Learn what each costs while nothing is asked of it, and its memory."""
    proxies = [(subject, subject.pid) for subject in subjects if subject.pid is not None]
    before = [cpu_s(pid) for _, pid in proxies]
    start_s = time.monotonic()
    time.sleep(seconds)
    for (subject, pid), was_s in zip(proxies, before, strict=True):
        subject.idle_cpu_share = (cpu_s(pid) - was_s) / (time.monotonic() - start_s)
        subject.rss_start_mb = rss_mb(pid)


def measured(
    targets: Sequence[Target],
    tools: Tools,
    cores: Cores,
    extent: Extent,
    progress: Callable[[str], None],
) -> Record:
    """Run everything; `progress` is told of each step. Raises CannotStart, LoadFailed."""
    record = Record(values={target.name: {} for target in targets})
    with engine(tools, cores) as (engine_port, engine_pid):
        bench = Bench(Rig(tools.load, engine_pid, cores), extent, record)
        for repeat in range(extent.repeats):
            order = targets if repeat % 2 == 0 else targets[::-1]
            with contextlib.ExitStack() as stack:
                subjects = [
                    stack.enter_context(started(target, engine_port, cores)) for target in order
                ]
                note_idle(subjects, min(1.0, extent.seconds))
                for measurement in MEASUREMENTS:
                    for subject in subjects:
                        what = measurement.__name__.replace("_", " ")
                        progress(f"repeat {repeat + 1}: {what}, {subject.target.name}")
                        record.note(subject.target.name, measurement(bench, subject))
    return record
