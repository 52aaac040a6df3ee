"""What the callers saw, counted: pure, no clock."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.facts import SlaClass, Targets


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as its caller saw it; all times from the moment of asking."""

    pool: str
    first_token_s: float
    per_token_s: float | None
    """Mean gap after the first token; None where there was only one."""
    total_s: float


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A request that was refused, or failed."""

    why: str
    """Few different values: a status, or the name of an error."""


def met(answer: Answer, targets: Targets) -> bool:
    """Return whether an answer kept every target that there was."""
    pairs = (
        (answer.first_token_s, targets.first_token_s),
        (answer.per_token_s or 0.0, targets.per_token_s),
        (answer.total_s, targets.deadline_s),
    )
    return all(target is None or seen <= target for seen, target in pairs)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` (0..1) of all do not exceed."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(slots=True)
class Row:
    """The requests of one class."""

    targets: Targets
    in_flight: int = 0
    answers: list[Answer] = field(default_factory=list)
    met: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by why."""
    pools: Counter[str] = field(default_factory=Counter)
    left: int = 0
    """Requests whose caller hung up: they were under way at the end. Neither met nor missed."""

    @property
    def ended(self) -> int:
        """Requests that were answered, refused, or failed; the rest is in flight."""
        return len(self.answers) + self.missing.total()

    @property
    def attained(self) -> float | None:
        """Share of the ended requests that kept their targets; no answer is a miss."""
        return self.met / self.ended if self.ended else None

    def first_token_s(self, share: float) -> float | None:
        """Return a percentile of the time to the first token."""
        return percentile([answer.first_token_s for answer in self.answers], share)

    def per_token_s(self, share: float) -> float | None:
        """Return a percentile of the mean gap between tokens."""
        gaps = [a.per_token_s for a in self.answers if a.per_token_s is not None]
        return percentile(gaps, share)

    def pool_shares(self) -> dict[str, float]:
        """Return which pools answered, the most used first, as shares."""
        return {pool: count / len(self.answers) for pool, count in self.pools.most_common()}


class Tally:
    """One row a class; changed by methods that never wait."""

    def __init__(self, targets: Mapping[SlaClass, Targets]) -> None:
        self.rows = {sla_class: Row(targets[sla_class]) for sla_class in targets}

    def asked(self, sla_class: SlaClass) -> None:
        """Count a request that has been sent."""
        self.rows[sla_class].in_flight += 1

    def ended(self, sla_class: SlaClass, outcome: Answer | NoAnswer) -> None:
        """Count how a request ended."""
        row = self.rows[sla_class]
        row.in_flight -= 1
        match outcome:
            case Answer():
                row.answers.append(outcome)
                row.pools[outcome.pool] += 1
                row.met += met(outcome, row.targets)
            case NoAnswer():
                row.missing[outcome.why] += 1

    def left(self, sla_class: SlaClass) -> None:
        """Count a request whose caller hung up: the demonstration is over."""
        row = self.rows[sla_class]
        row.in_flight -= 1
        row.left += 1

    @property
    def answered(self) -> int:
        """Answers of all classes together."""
        return sum(len(row.answers) for row in self.rows.values())
