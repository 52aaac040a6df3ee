"""Random schedules of faults in virtual time, in which the truth is known."""

from tests.faults.lines import Line
from tests.policies.fault_world import DELAY_S, play

MOST_FALSE = 0.001
MOST_MISSED = 0.01


def schedules(seed: int, count: int) -> Line:
    """Play so many."""
    tally = play(range(seed * 1_000_000, seed * 1_000_000 + count))
    line = Line(f"{count} random schedules in virtual time")
    delays = ", ".join(f"{kind} {delay_s:g} s" for kind, delay_s in DELAY_S.items())
    line.said = (
        f"{tally.false} of {tally.healthy} healthy endpoints taken out; {tally.missed} of"
        f" {tally.judged} faults missed after their delay ({delays}); {tally.late} late back"
    )
    if tally.false > MOST_FALSE * tally.healthy:
        line.flaws.append(f"false ejections: {tally.why}")
    if tally.missed > MOST_MISSED * tally.judged:
        line.flaws.append(f"faults missed: {tally.why}")
    if tally.late > MOST_MISSED * tally.schedules:
        line.flaws.append(f"not back in time: {tally.why}")
    return line
