"""What is promised beyond the matrix, measured: a kill at full load, a freeze, slowness, a crowd."""

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from engines.launch.llamacpp import MODEL as REAL_MODEL
from tests.faults.catalogue import Deed, telling
from tests.faults.crowd import (
    COMPLETIONS,
    Account,
    Crowd,
    Fate,
    Known,
    Moment,
    Wishes,
    read_stream,
)
from tests.faults.markov import continued
from tests.faults.matrix import BODY, MAX_TOKENS, known_answers
from tests.faults.stage import LLAMACPP, MODEL, PATIENCE_S, SPEAKER, Engine, Stage, stage

SPEAKERS = tuple(Engine(f"s-{number}", SPEAKER, "p", "throughput") for number in range(3))
REAL = tuple(Engine(f"r-{number}", LLAMACPP, "p", "predictable") for number in range(2))
FROZEN_S = 2.0
"""No interactive request is sent to an engine later than this after it froze."""
SLOW_S = 5.0
"""After so long a slow engine has lost its share."""
WELL_S = 4.0
ILL_S = 9.0
AGAIN_S = 8.0
BURST_S = 0.3
"""An engine that is back may have its slots, but not at once:"""
MOST_AT_ONCE = 3
"""so many in that time, or as many as it was given at its busiest while it was well."""
TRIED_S = 1.0
LEAST_RIGHT = 0.95


@dataclass(slots=True)
class Line:
    """One promise, and how it was kept."""

    name: str
    said: str = ""
    """Figures."""
    flaws: list[str] = field(default_factory=list)


async def kill_under_load(seed: int, fleet: Sequence[Engine]) -> Line:
    """Kill one engine of a pool at full load, all streams asking to be continued."""
    real = fleet[0].kind == LLAMACPP
    line = Line(f"kill -9 of one of {len(fleet)} ({'llama.cpp' if real else 'stand-ins'})")
    rng = Random(seed)
    more = "[policy.retry]\nshare_of_requests = 1.0\nburst = 100.0\n" + (REAL_WAITS if real else "")
    model = REAL_MODEL if real else "m"
    with tempfile.TemporaryDirectory(prefix="headway-kill-") as folder:
        patience_s = REAL_PATIENCE_S if real else PATIENCE_S
        async with stage(Path(folder), fleet, model=model, more=more, patience_s=patience_s) as on:
            known = await _real_answers(on) if real else _right_answers(rng)
            tokens = REAL_TOKENS if real else SPOKEN_TOKENS
            wishes = Wishes(model, known, tokens, stream_share=0.85, continues=True)
            wishes.patience_s = 60.0
            crowd = Crowd(on.router_port, wishes, rng)
            callers = 5 if real else 24
            async with asyncio.TaskGroup() as group:
                running = group.create_task(crowd.run(callers))
                for _ in range(REAL_KILLS if real else KILLS):
                    await asyncio.sleep(2.5)
                    name = fleet[rng.randrange(len(fleet))].name
                    _note(on, name, crowd)
                    on.kill(name)
                    await asyncio.sleep(2.0)
                    await on.mend()
                    await on.all_back()
                crowd.stopping = True
                await running
            own = await _engines_own(on, wishes, crowd.accounts) if real else frozenset()
            if real:
                line.said = await _nondeterminism(on, known)
    _judge_kill(line, crowd.accounts, own)
    return line


async def _engines_own(on: Stage, wishes: Wishes, accounts: Sequence[Account]) -> frozenset[str]:
    """Return the continued answers whose text is the engine's own, although it is not the known one.

    Asked without the router to go on from the same beginning, it says the same.
    """
    alike = set()
    for account in accounts:
        seams = account.receipt.get("seams")
        if account.fate is not Fate.WRONG or not isinstance(seams, list) or not seams:
            continue
        sent = seams[-1]["tokens"]
        beginning = "".join(account.parts[:sent])
        prompt = wishes.known[account.prompt].prompt + beginning
        rest = await _said(on, prompt, wishes.max_tokens - sent)
        if beginning + rest == account.text:
            alike.add(account.id)
    return frozenset(alike)


async def _nondeterminism(on: Stage, known: Sequence[Known]) -> str:
    """Say how often the engine, without the router, says the same again: asked anew, and cut."""
    again, whole, cut, cuts = 0, 0, 0, 0
    for each in known:
        again += await _said(on, each.prompt, REAL_TOKENS) == each.text
        whole += 1
        parts = await _parts(on, each.prompt)
        for sent in range(1, len(parts) - 1, 3):
            beginning = "".join(parts[:sent])
            rest = await _said(on, each.prompt + beginning, REAL_TOKENS - sent)
            cut += beginning + rest == each.text
            cuts += 1
    return (
        f"without the router the engine says the same to the same prompt {again} of {whole} times,"
        f" and to the prompt with the beginning of its own answer {cut} of {cuts} times; "
    )


REAL_PATIENCE_S = 10.0
"""An engine on a core that it shares may need so long for a first token after another one died."""
REAL_WAITS = "[policy.classes.interactive]\nmax_wait_s = 10.0\n"
"""One that is left of two is waited for so long, as is its first token."""
KILLS = 4
REAL_KILLS = 12
REAL_TOKENS = 32
SPOKEN_TOKENS = 40
QUESTIONS = (
    "The capital of France is",
    "Once upon a time there was a",
    "Water boils at a temperature of",
    "My favourite season of the year is",
)


def _right_answers(rng: Random) -> list[Known]:
    prompts = [f"story {rng.getrandbits(30)} begins" for _ in range(32)]
    return [Known(prompt, continued(prompt, SPOKEN_TOKENS)) for prompt in prompts]


async def _real_answers(on: Stage) -> list[Known]:
    return [Known(prompt, await _said(on, prompt, REAL_TOKENS)) for prompt in QUESTIONS]


async def _said(on: Stage, prompt: str, tokens: int) -> str:
    """Return what the engine itself says."""
    body = {"model": REAL_MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
    answer = (await on.control.post(_url(on), json=body)).raise_for_status()
    text: str = answer.json()["choices"][0]["text"]
    return text


async def _parts(on: Stage, prompt: str) -> list[str]:
    """Return it by events."""
    body = {"model": REAL_MODEL, "prompt": prompt, "max_tokens": REAL_TOKENS, "temperature": 0}
    answer = await on.control.post(_url(on), json={**body, "stream": True})
    account = Account(id="", stream=True, sla_class="", prompt=0, sent_at=0.0)
    read_stream(account, answer.raise_for_status().content)
    return account.parts


def _url(on: Stage) -> str:
    return f"http://127.0.0.1:{on.gates['r-0'].engine_port}{COMPLETIONS}"


def _note(on: Stage, name: str, crowd: Crowd) -> None:
    for account in crowd.live:
        if account.id in on.gates[name].open:
            account.moment = Moment.STREAMING if account.bytes_seen else Moment.BEFORE


def _judge_kill(line: Line, accounts: Sequence[Account], own: frozenset[str]) -> None:
    cut = [each for each in accounts if each.moment is Moment.STREAMING]
    same = sum(each.fate is Fate.SERVED for each in cut)
    right = sum(each.fate is Fate.SERVED or each.id in own for each in cut)
    whole = sum(each.fate in (Fate.SERVED, Fate.WRONG) for each in cut)
    hurt = [
        each for each in accounts if each.moment is not Moment.STREAMING and not _is_answered(each)
    ]
    lost = sum(each.fate is Fate.LOST for each in accounts)
    line.said += (
        f"{len(accounts)} requests, {len(cut)} streams cut: {whole} ended whole, {same} of them"
        f" with the right text"
        + (f" and {right - same} with what the engine itself goes on with" if own else "")
        + f"; {len(hurt)} others failed, {lost} lost"
    )
    if not cut or right < LEAST_RIGHT * len(cut):
        said = Counter(each.said for each in cut if each.fate not in (Fate.SERVED, Fate.WRONG))
        line.flaws.append(
            f"only {right} of {len(cut)} cut streams were continued rightly: {said.most_common(3)}"
        )
    if hurt:
        line.flaws.append(f"{len(hurt)} without a byte out failed: {hurt[0].said}")
    if lost:
        line.flaws.append(f"{lost} lost")


def _is_answered(account: Account) -> bool:
    # A real engine's own answers differ a little from batch to batch, also at temperature 0.
    return account.fate in (Fate.SERVED, Fate.WRONG) or bool(account.text)


async def illnesses(seed: int) -> AsyncIterator[Line]:
    """Freeze an engine, and slow one down, and see how soon it is left alone, and is back."""
    with tempfile.TemporaryDirectory(prefix="headway-ill-") as folder:
        async with stage(Path(folder)) as on:
            known = await known_answers(on, Random(seed))
            hang, slow = telling("fast-0", hang=True), telling("fast-0", slow_factor=5.0)
            for name, strike in (("hang (stand-in)", hang), ("slow x5 (stand-in)", slow)):
                wishes = Wishes(MODEL, known, MAX_TOKENS, stream_share=0.8, body=BODY)
                line = Line(name)
                crowd = Crowd(on.router_port, wishes, Random(seed))
                await _fall_ill(on, "fast-0", line, strike, crowd, 22)
                yield line
                await on.all_back()
    with tempfile.TemporaryDirectory(prefix="headway-ill-") as folder:
        async with stage(Path(folder), REAL, model=REAL_MODEL) as on:
            wishes = Wishes(REAL_MODEL, await _real_answers(on), REAL_TOKENS, patience_s=60.0)
            line = Line("SIGSTOP (llama.cpp)")

            async def freeze(stage: Stage) -> None:
                stage.send("r-0", signal.SIGSTOP)

            await _fall_ill(on, "r-0", line, freeze, Crowd(on.router_port, wishes, Random(seed)), 3)
            yield line


def _at_once(moments: Sequence[float], first: float) -> int:
    return sum(first <= each < first + BURST_S for each in moments)


async def _fall_ill(
    on: Stage, victim: str, line: Line, strike: Deed, crowd: Crowd, callers: int
) -> None:
    now = asyncio.get_running_loop().time
    gate = on.gates[victim]
    gate.arrivals.clear()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(crowd.run(callers))
        began = now()
        await asyncio.sleep(WELL_S)
        struck = now()
        await strike(on)
        await asyncio.sleep(ILL_S)
        mended = now()
        await on.mend()
        await asyncio.sleep(AGAIN_S)
        crowd.stopping = True
        await running
    told = [(at, class_) for at, class_ in gate.arrivals if class_]
    usual = sum(began < at < struck for at, _ in told) / WELL_S
    after = sum(struck + SLOW_S < at < mended for at, _ in told) / (ILL_S - SLOW_S)
    frozen = [
        at - struck for at, class_ in told if struck < at < mended and class_ == "interactive"
    ]
    back = [at for at, _ in told if at > mended]
    back_s = back[0] - mended if back else None
    burst = max((_at_once(back, at) for at in back[:3]), default=0)
    well = [at for at, _ in told if began < at < struck]
    busiest = max((_at_once(well, at) for at in well), default=0)
    last = max(frozen, default=0.0)
    line.said = (
        f"{usual:.1f} requests/s before, at most {busiest} in {BURST_S:g} s;"
        f" {after:.1f}/s from {SLOW_S:g} s after; the last interactive"
        f" one {last:.2f} s after; back after "
        + ("never" if back_s is None else f"{back_s:.1f} s, at most {burst} in {BURST_S:g} s")
    )
    if "slow" not in line.name and last > FROZEN_S:
        line.flaws.append(f"an interactive request was sent there {last:.2f} s after it froze")
    if after > 0.25 * usual:
        line.flaws.append(f"it kept {after / usual:.0%} of its share")
    if back_s is None:
        line.flaws.append("it did not come back")
    # One that was being tried when it was mended was given what it had shown room for.
    was_tried = any(mended - TRIED_S < at <= mended for at, _ in told)
    if burst > max(MOST_AT_ONCE, busiest) and not was_tried:
        line.flaws.append(f"it was given {burst} requests at once when it came back")
    lost = [each for each in crowd.accounts if each.fate is Fate.LOST]
    if lost:
        line.flaws.append(f"{len(lost)} lost: {lost[0].said}")
