"""Serves emulated engines over HTTP, several in a process: sockets and clocks are here alone.

Faults are switched over `POST /emulator/faults`, with the fields of `Faults` and `Breakage` as JSON,
`engine` to mean another engine of the process, and `for_s` to mend it after a while. A request with
`X-Return-Error: 503` is answered with that status in its kind's form.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from random import Random

import orjson

from engines.emulator.connection import Connection, Request, factory
from engines.emulator.core import Detail, EmulatedEngine
from engines.emulator.exchange import Exchange
from engines.emulator.faces.face import Face
from engines.emulator.faces.registry import FACES
from engines.emulator.faces.words import Answer, Problem, Quirks, Site, Times, Told, document
from engines.emulator.jobs import (
    Event,
    Failed,
    FailureCause,
    Finished,
    FirstToken,
    Job,
    Refused,
    Tokens,
)
from engines.emulator.spec import HEALTHY, EngineSpec, Faults

Clock = Callable[[], float]
Late = Callable[[float], None]
"""Told of each step how much later than due it was attended to, seconds of the clock."""

_EARLY_S = 0.0007
"""Timers of the event loop are as coarse as a millisecond: what is due so soon is due."""
_HUNG_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Breakage:
    """What is wrong with the server in front of an engine; the default is nothing."""

    unhealthy: bool = False
    """Health says 503."""
    health_silent: bool = False
    """Health is not answered."""
    garbage: bool = False
    """Every answer is something that is no HTTP."""
    silent: bool = False
    """Requests to generate are taken and never answered."""


@dataclass(frozen=True, slots=True)
class Served:
    """One engine to serve."""

    name: str
    spec: EngineSpec
    model: str = "emulated"
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    quirks: Quirks | None = None
    """None: the kind's own."""
    mean_output_tokens: float = 128.0
    adapters: tuple[str, ...] = ()


class EngineServer:
    """One engine behind its kind's HTTP."""

    def __init__(
        self, served: Served, rng: Random, clock: Clock, pace: float, late: Late | None = None
    ) -> None:
        """`pace`: seconds of the engine in a second of the clock."""
        kind = served.spec.knobs.kind
        self.face: Face = FACES[kind]
        self.site = Site(
            name=served.name,
            model=served.model,
            spec=served.spec,
            quirks=served.quirks or self.face.quirks,
            started=int(datetime.now(UTC).timestamp()),
            mean_output_tokens=served.mean_output_tokens,
            adapters=served.adapters,
        )
        self.engine = EmulatedEngine(served.spec, rng, Detail.TOKENS)
        self.breakage = Breakage()
        self.siblings: Mapping[str, EngineServer] = {served.name: self}
        self._host, self.port = served.host, served.port
        self._clock, self._pace, self._late = clock, pace, late
        self._begun_s = clock()
        self._now_s = 0.0
        self._serial = 0
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._revival: asyncio.Task[None] | None = None
        """Listening anew; awaited at the end. No task group: it would wrap every error of whoever
        uses `serve` into a group."""
        self._connections: set[Connection] = set()
        self._exchanges: dict[str, Exchange] = {}
        self._of_connection: dict[Connection, Exchange] = {}
        self._checks: dict[str, Connection] = {}
        """Health checks that wait for a token."""
        self._timer: asyncio.TimerHandle | None = None
        self._histograms = self.face.histograms()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._host}:{self.port}"

    async def listen(self) -> None:
        """Begin to listen, at the same port as before where there was one."""
        self._listener = await self._loop.create_server(factory(self), self._host, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            connection.close()
        if self._timer is not None:
            self._timer.cancel()

    async def shut(self) -> None:
        """Close for good."""
        if self._revival is not None:
            await self._revival
        self.close()

    def now(self) -> float:
        """Return the engine's time."""
        self._now_s = max(self._now_s, (self._clock() - self._begun_s) * self._pace)
        return self._now_s

    def joined(self, connection: Connection) -> None:
        """Take note of a connection."""
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        """Abort what a caller who hung up was waiting for."""
        self._connections.discard(connection)
        exchange = self._of_connection.pop(connection, None)
        if exchange is None or exchange.is_over:
            return
        if self.site.quirks.runs_on_without_stream and not exchange.ask.stream:
            return
        self._abort(exchange)
        self._wake()

    def asked(self, request: Request, connection: Connection) -> None:
        """Answer a request."""
        if request.path.startswith("/emulator"):
            connection.send(self._controlled(request))
        elif self.breakage.garbage:
            connection.garbage()
        elif (status := request.headers.get("x-return-error", "")).isdecimal():
            connection.send(self.face.answer(self.face.told(int(status))))
        elif request.method == "POST" and request.path in self.face.generating:
            self._generate(request, connection)
        elif request.method == "GET" and "health" in request.path:
            self._check(request, connection)
        else:
            connection.send(self._page(request))

    def set_faults(self, faults: Faults, breakage: Breakage | None = None) -> None:
        """Break the engine or its server, or mend them."""
        was_dead = self.engine.faults.dead
        self.engine.set_faults(faults, self.now())
        self.breakage = breakage or self.breakage
        self._deliver()
        if faults.dead and not was_dead:
            self.close()
        elif was_dead and not faults.dead:
            self._revival = self._loop.create_task(self.listen())
        self._wake()

    def _page(self, request: Request) -> Answer:
        told = Told(self.engine.gauges(), self._histograms)
        page = self.face.page(request.method, request.path, request.body, self.site, told)
        return page or self.face.not_found()

    def _generate(self, request: Request, connection: Connection) -> None:
        if self.breakage.silent:
            return
        self._serial += 1
        headers = {**request.headers, "x-emulator-id": f"{self._serial:016x}"}
        ask = self.face.read(request.path, headers, request.body, self.site)
        if isinstance(ask, Problem):
            connection.send(self.face.answer(ask))
            return
        now = self.now()
        ask = replace(ask, created=self.site.started + int(now / self._pace))
        jobs = ask.jobs(self._serial, self.site) if ask.flaw is None else ()
        exchange = Exchange(ask, self.site, self.face, connection, jobs, now)
        self._of_connection[connection] = exchange
        problem = ask.flaw or self._submit(exchange, now)
        if problem is not None:
            exchange.refused(problem)
        elif not self.site.quirks.status_with_first_token:
            exchange.begin()
            self._keep_company(exchange)
        self._wake()

    def _submit(self, exchange: Exchange, now: float) -> Problem | None:
        """Hand all choices to the engine, or none."""
        for job in exchange.jobs:
            answer = self.engine.submit(job, now)
            if isinstance(answer, Refused):
                self._abort(exchange)
                return self.face.refused(answer, exchange.ask, self.site)
            self._exchanges[job.id] = exchange
        return None

    def _abort(self, exchange: Exchange) -> None:
        exchange.is_over = True
        for job in exchange.jobs:
            if self._exchanges.pop(job.id, None) is not None:
                self.engine.abort(job.id, self.now())

    def _keep_company(self, exchange: Exchange) -> None:
        """Send a comment whenever the stream has been silent for long."""
        interval_s = self.site.quirks.comment_interval_s
        if interval_s is None or not exchange.ask.stream or exchange.is_over:
            return
        said = exchange.last_s

        def speak() -> None:
            if exchange.is_over or not exchange.connection.is_open:
                return
            if exchange.last_s == said:
                exchange.connection.comment(self.site.quirks.comment)
            self._keep_company(exchange)

        self._loop.call_later(interval_s / self._pace, speak)

    def _check(self, request: Request, connection: Connection) -> None:
        """Answer a health check as the kind does."""
        if self.breakage.health_silent:
            return
        quirks = self.site.quirks
        if self.breakage.unhealthy:
            connection.send(self.face.answer(self.face.told(503)))
        elif quirks.health_generates and request.path != "/ready":
            self._check_by_token(connection)
        elif quirks.health_waits_for_step:
            self._check_after_step(request, connection)
        else:
            connection.send(self._page(request))

    def _check_after_step(self, request: Request, connection: Connection) -> None:
        ends_s = self.engine.step_ends_s()
        left_s = 0.0 if ends_s is None else ends_s - self.now()
        if left_s <= 0.0:
            connection.send(self._page(request))
        elif connection.is_open:
            wait_s = min(left_s / self._pace, _HUNG_POLL_S)
            self._loop.call_later(wait_s, self._check_after_step, request, connection)

    def _check_by_token(self, connection: Connection) -> None:
        self._serial += 1
        job = Job(f"{self._serial}/health", 1, 1)
        quirks = self.site.quirks
        if isinstance(self.engine.submit(job, self.now()), Refused):
            connection.send(self.face.answer(self.face.told(503)))
            return
        self._checks[job.id] = connection
        self._loop.call_later(quirks.health_poll_s, self._look_at_check, job.id, 1)
        self._wake()

    def _look_at_check(self, job_id: str, looks: int) -> None:
        """Answer a check whose token has come, or that has waited long enough."""
        quirks = self.site.quirks
        connection = self._checks[job_id]
        came = not self.engine.holds(job_id)
        if not came and looks * quirks.health_poll_s < quirks.health_timeout_s:
            self._loop.call_later(quirks.health_poll_s, self._look_at_check, job_id, looks + 1)
            return
        del self._checks[job_id]
        if came:
            connection.send(Answer(200, content_type=None))
        else:
            self.engine.abort(job_id, self.now())
            connection.send(self.face.answer(self.face.told(503)))

    def _wake(self) -> None:
        """Set the timer to the engine's next event."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = self.engine.next_event()
        if due_s is not None:
            left_s = (due_s - self.now()) / self._pace
            self._timer = self._loop.call_later(max(0.0, left_s), self._tick)

    def _tick(self) -> None:
        due_s = self.engine.next_event()
        if due_s is not None:
            left_s = due_s - self.now()
            if left_s < _EARLY_S * self._pace:
                self._now_s = max(self._now_s, due_s)
            if self._late is not None:
                self._late(max(0.0, -left_s) / self._pace)
        self._deliver()
        self._wake()

    def _deliver(self) -> None:
        for event in self.engine.advance(self.now()):
            exchange = self._exchanges.get(event.job_id)
            if exchange is not None:
                self._tell(exchange, event)

    def _tell(self, exchange: Exchange, event: Event) -> None:
        match event:
            case FirstToken():
                exchange.saw_first(event)
                self._histograms["ttft"].observe(event.at_s - exchange.arrived_s)
                self._histograms["prompt"].observe(exchange.ask.prompt_tokens)
            case Tokens():
                if event.index:
                    self._histograms["itl"].observe(event.at_s - exchange.last_s)
                exchange.saw_token(event.job_id, event.index, event.at_s)
            case Finished():
                self._finished(exchange, event)
            case Failed():
                self._failed(exchange, event)

    def _finished(self, exchange: Exchange, event: Finished) -> None:
        del self._exchanges[event.job_id]
        gauges = self.engine.gauges()
        times = Times(
            total_s=event.at_s - exchange.arrived_s,
            queued_s=event.queued_s,
            first_token_s=event.first_token_s - exchange.arrived_s,
            waiting=gauges.waiting,
            kv_usage=gauges.kv_usage,
        )
        self._histograms["e2e"].observe(times.total_s)
        self._histograms["queue"].observe(times.queued_s)
        self._histograms["output"].observe(event.output_tokens)
        exchange.finished(event, times)

    def _failed(self, exchange: Exchange, event: Failed) -> None:
        self._abort(exchange)
        if event.cause is FailureCause.RESET:
            exchange.connection.reset()
        else:
            exchange.failed(self.face.failed(event.cause))
            if event.cause is FailureCause.DIED:
                exchange.connection.close()

    def _controlled(self, request: Request) -> Answer:
        """Answer the routes that only an emulator has."""
        if request.method == "POST" and request.path == "/emulator/faults":
            return self._switch(request.body)
        if request.method == "GET" and request.path == "/emulator":
            return document({name: server.state() for name, server in self.siblings.items()})
        return document({"error": "known: GET /emulator, POST /emulator/faults"}, 404)

    def state(self) -> dict[str, object]:
        """Return what there is to know, as JSON."""
        gauges = self.engine.gauges()
        return {
            "kind": self.site.spec.knobs.kind.value,
            "model": self.site.model,
            "url": self.url,
            "faults": asdict(self.engine.faults) | asdict(self.breakage),
            "gauges": asdict(gauges),
        }

    def _switch(self, body: bytes) -> Answer:
        try:
            wanted = orjson.loads(body)
            server = self.siblings[wanted.pop("engine", self.site.name)]
            for_s = wanted.pop("for_s", None)
            faults, breakage = _faults(wanted)
        except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError, ValueError) as error:
            names = ", ".join(field.name for kind in (Faults, Breakage) for field in fields(kind))
            known = f"engines: {', '.join(self.siblings)}; faults: {names}"
            return document({"error": f"{error}; {known}"}, 400)
        self._loop.call_soon(server.set_faults, faults, breakage)
        if for_s is not None:
            self._loop.call_later(for_s, server.set_faults, HEALTHY, Breakage())
        return document({"engine": server.site.name, **asdict(faults), **asdict(breakage)})


def _faults(wanted: Mapping[str, object]) -> tuple[Faults, Breakage]:
    """Read faults and breakage; what is not named is whole. Raises ValueError."""
    defaults = {**asdict(Faults()), **asdict(Breakage())}
    unknown = [name for name in wanted if name not in defaults]
    if unknown:
        raise ValueError(f"unknown fault {unknown[0]!r}")
    values = defaults | dict(wanted)
    faults = Faults(**{field.name: values[field.name] for field in fields(Faults)})
    breakage = Breakage(**{field.name: values[field.name] for field in fields(Breakage)})
    return faults, breakage


@asynccontextmanager
async def serve(
    engines: Sequence[Served],
    *,
    seed: int = 0,
    pace: float = 1.0,
    clock: Clock = time.perf_counter,
    late: Late | None = None,
) -> AsyncIterator[list[EngineServer]]:
    """Serve engines for as long as the block lasts.

    `pace`: how much faster than the clock time passes for the engines.
    """
    names = [served.name for served in engines]
    if len(set(names)) < len(names):
        raise ValueError(f"names of engines must differ: {', '.join(names)}")
    servers = [
        EngineServer(served, Random(f"{seed}/{served.name}"), clock, pace, late)
        for served in engines
    ]
    by_name = {server.site.name: server for server in servers}
    try:
        for server in servers:
            server.siblings = by_name
            await server.listen()
        yield servers
    finally:
        for server in servers:
            await server.shut()
