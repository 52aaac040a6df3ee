"""Routers before one mock engine, driven by load generators, both in C: what routers cost by CPU time.

Load and engine take turns on one core, routers are on another, where there are two. A router is
charged what the kernel counts for it and its children, whoever else wants its core meanwhile.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.overhead.drive import Driven, Rig, load
from tests.bench.overhead.measure import Subject, engine, wait_until_it_answers
from tests.bench.overhead.processes import cores, cpu_s, running, tree
from tests.bench.overhead.targets import HEADWAY, TARGETS, free_port
from tests.bench.overhead.tools import ROOT, tools

CONFIG = """
[server]
host = "127.0.0.1"
port = {port}
workers = {workers}
access_log = "off"
{redis}
[[pools]]
name = "p"
profile = "throughput"
models = ["mock"]
max_in_flight = 256
endpoints = [{endpoints}]
"""


@dataclass(slots=True)
class Mill:
    """An engine that runs, and what it takes to drive routers before it."""

    folder: Path
    rig: Rig
    engine_port: int
    stack: ExitStack

    def router(self, *, endpoints: int, redis: str | None, workers: int = 1) -> Subject:
        """Start a router that takes the one engine for so many; it is ready."""
        port = free_port()
        url = f"http://127.0.0.1:{self.engine_port}"
        several = (f'{{ id = "e{n}", engine = "openai", url = "{url}" }}' for n in range(endpoints))
        path = self.folder / f"{port}.toml"
        path.write_text(
            CONFIG.format(
                port=port,
                workers=workers,
                redis="" if redis is None else f'[redis]\nurl = "{redis}"\n',
                endpoints=", ".join(several),
            )
        )
        log = self.stack.enter_context((self.folder / f"{port}.log").open("w+b"))
        command = [sys.executable, "-m", "router", "serve", str(path)]
        core = self.rig.cores.proxy
        process = self.stack.enter_context(running(command, core, output=log, log=log, cwd=ROOT))
        subject = Subject(TARGETS[HEADWAY], port, process.pid)
        wait_until_it_answers(subject, lambda: process.poll() is not None, log)
        return subject

    def drive(self, subjects: Sequence[Subject], **options: object) -> list[Driven]:
        """Put the same load on several routers at once. Raises LoadFailed."""
        flags = [part for name, value in options.items() for part in (f"--{name}", value)]
        with ExitStack() as stack:
            ready = [
                stack.enter_context(load(self.rig, each.pid, "closed", each.port, flags))
                for each in subjects
            ]
            with ThreadPoolExecutor(len(ready)) as threads:
                return list(threads.map(lambda each: each.go(), ready))

    def free(self, subject: Subject) -> None:
        """Let a router's processes run on every core of this bench."""
        allowed = {self.rig.cores.proxy, self.rig.cores.harness}
        for pid in tree(_pid(subject)):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), allowed)

    def workers_cpu_s(self, subject: Subject) -> list[float]:
        """Return the CPU seconds of each worker of a router."""
        return [cpu_s(pid) for pid in tree(_pid(subject))[1:]]


@contextlib.contextmanager
def mill(folder: Path) -> Iterator[Mill]:
    """Run the engine; at the end everything that was started is gone."""
    made, where = tools(), cores()
    with engine(made, where) as (port, pid), ExitStack() as stack:
        yield Mill(folder, Rig(made.load, pid, where), port, stack)


def _pid(subject: Subject) -> int:
    assert subject.pid is not None
    return subject.pid
