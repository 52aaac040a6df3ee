"""Load for a long time, with a fault every few seconds; what must stay flat, and who must be served."""

import asyncio
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median

from tests.faults import catalogue
from tests.faults.catalogue import Fault, refusing
from tests.faults.crowd import Account, Crowd, Fate, Known, Wishes
from tests.faults.crowded import memory_mb, open_files
from tests.faults.lines import SPOKEN_TOKENS, Line
from tests.faults.markov import continued
from tests.faults.stage import SPEAKER, Engine, Stage, stage

FLEET = (
    Engine("fast-0", SPEAKER, "fast", "predictable"),
    Engine("fast-1", SPEAKER, "fast", "predictable"),
    Engine("wide-0", SPEAKER, "wide", "throughput"),
    Engine("wide-1", SPEAKER, "wide", "throughput"),
)
CALLERS = 9
EVERY_S = 5.0
LASTS_S = 3.0
MOST_GROWTH_MB = 8.0
MOST_GROWTH_FILES = 20.0
LEAST_MET = 0.99
WARM = 0.2
"""Share of the time before what is flat must be flat."""
MORE = """
[policy.classes.interactive]
max_wait_s = 5.0
[policy.classes.interactive.targets]
first_token_s = 3.0
per_token_s = 0.2
[policy.retry]
share_of_requests = 0.5
burst = 50.0
"""
NAMES = frozenset({"hang with health 200", "batch-wide 424", "engine drain", "DNS gone"})
"""Faults that only a stand-in with an engine's insides has."""


def faults() -> list[Fault]:
    """Return those that leave enough healthy capacity, and that these stand-ins can have."""
    made = [
        fault
        for fault in catalogue.FAULTS
        if fault.spares and fault.name not in NAMES and not _needs_insides(fault)
    ]
    return [*made, Fault("another one refused", refusing("fast-1"))]


def _needs_insides(fault: Fault) -> bool:
    return fault.name.startswith(("slow", "fast ", "503"))


async def soak(seed: int, seconds: float, say: Callable[[str], None]) -> Line:
    """Run so long."""
    line = Line(f"{seconds:.0f} s of load with a fault every {EVERY_S:g} s")
    rng = Random(seed)
    prompts = [f"tale {rng.getrandbits(30)} begins" for _ in range(32)]
    known = [Known(prompt, continued(prompt, SPOKEN_TOKENS)) for prompt in prompts]
    wishes = Wishes("m", known, SPOKEN_TOKENS, stream_share=0.8, continues=True)
    memory, files = [], []
    played: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="headway-soak-") as folder:
        async with stage(Path(folder), FLEET, model="m", more=MORE) as on:
            crowd = Crowd(on.router_port, wishes, rng)
            now = asyncio.get_running_loop().time
            async with asyncio.TaskGroup() as group:
                running = group.create_task(crowd.run(CALLERS))
                ends_at = now() + seconds
                while now() < ends_at:
                    await asyncio.sleep(EVERY_S - LASTS_S)
                    fault = rng.choice(faults())
                    played[fault.name] += 1
                    await fault.strike(on)
                    await asyncio.sleep(LASTS_S)
                    await on.mend()
                    memory.append(memory_mb(on.router.pid))
                    files.append(open_files(on.router.pid))
                    if len(memory) % 12 == 0:
                        say(f"    {len(crowd.accounts)} requests, {memory[-1]:.0f} MB")
                crowd.stopping = True
                await running
            left = await _left(on)
    _judge(line, crowd.accounts, memory, files, left)
    return line


async def _left(on: Stage) -> float:
    """Return what the router holds of requests now that nobody asks."""
    await on.all_back()
    answer = await on.control.get(f"http://127.0.0.1:{on.router_port}/metrics")
    held = re.findall(r"^headway_(?:in_flight|waiting)\{[^}]*\} (\S+)$", answer.text, re.MULTILINE)
    return sum(map(float, held))


def _judge(
    line: Line, accounts: list[Account], memory: list[float], files: list[int], left: float
) -> None:
    first = int(len(memory) * WARM)
    half = first + (len(memory) - first) // 2
    grown_mb = median(memory[half:]) - median(memory[first:half] or memory)
    grown_files = median(files[half:]) - median(files[first:half] or files)
    urgent = [each for each in accounts if each.sla_class == "interactive" and each.stream]
    met = sum(each.fate is Fate.SERVED and each.receipt.get("sla") == "met" for each in urgent)
    fates = Counter(each.fate for each in accounts)
    share = met / max(1, len(urgent))
    told = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
    line.said = (
        f"{told}; interactive met {share:.2%} of {len(urgent)}; memory {memory[-1]:.0f} MB"
        f" ({grown_mb:+.1f} MB in the second half), {files[-1]} files ({grown_files:+.0f}),"
        f" {left:.0f} requests held in the end"
    )
    if lost := fates[Fate.LOST] + fates[Fate.WRONG]:
        line.flaws.append(f"{lost} lost or answered wrongly")
    if grown_mb > MOST_GROWTH_MB or grown_files > MOST_GROWTH_FILES:
        line.flaws.append(f"grew by {grown_mb:.1f} MB and {grown_files:.0f} files")
    if left:
        line.flaws.append(f"{left:.0f} requests are held although nobody asks")
    if share < LEAST_MET:
        line.flaws.append(f"interactive met only {share:.2%}")
