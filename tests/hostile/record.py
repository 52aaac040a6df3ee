"""Runs the whole corpus once, over every way there is, and remembers all that was seen.

Five ways: straight to the router; through nginx or HAProxy to the router; and straight to the
router whose engine is behind nginx or HAProxy. Each case is followed on the same way by a request
of somebody else's. All cases run at the same time, so connections behind proxies are shared.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from router.settings import Admin, Limits
from router.wire.inbound import Inbound, Incoming
from tests.e2e.running import pool, serving
from tests.fakes.scripted import Call, ScriptedEngine, scripted_engine
from tests.hostile.calling import call
from tests.hostile.case import Case, post
from tests.hostile.proxies import Sockets, installed, running

WAIT_S: Final = 3
"""How long the router waits for the rest of a request; proxies wait twice as long."""
TOGETHER: Final = 500
"""Connections at the same time."""
MARK: Final = re.compile(rb"(?:own|evl)-(\d{4})")
WAYS: Final = ("direct", "through nginx", "through haproxy", "before nginx", "before haproxy")
MODELS: Final = {"before nginx": b"n", "before haproxy": b"h"}
STEP: Final = 1000
"""Between the numbers of one way and the next; those of somebody else's requests lie above all."""


@dataclass(slots=True)
class Begun:
    """One request as the router began it."""

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    @property
    def numbers(self) -> set[int]:
        """Whose marks are in it."""
        values = [value for _, value in self.headers]
        return marked(b"\n".join((self.target, *values, self.body)))

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header."""
        return [value for each, value in self.headers if each == name]


@dataclass(slots=True)
class Record:
    """All that was seen."""

    cases: Sequence[Case]
    ways: Sequence[str] = ()
    """Those that could be gone here."""
    heard: dict[int, bytes] = field(default_factory=dict)
    """What came back, by the number of the case."""
    begun: list[Begun] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """What reached the engine."""

    def numbers(self, way: str) -> range:
        """Return the numbers of the cases that went one way."""
        start = WAYS.index(way) * STEP
        return range(start, start + len(self.cases))

    def victims(self, way: str) -> range:
        """Return the numbers of the requests of others on that way."""
        numbers = self.numbers(way)
        return range(numbers.start + len(WAYS) * STEP, numbers.stop + len(WAYS) * STEP)

    def of(self, number: int) -> str:
        """Say which case has a number, for messages."""
        at = number % (len(WAYS) * STEP)
        case = self.cases[at % STEP]
        return f"{WAYS[at // STEP]}, {case.name!r}"

    def reached(self) -> dict[int, int]:
        """Return how many requests with each number's marks reached the engine."""
        counts: dict[int, int] = defaultdict(int)
        for each in self.calls:
            for number in marked(each.body):
                counts[number] += 1
        return counts


def marked(data: bytes) -> set[int]:
    """Return the numbers of all marks in some bytes."""
    return {int(number) for number in MARK.findall(data)}


def watched(record: Record) -> type[Inbound]:
    """Return the router's protocol class, which tells of every request that it begins."""

    class Watched(Inbound):
        def _start(self, request: Incoming) -> None:
            head = request.head
            record.begun.append(Begun(head.method, head.target, head.headers, request.body))
            super()._start(request)

    return Watched


async def echo(call: Call) -> None:
    """Answer with the first mark of the request."""
    mark = MARK.search(call.body)
    await call.say_json(b'{"choices":[{"text":"%b"}]}' % (mark[0] if mark else b"none"))


async def run(record: Record, folder: Path) -> None:
    """Send every case every way."""
    there = installed()
    with ExitStack() as stack:
        sockets = {name: Sockets() for name in there}
        for each in sockets.values():
            stack.callback(each.close)
        backs = {name[0]: each.ports[1] for name, each in sockets.items()}
        async with (
            scripted_engine(echo) as engine,
            serving(
                pool("m", engine, slots=1000),
                *(pool(model, f"http://127.0.0.1:{port}", models=(model,), slots=1000)
                  for model, port in backs.items()),
                admin=Admin(),
                within_s=None,
                limits=Limits(max_body_bytes=1 << 20, header_timeout_s=WAIT_S,
                              body_timeout_s=WAIT_S, keep_alive_s=WAIT_S, max_loop_lag_s=None),
            ) as router,
        ):  # fmt: skip
            for name, each in sockets.items():
                (folder / name).mkdir()
                stack.enter_context(
                    running(name, each, folder / name, router=router.port, engine=engine.port,
                            wait_s=2 * WAIT_S)
                )  # fmt: skip
            ports = {
                "direct": router.port,
                **{f"through {name}": each.ports[0] for name, each in sockets.items()},
                **{f"before {name}": router.port for name in sockets},
            }
            record.ways = [way for way in WAYS if way in ports]
            await _send_all(record, ports, engine)
            stack.close()  # the proxies go first, and with them what they keep connected


async def _send_all(record: Record, ports: dict[str, int], engine: ScriptedEngine) -> None:
    room = asyncio.Semaphore(TOGETHER)

    async def send(case: Case, number: int, way: str) -> None:
        model, port = MODELS.get(way, b"m"), ports[way]
        async with room:
            record.heard[number] = await call(case.numbered(number, model), port)
            other = number + len(WAYS) * STEP
            victim = Case("", post(b"connection: close"), ())
            record.heard[other] = await call(victim.numbered(other, model), port)

    async with asyncio.TaskGroup() as group:
        for way in record.ways:
            for number, case in zip(record.numbers(way), record.cases, strict=True):
                group.create_task(send(case, number, way))
    record.calls = engine.calls
