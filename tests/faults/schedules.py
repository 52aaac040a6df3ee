"""Random schedules of faults in virtual time, in which the truth is known."""

import os
from concurrent.futures import ProcessPoolExecutor

from tests.faults.lines import Line
from tests.policies.fault_world import DELAY_S, Tally, play

MOST_FALSE = 0.001
MOST_MISSED = 0.01
AT_ONCE = 250
"""Schedules that one process plays before it is given more."""


def schedules(seed: int, count: int) -> Line:
    """Play so many, on all cores."""
    first = seed * 1_000_000
    seeds = range(first, first + count)
    parts = [seeds[at : at + AT_ONCE] for at in range(0, count, AT_ONCE)]
    tally = Tally()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for each in pool.map(play, parts):
            tally.join(each)
    return judged(tally)


def judged(tally: Tally) -> Line:
    """Return what was promised, and how it was kept."""
    line = Line("random schedules in virtual time")
    delays = ", ".join(f"{kind} {delay_s:g} s" for kind, delay_s in DELAY_S.items())
    line.said = (
        f"{tally.schedules} played; {tally.false} of {tally.healthy} healthy endpoints taken out;"
        f" {tally.missed} of {tally.judged} faults missed after their delay ({delays}); {tally.late}"
        " late back"
    )
    if tally.false > MOST_FALSE * tally.healthy:
        line.flaws.append(f"false ejections: {tally.why}")
    if tally.missed > MOST_MISSED * tally.judged:
        line.flaws.append(f"faults missed: {tally.why}")
    if tally.late > MOST_MISSED * tally.schedules:
        line.flaws.append(f"not back in time: {tally.why}")
    return line
