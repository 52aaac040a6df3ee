"""Load for a long time, with a fault every few seconds; what stays flat, and who is served, is told.

Beside the result as a line there is a document with a row for every minute and with every request
that was not served as promised. It is written again each minute, so that a run that was cut short
has left what it had seen; SIGTERM or Ctrl-C end a run early, and it is judged by what it had seen.
"""

import asyncio
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import httpx

from tests.faults import catalogue
from tests.faults.catalogue import Fault
from tests.faults.crowd import Crowd, Known, Wishes
from tests.faults.crowded import memory_mb, open_files
from tests.faults.lines import SPOKEN_TOKENS, Line
from tests.faults.markov import continued
from tests.faults.soaked import (
    FIRST_TOKEN_S,
    PER_TOKEN_S,
    Record,
    Sample,
    Strike,
    document,
    judge,
)
from tests.faults.stage import SPEAKER, Engine, Stage, stage
from tests.faults.stillness import stillness

FLEET = (
    Engine("fast-0", SPEAKER, "fast", "predictable"),
    Engine("fast-1", SPEAKER, "fast", "predictable"),
    Engine("wide-0", SPEAKER, "wide", "throughput"),
    Engine("wide-1", SPEAKER, "wide", "throughput"),
)
CALLERS = 9
EVERY_S = 5.0
LASTS_S = 3.0
TELL_EVERY = 12
"""Faults between two lines of progress: a minute."""
TRIES = 20
MORE = f"""
[policy.classes.interactive]
max_wait_s = 5.0
[policy.classes.interactive.targets]
first_token_s = {FIRST_TOKEN_S}
per_token_s = {PER_TOKEN_S}
[policy.retry]
share_of_requests = 0.5
burst = 50.0
"""


def faults() -> list[Fault]:
    """Return those that can come and go in one fleet."""
    made = [each for each in catalogue.FAULTS if not (each.lost or each.shared)]
    return [*made, Fault("another one refused", catalogue.refusing("fast-1"), victims=("fast-1",))]


async def soak(seed: int, seconds: float, say: Callable[[str], None], result: Path | None) -> Line:
    """Run so long; `result`: where the document goes."""
    rng = Random(seed)
    prompts = [f"tale {rng.getrandbits(30)} begins" for _ in range(32)]
    known = [Known(prompt, continued(prompt, SPOKEN_TOKENS)) for prompt in prompts]
    wishes = Wishes("m", known, SPOKEN_TOKENS, stream_share=0.8, continues=True)
    with tempfile.TemporaryDirectory(prefix="headway-soak-") as folder:
        async with stage(Path(folder), FLEET, model="m", more=MORE) as on, stillness() as still:
            crowd = Crowd(on.router_port, wishes, rng)
            now = asyncio.get_running_loop().time
            record = Record(now(), crowd.accounts, still)
            async with asyncio.TaskGroup() as group, _stoppable() as stop:
                running = group.create_task(crowd.run(CALLERS))
                while now() - record.began < seconds and not stop.is_set():
                    await _strike(on, rng.choice(faults()), record, stop)
                    if on.router.exit_code is not None:
                        record.troubles.append("the router ended by itself")
                        break
                    record.samples.append(await _sample(on, now()))
                    if len(record.samples) % TELL_EVERY == 0:
                        say(record.progress())
                        _write(result, record, None)
                crowd.stopping = True
                await running
            if on.router.exit_code is None:
                record.back_s = await on.all_back()
                record.left = (await _sample(on, now())).held
            record.count_doubled(gate.answered for gate in on.gates.values())
            if result is not None:
                shutil.copy(Path(folder) / "router.log", result.with_suffix(".log"))
    line = judge(record)
    _write(result, record, line)
    return line


async def _strike(on: Stage, fault: Fault, record: Record, stop: asyncio.Event) -> None:
    """Wait, break something, wait, and mend it."""
    now = asyncio.get_running_loop().time
    await _wait(stop, EVERY_S - LASTS_S)
    struck = now()
    try:
        await fault.strike(on)
    except httpx.HTTPError as error:
        record.troubles.append(f"{fault.name} could not be done: {error!r}")
    await _wait(stop, LASTS_S)
    for _ in range(TRIES):
        try:
            await on.mend()
            break
        except (httpx.HTTPError, OSError) as error:
            record.troubles.append(f"{fault.name} could not be mended at once: {error!r}")
            await asyncio.sleep(0.1)
    record.strikes.append(Strike(fault.name, fault.victims, struck, now()))


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


@asynccontextmanager
async def _stoppable() -> AsyncGenerator[asyncio.Event]:
    """Yield what is set when this process is told to end."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    try:
        yield stop
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)


async def _sample(on: Stage, at: float) -> Sample:
    """Return what the router holds."""
    text = ""
    with suppress(httpx.HTTPError):
        text = (await on.control.get(f"http://127.0.0.1:{on.router_port}/metrics")).text

    def total(names: str) -> float:
        found = re.findall(rf"^headway_(?:{names})(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    return Sample(
        at,
        memory_mb(on.router.pid),
        open_files(on.router.pid),
        total("tasks"),
        total("open_connections"),
        total("in_flight|waiting"),
    )


def _write(result: Path | None, record: Record, line: Line | None) -> None:
    if result is not None:
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(document(record, line))
