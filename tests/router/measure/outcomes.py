"""Outcomes for tests."""

from policies.facts import SlaClass, Targets
from router.measure.outcome import Fate, Outcome
from router.workload.offers import Offer

TARGETS = Targets(first_token_s=0.5, per_token_s=0.05, deadline_s=10.0)


def offer(
    number: int = 0,
    *,
    at_s: float = 50.0,
    sla_class: SlaClass = SlaClass.INTERACTIVE,
    tenant: str = "",
    targets: Targets = TARGETS,
) -> Offer:
    return Offer(number, at_s, "traffic", sla_class, 100, 20, 40, targets, tenant)


def outcome(
    fate: Fate = Fate.SERVED,
    *,
    first_token_s: float | None = 0.1,
    per_token_s: float | None = 0.01,
    total_s: float = 1.0,
    of: Offer | None = None,
) -> Outcome:
    return Outcome(
        of or offer(),
        fate,
        first_token_s=first_token_s,
        per_token_s=per_token_s,
        total_s=total_s,
        output_tokens=20,
    )
