"""What keys and limits cost a request: the router with them and without, in turns, on one core.

Compiled, as it is installed, where there is a C compiler; else from its sources.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx

from policies.keys import Allowance
from tests.bench.access.finding import Finding
from tests.bench.access.gate_cost import gate_us
from tests.bench.access.routers import CONFIG, START_S, key_in
from tests.bench.overhead.drive import Rig, load
from tests.bench.overhead.measure import engine
from tests.bench.overhead.processes import Cores, running
from tests.bench.overhead.targets import compiled_router, compiler_missing
from tests.bench.overhead.tools import ROOT, Tools
from tests.fakes.redis_server import free_port

MOST_US = 6.0
PLENTY = Allowance(10**8, 10**11, 10**13, 1_000_000)
"""Every kind of limit, none of which is reached."""


def overhead(tools: Tools, cores: Cores, *, quick: bool) -> list[Finding]:
    """Return what a request costs with all limits and without, and the difference."""
    repeats, seconds = (3, 1.0) if quick else (7, 2.0)
    costs: dict[str, list[float]] = {"open": [], "keys": []}
    with contextlib.ExitStack() as stack:
        port, pid = stack.enter_context(engine(tools, cores))
        rig = Rig(tools.load, pid, cores)
        subjects = {name: stack.enter_context(_router(port, cores, name)) for name in costs}
        for repeat in range(repeats):
            order = list(subjects) if repeat % 2 == 0 else list(subjects)[::-1]
            for name in order:
                port, process, headers = subjects[name]
                options = ["--connections", 32, "--seconds", seconds, "--warm-up", 0.3, *headers]
                with load(rig, process, "closed", port, options) as ready:
                    costs[name].append(ready.go().proxy_us)
    differences = [keyed - bare for bare, keyed in zip(costs["open"], costs["keys"], strict=True)]
    return [
        Finding("a request without keys, CPU µs", median(costs["open"])),
        Finding("a request with a key and four limits, CPU µs", median(costs["keys"])),
        Finding("difference, median of pairs, CPU µs", median(differences), MOST_US),
        Finding("of it the gate's own work, CPU µs", gate_us(PLENTY), MOST_US),
    ]


@contextlib.contextmanager
def _router(engine_port: int, cores: Cores, name: str) -> Iterator[tuple[int, int, list[object]]]:
    with tempfile.TemporaryDirectory(prefix="access-") as directory:
        folder, port = Path(directory), free_port()
        sections, headers = "", list[object]()
        if name == "keys":
            text = asyncio.run(key_in(folder, PLENTY))
            headers = ["--header", f"Authorization: Bearer {text}"]
            sections = f'[access]\n[state]\ndirectory = "{folder}"\n'
        path = folder / "headway.toml"
        path.write_text(CONFIG.format(port=port, sections=sections, engine=engine_port))
        started = [] if compiler_missing() else compiled_router()
        command = [*started, sys.executable, "-m", "router", "serve", str(path)]
        with (folder / "log").open("wb") as log:  # noqa: SIM117 - the log outlives the process
            with running(command, cores.proxy, output=log, log=log, cwd=ROOT) as process:
                _wait(port)
                yield port, process.pid, headers


def _wait(port: int) -> None:
    """Wait until a router is ready: its engine was probed."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).is_success:
                return
        time.sleep(0.05)
    raise TimeoutError("the router does not become ready")
