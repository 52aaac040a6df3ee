"""Counts the outcomes of one run: all together, by class, tenant, endpoint and time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from policies.facts import SlaClass
from router.measure.distribution import Distribution
from router.measure.outcome import Fate, Outcome

MOST_TENANTS = 100
"""Tenants counted by name; what the others have is counted together as `other`."""
BINS = 60
"""Pieces that the time of a run is cut into."""


@dataclass(slots=True)
class Group:
    """Outcomes that are counted together."""

    offered: int = 0
    good: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why requests went where they went."""
    attempts: int = 0
    prompt_tokens: int = 0
    """Of answers that came whole."""
    output_tokens: int = 0
    """Also of answers that did not."""
    first_token: Distribution = field(default_factory=Distribution)
    per_token: Distribution = field(default_factory=Distribution)
    slowest_gap: Distribution = field(default_factory=Distribution)
    total: Distribution = field(default_factory=Distribution)
    """Of answers that came whole, as are the three before."""
    queued: Distribution = field(default_factory=Distribution)
    """Of all."""

    def add(self, outcome: Outcome, *, good: bool) -> None:
        """Count one outcome."""
        self.offered += 1
        self.good += good
        self.fates[outcome.fate] += 1
        self.attempts += outcome.attempts
        self.output_tokens += outcome.output_tokens
        self.queued.add(outcome.queued_s)
        if outcome.refusal is not None:
            self.refusals[str(outcome.refusal)] += 1
        if outcome.reason is not None:
            self.reasons[outcome.reason] += 1
        if outcome.fate is Fate.SERVED:
            self._add_times(outcome)

    def _add_times(self, outcome: Outcome) -> None:
        self.prompt_tokens += outcome.offer.prompt_tokens
        self.total.add(outcome.total_s)
        if outcome.first_token_s is not None:
            self.first_token.add(outcome.first_token_s)
        if outcome.per_token_s is not None:
            self.per_token.add(outcome.per_token_s)
        if outcome.slowest_gap_s is not None:
            self.slowest_gap.add(outcome.slowest_gap_s)

    @property
    def served(self) -> int:
        """Answers that came whole."""
        return self.fates[Fate.SERVED]

    @property
    def attainment(self) -> float:
        """Share of what was offered that met its targets, 0..1; 1 where nothing was offered."""
        return self.good / self.offered if self.offered else 1.0

    @property
    def shed(self) -> float:
        """Share of what was offered that was refused, 0..1."""
        return self.fates[Fate.REFUSED] / self.offered if self.offered else 0.0

    def merge(self, other: "Group") -> None:
        """Count all that `other` has counted."""
        self.offered += other.offered
        self.good += other.good
        self.attempts += other.attempts
        self.prompt_tokens += other.prompt_tokens
        self.output_tokens += other.output_tokens
        self.fates.update(other.fates)
        self.refusals.update(other.refusals)
        self.reasons.update(other.reasons)
        for name in ("first_token", "per_token", "slowest_gap", "total", "queued"):
            getattr(self, name).merge(getattr(other, name))


def merged(groups: Iterable[Group]) -> Group:
    """Return all that several groups have counted."""
    whole = Group()
    for each in groups:
        whole.merge(each)
    return whole


@dataclass(slots=True)
class Part:
    """What one endpoint had of the requests, by where each went last."""

    requests: int = 0
    good: int = 0
    output_tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Why they went there."""

    def add(self, outcome: Outcome, *, good: bool) -> None:
        """Count one outcome."""
        self.requests += 1
        self.good += good
        self.output_tokens += outcome.output_tokens
        if outcome.reason is not None:
            self.reasons[outcome.reason] += 1


@dataclass(slots=True)
class Bin:
    """One class during one piece of time."""

    offered: int = 0
    good: int = 0
    refused: int = 0


class Tally:
    """All outcomes of one run whose requests came after the warm-up."""

    def __init__(self, duration_s: float, warm_up_s: float) -> None:
        self.duration_s = duration_s
        self.warm_up_s = warm_up_s
        self.offered = 0
        """All, those of the warm-up included."""
        self.classes = {sla_class: Group() for sla_class in SlaClass}
        self.tenants: dict[str, Group] = {}
        self.endpoints: dict[str, Part] = {}
        self.timeline = {sla_class: [Bin() for _ in range(BINS)] for sla_class in SlaClass}
        """By class; the whole run, warm-up included, in equal pieces."""

    @property
    def window_s(self) -> float:
        """How long requests came that are counted, s."""
        return self.duration_s - self.warm_up_s

    @property
    def all(self) -> Group:
        """All classes together."""
        return merged(self.classes.values())

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.offered += 1
        offer, good = outcome.offer, outcome.good
        index = min(BINS - 1, int(offer.at_s / self.duration_s * BINS))
        piece = self.timeline[offer.sla_class][index]
        piece.offered += 1
        piece.good += good
        piece.refused += outcome.fate is Fate.REFUSED
        if offer.at_s < self.warm_up_s:
            return
        self.classes[offer.sla_class].add(outcome, good=good)
        if offer.tenant:
            self._tenant(offer.tenant).add(outcome, good=good)
        if outcome.endpoint is not None:
            self.endpoints.setdefault(outcome.endpoint, Part()).add(outcome, good=good)

    def _tenant(self, name: str) -> Group:
        if name not in self.tenants and len(self.tenants) >= MOST_TENANTS:
            name = "other"
        return self.tenants.setdefault(name, Group())
