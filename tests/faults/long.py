"""Long prompts on real engines that compute on one core: nobody may be taken for sick meanwhile."""

import asyncio
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

from engines.launch.llamacpp import MODEL as REAL_MODEL
from tests.faults.crowd import COMPLETIONS, Crowd, Fate, Known, Wishes
from tests.faults.lines import QUESTIONS, Line
from tests.faults.stage import LLAMACPP, Engine, Stage, stage

FLAGS = ("--batch-size", "8192", "--ubatch-size", "512", "--ctx-size", "16384")
"""One step may take a whole prompt: meanwhile nobody gets a token."""
FLEET = tuple(Engine(f"r-{number}", LLAMACPP, "p", "throughput", FLAGS) for number in range(2))
WORDS = 1200
"""Of a long prompt; about as many tokens."""
SHORT_TOKENS = 16
CALLERS = 2
PATIENCE_S = 120.0
LOOK_S = 0.05


@dataclass(slots=True)
class Sick:
    """For how long an endpoint is not used."""

    seconds: float = 0.0

    async def watch(self, on: Stage) -> None:
        """Look, for ever."""
        while True:
            if await on.serving() < len(on.gates):
                self.seconds += LOOK_S
            await asyncio.sleep(LOOK_S)


async def long_prompts(seed: int) -> Line:
    """Send long prompts beside short ones, as streams and not, and watch what the router thinks."""
    line = Line("long prompts (llama.cpp on one core)")
    rng = Random(seed)
    with tempfile.TemporaryDirectory(prefix="headway-long-") as folder:
        async with stage(Path(folder), FLEET, model=REAL_MODEL, patience_s=PATIENCE_S) as on:
            known = [Known(prompt, "") for prompt in QUESTIONS]
            wishes = Wishes(REAL_MODEL, known, SHORT_TOKENS, patience_s=PATIENCE_S)
            crowd = Crowd(on.router_port, wishes, rng)
            sick = Sick()
            watching = asyncio.get_running_loop().create_task(sick.watch(on))
            async with asyncio.TaskGroup() as group:
                running = group.create_task(crowd.run(CALLERS))
                await asyncio.sleep(2.0)
                took = [await _ask(on, rng, stream=stream) for stream in (True, False, True)]
                both = [group.create_task(_ask(on, rng, stream=each)) for each in (True, False)]
                took += [await each for each in both]
                crowd.stopping = True
                await running
            watching.cancel()
    failed = [each for each in crowd.accounts if each.fate not in (Fate.SERVED, Fate.WRONG)]
    longest_s = max(each.ended_at - each.sent_at for each in crowd.accounts)
    line.said = (
        f"{len(took)} prompts of {WORDS} words took {min(took):.1f} to {max(took):.1f} s,"
        f" {len(crowd.accounts)} short ones beside them up to {longest_s:.1f} s; an endpoint was"
        f" taken for sick for {sick.seconds:.1f} s, {len(failed)} requests failed"
    )
    if sick.seconds:
        line.flaws.append(f"an engine that read a long prompt was out for {sick.seconds:.1f} s")
    if failed:
        line.flaws.append(f"{len(failed)} requests failed: {failed[0].said}")
    return line


async def _ask(on: Stage, rng: Random, *, stream: bool) -> float:
    """Ask one long question; return how long the answer took, s."""
    now = asyncio.get_running_loop().time
    began = now()
    # Every one is another, so that no engine knows its beginning.
    prompt = " ".join(
        rng.choice(["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]) for _ in range(WORDS)
    )
    body = {"model": REAL_MODEL, "prompt": prompt, "max_tokens": 4, "temperature": 0}
    answer = await on.control.post(
        f"http://127.0.0.1:{on.router_port}{COMPLETIONS}",
        content=json.dumps({**body, "stream": stream}),
        timeout=PATIENCE_S,
    )
    answer.raise_for_status()
    return now() - began
