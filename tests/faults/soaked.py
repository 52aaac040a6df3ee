"""What came of a long run with faults, and whether it is what was promised."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from tests.faults.crowd import Account, Fate, doubled
from tests.faults.lines import SPOKEN_TOKENS, Line
from tests.faults.stillness import Stillness

ENOUGH = 2
"""Healthy endpoints of the four whose slots are enough for all callers at once."""
ENDPOINTS = 4
FIRST_TOKEN_S = 3.0
PER_TOKEN_S = 0.2
"""What interactive requests are promised."""
MOST_GROWTH_MB = 8.0
MOST_GROWTH_FILES = 20.0
MOST_GROWTH_TASKS = 10.0
LEAST_MET = 0.99
STILL_S = 1.0
"""While this process did not run for so long, neither did the others: nothing of then is judged."""
MOST_STILL = 0.05
"""Share of the requests that may be left out for that."""
WARM = 0.2
"""Share of the time before what is flat must be flat."""
MOST_TOLD = 200


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault, as it was done."""

    name: str
    victims: tuple[str, ...]
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What the router held at a moment, at the end of a fault."""

    at: float
    memory_mb: float
    files: float
    tasks: float
    connections: float
    held: float
    """Requests in flight and waiting."""


@dataclass(slots=True)
class Record:
    """One run."""

    began: float
    accounts: list[Account]
    still: Stillness
    strikes: list[Strike] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What the runner itself could not do at once."""
    left: float = 0.0
    """Requests held after the last one had ended."""
    doubled: int = 0
    back_s: float | None = None

    def progress(self) -> str:
        """Return one line."""
        last = self.samples[-1]
        ended = [each for each in self.accounts if each.fate is not None]
        told = ", ".join(f"{count} {fate}" for fate, count in _fates(ended).most_common())
        judged, met = self.attainment()
        return (
            f"    {last.at - self.began:.0f} s: {told}; interactive met {met} of {judged};"
            f" {last.memory_mb:.0f} MB, {last.files:.0f} files, {last.tasks:.0f} tasks,"
            f" {last.connections:.0f} connections"
        )

    def count_doubled(self, answered: Iterable[Counter[str]]) -> None:
        """Count requests that engines answered as a whole more than once."""
        total: Counter[str] = Counter()
        for each in answered:
            total.update(each)
        self.doubled = len(doubled(lambda id_: total[id_], self.accounts))

    def had_capacity(self, account: Account) -> bool:
        """Return whether enough endpoints were well all the time from a request to its answer."""
        struck = {
            name
            for each in self.strikes
            if account.sent_at < each.ended and account.ended_at > each.began
            for name in each.victims
        }
        return ENDPOINTS - len(struck) >= ENOUGH

    def stood_still(self, account: Account) -> bool:
        """Return whether this process did not run for a while of that time."""
        return any(
            account.sent_at < ended and account.ended_at > began
            for began, ended in self.still.spells(STILL_S)
        )

    def attainment(self) -> tuple[int, int]:
        """Return how many interactive requests are judged, and how many were served in time."""
        judged = [each for each in self.accounts if self._is_judged(each)]
        return len(judged), sum(is_met(each) for each in judged)

    def _is_judged(self, account: Account) -> bool:
        return (
            account.sla_class == "interactive"
            and account.fate is not None
            and self.had_capacity(account)
            and not self.stood_still(account)
        )

    def amiss(self) -> list[Account]:
        """Return the requests that were not served as promised, those that nobody judges included."""
        return [
            each
            for each in self.accounts
            if each.fate is not None
            and (
                each.fate is not Fate.SERVED
                or (each.sla_class == "interactive" and not is_met(each))
            )
        ]


def is_met(account: Account) -> bool:
    """Return whether a request was served, and in time.

    A stream's receipt tells. An answer that comes as a whole has no first token that could be
    seen: it must have come by the time at which a stream that meets both targets would have ended.
    """
    if account.fate is not Fate.SERVED:
        return False
    if account.stream:
        return account.receipt.get("sla") == "met"
    in_time_s = FIRST_TOKEN_S + SPOKEN_TOKENS * PER_TOKEN_S
    return account.ended_at - account.sent_at <= in_time_s


def _fates(accounts: Iterable[Account]) -> Counter[Fate]:
    return Counter(each.fate for each in accounts if each.fate is not None)


def judge(record: Record) -> Line:
    """Return what was promised, and how it was kept."""
    samples = record.samples
    lasted_s = samples[-1].at - record.began
    line = Line("long load, a fault every 5 s")
    memory = _growth([each.memory_mb for each in samples])
    files = _growth([each.files for each in samples])
    tasks = _growth([each.tasks for each in samples])
    fates = _fates(record.accounts)
    told = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
    judged, met = record.attainment()
    still = sum(map(record.stood_still, record.accounts))
    poor = sum(not record.had_capacity(each) for each in record.accounts)
    share = met / max(1, judged)
    line.said = (
        f"{lasted_s:.0f} s, {len(record.strikes)} faults: {told}, {record.doubled} doubled; interactive met {share:.2%} of {judged}; memory"
        f" {samples[-1].memory_mb:.0f} MB ({memory:+.1f} MB in the second half), files"
        f" {samples[-1].files:.0f} ({files:+.0f}), tasks {samples[-1].tasks:.0f} ({tasks:+.0f}),"
        f" {record.left:.0f} requests held in the end; not judged: {poor} while too few endpoints"
        f" were well, {still} while the machine stood still"
    )
    lost = [
        each
        for each in record.accounts
        if each.fate in (Fate.LOST, Fate.WRONG) and not record.stood_still(each)
    ]
    if lost:
        line.flaws.append(f"{len(lost)} lost or answered wrongly: {lost[0].said}")
    if record.doubled:
        line.flaws.append(f"{record.doubled} answered twice")
    if memory > MOST_GROWTH_MB or files > MOST_GROWTH_FILES or tasks > MOST_GROWTH_TASKS:
        line.flaws.append(f"grew by {memory:.1f} MB, {files:.0f} files, {tasks:.0f} tasks")
    if record.left or record.back_s is None:
        line.flaws.append(f"{record.left:.0f} requests are held, or an endpoint is not used again")
    if share < LEAST_MET:
        line.flaws.append(f"interactive met only {share:.2%}")
    if still > MOST_STILL * len(record.accounts):
        line.flaws.append(f"the machine stood still for {still} requests: no judgement")
    return line


def _growth(values: list[float]) -> float:
    """Return by how much the middle of the second half is above that of the first, once warm."""
    first = int(len(values) * WARM)
    half = first + (len(values) - first) // 2
    return median(values[half:]) - median(values[first:half] or values)


def document(record: Record, line: Line | None) -> str:
    """Return the whole in JSON; `line` None: it goes on."""
    judged, met = record.attainment()
    told = {
        "said": None if line is None else f"{line.name}: {line.said}",
        "falls_short": None if line is None else line.flaws,
        "fates": _fates(record.accounts),
        "interactive_judged": judged,
        "interactive_met": met,
        "faults": Counter(each.name for each in record.strikes),
        "troubles": record.troubles,
        "still": [
            [began - record.began, ended - began] for began, ended in record.still.spells(0.3)
        ],
        "amiss": [_told(each, record) for each in record.amiss()[:MOST_TOLD]],
        "samples": [
            {
                "at_s": round(each.at - record.began, 1),
                "memory_mb": round(each.memory_mb, 1),
                "files": each.files,
                "tasks": each.tasks,
                "connections": each.connections,
                "held": each.held,
            }
            for each in record.samples
        ],
    }
    return json.dumps(told, indent=1)


def _told(account: Account, record: Record) -> dict[str, object]:
    """Return all that is known of one request."""
    return {
        "id": account.id,
        "class": account.sla_class,
        "stream": account.stream,
        "sent_at_s": round(account.sent_at - record.began, 2),
        "took_s": round(account.ended_at - account.sent_at, 2),
        "fate": account.fate,
        "said": account.said,
        "bytes_seen": account.bytes_seen,
        "receipt": account.receipt,
        "had_capacity": record.had_capacity(account),
        "stood_still": record.stood_still(account),
        "beside": [
            f"{each.name} {each.began - account.sent_at:+.1f}..{each.ended - account.sent_at:+.1f} s"
            for each in record.strikes
            if account.sent_at < each.ended + 1.0 and account.ended_at > each.began
        ],
    }
