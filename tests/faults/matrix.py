"""Plays one fault after another under load, and makes a table of what became of every request."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.catalogue import Fault
from tests.faults.crowd import COMPLETIONS, Account, Crowd, Fate, Known, Moment, Wishes, doubled
from tests.faults.stage import BACK_S, MODEL, Stage, stage
from tests.faults.stillness import stillness

CALLERS = 30
PROMPTS = 24
MAX_TOKENS = 24
BEFORE_S = 1.3
AFTER_S = 0.8
END_S = 180.0
MOST_TRIES = 3
STILL_S = 1.0
"""A machine that stands still for so long makes faults of its own."""
BODY: dict[str, object] = {"ignore_eos": True}


@dataclass(slots=True)
class Row:
    """What one fault did."""

    name: str
    cells: dict[Moment, Counter[Fate]]
    doubled: int
    back_s: float | None
    """After how long every endpoint was used again; None: not in time."""
    flaws: list[str] = field(default_factory=list)
    """In what it falls short."""
    notes: Counter[str] = field(default_factory=Counter)
    """What errors said."""

    @property
    def lost(self) -> int:
        """Requests with no answer or a false one."""
        return sum(cell[Fate.LOST] + cell[Fate.WRONG] for cell in self.cells.values())

    @property
    def total(self) -> int:
        """Requests."""
        return sum(cell.total() for cell in self.cells.values())


async def known_answers(on: Stage, rng: Random) -> list[Known]:
    """Ask one stand-in, all of whose kind give the same answers, what is right."""
    prompts = [f"Question {rng.getrandbits(32)}: what comes next?" for _ in range(PROMPTS)]
    async with asyncio.TaskGroup() as group:
        told = [
            [group.create_task(_told(on, name, each)) for name in ("wide-0", "fast-0")]
            for each in prompts
        ]
    # A TGI ends where its model would, whatever it is asked: such prompts are left out.
    return [
        Known(prompt, one.result())
        for prompt, (one, other) in zip(prompts, told, strict=True)
        if one.result() == other.result()
    ]


async def _told(on: Stage, name: str, prompt: str) -> str:
    url = f"http://127.0.0.1:{on.gates[name].engine_port}{COMPLETIONS}"
    body = {"model": MODEL, "prompt": prompt, "max_tokens": MAX_TOKENS, **BODY}
    answer = (await on.control.post(url, json=body)).raise_for_status()
    text: str = answer.json()["choices"][0]["text"]
    return text


async def rows(faults: Sequence[Fault], seed: int) -> AsyncIterator[Row]:
    """Play the faults, those in one fleet together."""
    rng = Random(seed)
    fleets: dict[tuple[str | None, bool], list[Fault]] = {}
    for fault in faults:
        fleets.setdefault((fault.lost, fault.shared), []).append(fault)
    for (lost, shared), played in fleets.items():
        with tempfile.TemporaryDirectory(prefix="headway-faults-") as folder:
            async with stage(Path(folder), lost=lost, shared=shared) as on:
                known = await known_answers(on, rng)
                for fault in played:
                    yield await _played(on, fault, known, Random(rng.getrandbits(32)))


async def _played(on: Stage, fault: Fault, known: list[Known], rng: Random) -> Row:
    """Play a fault, and again where this whole machine stood still meanwhile."""
    for _ in range(MOST_TRIES):
        async with stillness() as still:
            row = await play(on, fault, known, rng)
        if still.longest_s < STILL_S:
            return row
    row.flaws.append(f"the machine stood still for {still.longest_s:.1f} s: no judgement")
    return row


async def play(on: Stage, fault: Fault, known: list[Known], rng: Random) -> Row:
    """Play one fault under load."""
    crowd = Crowd(on.router_port, Wishes(MODEL, known, MAX_TOKENS, body=BODY), rng)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(crowd.run(CALLERS))
        await asyncio.sleep(BEFORE_S)
        if not fault.lost:
            await _used(on, fault)
        note_moments(on, fault, crowd)
        await fault.strike(on)
        await asyncio.sleep(fault.lasts_s)
        unnoticed = fault.shared and await on.sharing()
        await on.mend()
        shared_s = await on.shares() if fault.shared else None
        back_s = None if fault.lost else await _used(on, fault)
        if fault.shared:
            back_s = shared_s
        await asyncio.sleep(AFTER_S)
        crowd.stopping = True
        async with asyncio.timeout(END_S):
            await running
    answered: Counter[str] = Counter()
    for gate in on.gates.values():
        answered.update(gate.answered)
    row = Row(
        fault.name, _cells(crowd), len(doubled(lambda id_: answered[id_], crowd.accounts)), back_s
    )
    row.notes.update(each.said for each in crowd.accounts if each.fate not in (None, Fate.SERVED))
    row.flaws = flaws_of(row, fault, crowd.accounts)
    if unnoticed:
        row.flaws.append("the routers took Redis for well")
    on.router.must_run()
    return row


async def _used(on: Stage, fault: Fault) -> float | None:
    """Return after how many seconds each victim has been sent a request; None: not in time."""
    now = asyncio.get_running_loop().time
    began = now()
    while now() - began < BACK_S:
        gates = [on.gates[name] for name in fault.victims]
        if all(any(at > began and class_ for at, class_ in gate.arrivals) for gate in gates):
            return now() - began
        await asyncio.sleep(0.05)
    return None


def note_moments(on: Stage, fault: Fault, crowd: Crowd) -> None:
    """Write down where every request stands that the fault is about to befall."""
    at_victims = {id_ for name in fault.victims for id_ in on.gates[name].open}
    anywhere = {id_ for gate in on.gates.values() for id_ in gate.open}
    for account in crowd.live:
        if account.id in at_victims:
            account.moment = _moment(account)
        elif account.id not in anywhere and not account.bytes_seen:
            account.moment = Moment.QUEUED


def _moment(account: Account) -> Moment:
    if not account.stream:
        return Moment.PLAIN
    return Moment.STREAMING if account.bytes_seen else Moment.BEFORE


def _cells(crowd: Crowd) -> dict[Moment, Counter[Fate]]:
    cells: dict[Moment, Counter[Fate]] = {moment: Counter() for moment in Moment}
    for account in crowd.accounts:
        cells[account.moment][account.fate or Fate.LOST] += 1
    return cells


def flaws_of(row: Row, fault: Fault, accounts: Sequence[Account]) -> list[str]:
    """Say in what a row falls short of what is promised."""
    flaws = []
    if row.lost:
        flaws.append(f"{row.lost} requests lost or answered wrongly")
    if row.doubled:
        flaws.append(f"{row.doubled} requests answered twice")
    if row.back_s is None and not fault.lost:
        flaws.append("not every endpoint came back")
    if fault.spares:
        hurt = [each for each in accounts if _is_needless(each, fault)]
        if hurt:
            flaws.append(f"{len(hurt)} requests failed or refused that others could have served")
    return flaws


def _is_needless(account: Account, fault: Fault) -> bool:
    """Tell whether a request was not served although nothing of an answer was out."""
    if account.fate not in (Fate.FAILED, Fate.REFUSED):
        return False
    if account.moment in fault.excused:
        return False
    return fault.slow or not account.bytes_seen or (account.stream and not account.text)


def table(played: Sequence[Row]) -> str:
    """Return the matrix in Markdown."""
    head = ["fault", *Moment, "lost", "doubled", "back after"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in played:
        cells = [_cell(row.cells[moment]) for moment in Moment]
        back = "-" if row.back_s is None else f"{row.back_s:.1f} s"
        lines.append(
            "| " + " | ".join((row.name, *cells, str(row.lost), str(row.doubled), back)) + " |"
        )
    return "\n".join(lines)


def _cell(fates: Counter[Fate]) -> str:
    return ", ".join(f"{fates[fate]} {fate}" for fate in Fate if fates[fate]) or "-"
