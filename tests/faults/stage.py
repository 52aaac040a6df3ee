"""All the processes of a fault run: stand-in engines behind gates, and the router before them."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from engines.engine import Kind
from engines.launch.child import Child, free_port
from engines.launch.profiles import Profile, arguments
from router.demo.stage import warm_up
from tests.fakes.redis_server import RedisServer
from tests.faults.gate import Gate, gates
from tests.faults.speaking import speaker

MODEL = "emulated"
PACE = 0.25
"""Engines run at a quarter of an H100's speed, so that two cores can carry them all."""
DELAY_S = 0.1
"""Of the engine's time, before every first token: long enough to be struck in it."""
SLOTS = 6
START_S = 30.0
BACK_S = 20.0
"""How soon after a fault has ended the router must use everything again."""


SPEAKER = "speaker"
LLAMACPP = "llamacpp"
TOLD = frozenset({"vllm", "tgi", "sglang", SPEAKER})
"""Stand-ins, which break inside when they are told to."""
KNOWN_AS = {SPEAKER: "vllm"}
"""What the router takes a stand-in for."""
REAL_SLOTS = 2
PATIENCE_S = 3.0
"""Engines may be silent so long, and take twice as long for a whole answer."""
ROUTERS = 2
"""Where they share a Redis."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine of the fleet."""

    name: str
    kind: str
    pool: str
    profile: str
    flags: tuple[str, ...] = ()
    """More of a real engine's command line."""


FLEET = (
    Engine("fast-0", "tgi", "fast", "predictable"),
    Engine("fast-1", "tgi", "fast", "predictable"),
    Engine("wide-0", "vllm", "wide", "throughput"),
    Engine("wide-1", "vllm", "wide", "throughput"),
)


@dataclass(slots=True)
class Stage:
    """What a fault can be done to."""

    folder: Path
    gates: dict[str, Gate]
    router_port: int
    router: Child
    control: httpx.AsyncClient
    fleet: Sequence[Engine]
    redis: RedisServer | None = None
    """What two routers share; None: there is one router alone."""
    processes: dict[str, Child] = field(default_factory=dict)
    beside: set[asyncio.Task[None]] = field(default_factory=set)

    async def tell(self, name: str, **faults: object) -> None:
        """Break or mend a stand-in: the fields of its `Faults` and `Breakage`."""
        body = {"first_token_delay_s": DELAY_S, **faults}
        url = f"http://127.0.0.1:{self.gates[name].engine_port}/emulator/faults"
        (await self.control.post(url, json=body)).raise_for_status()

    def kill(self, name: str) -> None:
        """End an engine's process at once."""
        os.kill(self.processes[name].pid, signal.SIGKILL)
        self.gates[name].refuse()

    def send(self, name: str, what: signal.Signals) -> None:
        """Send a signal to an engine's process."""
        os.kill(self.processes[name].pid, what)

    async def start(self, engine: Engine) -> None:
        """Start an engine's process, at its port of before."""
        port = self.gates[engine.name].engine_port
        if (old := self.processes.get(engine.name)) is not None:
            await asyncio.to_thread(old.stop)
        self.processes[engine.name] = await asyncio.to_thread(
            _started, engine, port, self.folder / f"{engine.name}.log"
        )
        if engine.kind in TOLD:
            await self.tell(engine.name)

    async def serving(self) -> int:
        """Return how many endpoints the router would send to."""
        with suppress(httpx.HTTPError):
            answer = await self.control.get(f"http://127.0.0.1:{self.router_port}/readyz")
            pools = answer.json()["pools"]
            return sum(pool["serving"] for pool in pools.values())
        return 0

    async def sharing(self) -> bool:
        """Return whether the router that answers shares what it knows with the other."""
        with suppress(httpx.HTTPError):
            answer = await self.control.get(f"http://127.0.0.1:{self.router_port}/readyz")
            told = answer.json().get("replicas", {})
            return bool(told.get("mode") == "shared" and told.get("count") == ROUTERS)
        return False

    async def shares(self, within_s: float = BACK_S) -> float | None:
        """Return after how many seconds the routers share what they know; None: not in time."""
        now = asyncio.get_running_loop().time
        began = now()
        while now() - began < within_s:
            if await self.sharing():
                return now() - began
            await asyncio.sleep(0.05)
        return None

    async def all_back(self, within_s: float = BACK_S) -> float | None:
        """Return after how many seconds every endpoint is used again; None: not in time."""
        now = asyncio.get_running_loop().time
        began = now()
        while now() - began < within_s:
            if await self.serving() == len(self.gates):
                return now() - began
            await asyncio.sleep(0.05)
        return None

    def beside_it(self, work: Coroutine[object, object, None]) -> None:
        """Run something for as long as a fault lasts."""
        task = asyncio.get_running_loop().create_task(work)
        self.beside.add(task)
        task.add_done_callback(self.beside.discard)

    async def mend(self) -> None:
        """Undo whatever was done."""
        for task in list(self.beside):
            task.cancel()
        self.router_signal(signal.SIGCONT)
        for engine in self.fleet:
            name = engine.name
            if self.processes[name].exit_code is not None:
                await self.start(engine)
            self.send(name, signal.SIGCONT)
            if engine.kind in TOLD:
                await self.tell(name)
        for gate in self.gates.values():
            await gate.mend()
        if self.redis is not None:
            await asyncio.to_thread(self.redis.mend)

    def router_signal(self, what: signal.Signals) -> None:
        """Send a signal to the router."""
        os.kill(self.router.pid, what)


def _started(engine: Engine, port: int, log: Path) -> Child:
    if engine.kind == SPEAKER:
        return speaker(port, log)
    if engine.kind == LLAMACPP:
        return _llamacpp(engine, port, log)
    arguments = ["emulate", "--kind", engine.kind, "--port", str(port), "--model", MODEL]
    process = Child("router", [*arguments, "--pace", str(PACE)], log)
    process.wait_until_ready(f"http://127.0.0.1:{port}/emulator", START_S)
    return process


def _llamacpp(engine: Engine, port: int, log: Path) -> Child:
    """Start a real llama.cpp with two slots that computes on one core."""
    flags = (*arguments(Kind.LLAMACPP, Profile.PREDICTABLE, slots=REAL_SLOTS), *engine.flags)
    process = Child("engines.launch.llamacpp", ["--port", str(port), *flags], log)
    process.wait_until_ready(f"http://127.0.0.1:{port}/health", START_S)
    warm_up(f"http://127.0.0.1:{port}")
    return process


def configuration(
    port: int,
    pools: Sequence[tuple[str, str, Sequence[str]]],
    model: str,
    slots: int,
    *,
    workers: int = 1,
    patience_s: float = PATIENCE_S,
) -> str:
    """Return the router's file; `pools`: name, profile and endpoint lines of each."""
    text = f"""
[server]
port = {port}
workers = {workers}
access_log = "off"
log_level = "debug"

[timeouts]
connect_s = 0.5
first_token_s = {patience_s}
idle_s = {patience_s}
answer_s = {2 * patience_s}

[probes]
health_s = 0.5
load_s = 0.5
timeout_s = 1.0
"""
    for name, profile, endpoints in pools:
        lines = ",\n  ".join(endpoints)
        text += f"""
[[pools]]
name = "{name}"
profile = "{profile}"
models = ["{model}"]
max_in_flight = {slots}
endpoints = [
  {lines},
]
"""
    return text


def endpoint_line(name: str, kind: str, url: str) -> str:
    """Return one endpoint of the configuration."""
    return f'{{ id = "{name}", engine = "{kind}", url = "{url}" }}'


@asynccontextmanager
async def stage(  # noqa: PLR0913 # what may differ from run to run
    folder: Path,
    fleet: Sequence[Engine] = FLEET,
    *,
    model: str = MODEL,
    more: str = "",
    lost: str | None = None,
    shared: bool = False,
    patience_s: float = PATIENCE_S,
) -> AsyncGenerator[Stage]:
    """Run the fleet and the router for as long as the block lasts.

    `lost`: an engine whose address is a name that does not resolve. `shared`: there are two
    routers at one port, and a Redis.
    """
    async with AsyncExitStack() as stack:
        redis = RedisServer(folder) if shared else None
        if redis is not None:
            stack.callback(redis.kill)
            await asyncio.to_thread(redis.start)
            more += f'[redis]\nurl = "{redis.url}"\n'
        ports = {engine.name: free_port() for engine in fleet}
        before = await stack.enter_async_context(gates(ports))
        control = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=10.0))
        router_port = free_port()
        lines: dict[tuple[str, str], list[str]] = {}
        for engine in fleet:
            host = "engine.invalid" if engine.name == lost else "127.0.0.1"
            url = f"http://{host}:{before[engine.name].port}"
            line = endpoint_line(engine.name, KNOWN_AS.get(engine.kind, engine.kind), url)
            lines.setdefault((engine.pool, engine.profile), []).append(line)
        pools = [(*key, endpoints) for key, endpoints in lines.items()]
        path = folder / "headway.toml"
        slots = REAL_SLOTS if fleet[0].kind == LLAMACPP else SLOTS
        routers = ROUTERS if shared else 1
        text = configuration(
            router_port, pools, model, slots, workers=routers, patience_s=patience_s
        )
        path.write_text(text + more)
        router = Child("router", ["serve", str(path)], folder / "router.log")
        stack.push_async_callback(_stopped, router)
        made = Stage(folder, before, router_port, router, control, fleet, redis)
        stack.push_async_callback(_all_stopped, made.processes)
        async with asyncio.TaskGroup() as group:
            for engine in fleet:
                group.create_task(made.start(engine))
        url = f"http://127.0.0.1:{router_port}/readyz"
        await asyncio.to_thread(router.wait_until_ready, url, START_S)
        if shared:
            await made.shares(START_S)
        yield made


async def _stopped(process: Child) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGCONT)
    await asyncio.to_thread(process.stop)


async def _all_stopped(processes: dict[str, Child]) -> None:
    for process in processes.values():
        await _stopped(process)
