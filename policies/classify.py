"""A request and the policy, into what routing asks of it: class, targets, deadlines, lengths.

Pure: the learned lengths are read, never changed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.facts import (
    ANYTHING,
    NO_TARGETS,
    OnMiss,
    RequestFacts,
    SlaClass,
    Targets,
    Wish,
)
from policies.lengths import NO_OUTPUTS, Lengths, kind
from policies.policy import Classification, Policy, ProfilePolicy

RANK: Final = {sla_class: rank for rank, sla_class in enumerate(SlaClass)}
"""Place of a class in the order of precedence, 0 first."""

NO_LIMIT: Final = 1 << 62
"""More tokens than any request has."""


class Why(StrEnum):
    """What decided a request's class."""

    NAMED = "named"
    """The caller named it, by header or service tier."""
    TARGETS = "targets"
    """The caller's latency targets or deadline."""
    MODEL = "model"
    """The default of the model, or of all models."""
    CEILING = "ceiling"
    """The caller is entitled to no higher class."""


# A member looked up on its class costs more than a name of this module.
HIGHEST: Final = SlaClass.INTERACTIVE
BY_NAME: Final = Why.NAMED
BY_MODEL: Final = Why.MODEL
REJECT: Final = OnMiss.REJECT


@dataclass(frozen=True, slots=True)
class Part:
    """Which variant of its model a request belongs to."""

    name: str
    model: str | None = None
    """What engines are asked for in place of the model; None: the model itself."""
    elsewhere: bool = False
    """Served by others, because the variant could not."""


@dataclass(init=False, slots=True, eq=False)
class Ask:
    """One request as routing sees it. Made once at arrival and never changed, also not by a retry.

    Times are on the caller's clock.
    """

    facts: RequestFacts
    sla_class: SlaClass
    rank: int
    """0 interactive, 1 standard, 2 bulk."""
    why: Why
    targets: Targets
    """In effect: the caller's where given, else the policy's."""
    on_miss: OnMiss
    arrived_at: float
    first_token_by: float | None
    finish_by: float | None
    """When the whole answer is of no more use: by target, or because the caller will have left."""
    wait_until: float
    """Latest moment to be sent; a request that waits longer is refused."""
    prompt_tokens: int
    prompt_samples: int
    """Prompts that `prompt_tokens` rests on; 0 where it is a guess, or exact."""
    output_p50_tokens: float
    """All choices together, as is the next."""
    output_p90_tokens: float
    output_samples: int
    """Answers that the two rest on; 0 is a guess."""
    answer_tokens: float
    """Longest answer to reckon with, each choice by itself: the caller's bound, else the p90."""
    fits_predictable: bool
    """Short enough for pools that are kept predictable."""
    part: Part | None = None
    """Which variant took it; None where its model has none. Set as soon as that is known."""

    def __init__(  # noqa: PLR0913, PLR0917 # one parameter a field
        self,
        facts: RequestFacts,
        sla_class: SlaClass,
        rank: int,
        why: Why,
        targets: Targets,
        on_miss: OnMiss,
        arrived_at: float,
        first_token_by: float | None,
        finish_by: float | None,
        wait_until: float,
        prompt_tokens: int,
        prompt_samples: int,
        output_p50_tokens: float,
        output_p90_tokens: float,
        output_samples: int,
        answer_tokens: float,
        fits_predictable: bool,
        part: Part | None = None,
    ) -> None:
        self.facts = facts
        self.sla_class = sla_class
        self.rank = rank
        self.why = why
        self.targets = targets
        self.on_miss = on_miss
        self.arrived_at = arrived_at
        self.first_token_by = first_token_by
        self.finish_by = finish_by
        self.wait_until = wait_until
        self.prompt_tokens = prompt_tokens
        self.prompt_samples = prompt_samples
        self.output_p50_tokens = output_p50_tokens
        self.output_p90_tokens = output_p90_tokens
        self.output_samples = output_samples
        self.answer_tokens = answer_tokens
        self.fits_predictable = fits_predictable
        self.part = part


@dataclass(frozen=True, slots=True)
class Standard:
    """What the policy says of requests for one model; tuples are by rank."""

    default_class: SlaClass
    classification: Classification
    targets: tuple[Targets, ...]
    on_miss: tuple[OnMiss, ...]
    max_wait_s: tuple[float, ...]
    max_prompt_tokens: int
    """Of the predictable pools."""
    max_answer_tokens: int
    """Of the predictable pools."""


def standard_of(policy: Policy, model: str) -> Standard:
    """Return what `policy` says of `model`, so that it need not be looked up for each request."""
    own = policy.models.get(model)
    classes = [policy.of_class(sla_class) for sla_class in SlaClass]
    targets = tuple(each.targets for each in classes)
    default_class = policy.classification.default_class
    if own is not None:
        differing = (own.interactive, own.standard, own.bulk)
        targets = tuple(merged(*pair) for pair in zip(differing, targets, strict=True))
        default_class = own.default_class or default_class
    predictable: ProfilePolicy = policy.profiles.predictable
    return Standard(
        default_class=default_class,
        classification=policy.classification,
        targets=targets,
        on_miss=tuple(each.on_miss for each in classes),
        max_wait_s=tuple(each.max_wait_s for each in classes),
        max_prompt_tokens=predictable.max_prompt_tokens or NO_LIMIT,
        max_answer_tokens=predictable.max_output_tokens or NO_LIMIT,
    )


def classify(facts: RequestFacts, standard: Standard, lengths: Lengths, now: float) -> Ask:
    """Return what routing asks of a request that arrives at `now`."""
    wish = facts.wish
    if wish is ANYTHING:
        sla_class, why = standard.default_class, BY_MODEL
    else:
        sla_class, why = class_of(wish, standard)
    rank = RANK[sla_class]
    if facts.ceiling is not HIGHEST and rank < RANK[facts.ceiling]:
        sla_class, why, rank = facts.ceiling, Why.CEILING, RANK[facts.ceiling]
    targets = standard.targets[rank]
    if wish.targets is not NO_TARGETS:
        if facts.ceiling is HIGHEST:
            targets = merged(wish.targets, targets)
        else:
            targets = no_tighter(wish.targets, targets)
    on_miss = wish.on_miss or standard.on_miss[rank]
    first_token_by = None if targets.first_token_s is None else now + targets.first_token_s
    finish_by = _finish_by(targets.deadline_s, wish.patience_s, now)

    seen = lengths.seen(facts)
    prompt_tokens, prompt_samples = facts.known_prompt_tokens, 0
    if prompt_tokens is None:
        prompt_tokens = 1 + int(facts.prompt_bytes * seen.tokens_per_byte)
        prompt_samples = seen.samples
    outputs = seen.outputs.get(kind(rank, prompt_tokens), NO_OUTPUTS)
    p50_tokens, p90_tokens, bound = outputs.p50_tokens, outputs.p90_tokens, facts.max_tokens
    answer_tokens = p90_tokens
    if bound is not None:
        answer_tokens = float(bound)
        p50_tokens = min(answer_tokens, p50_tokens)
        p90_tokens = min(answer_tokens, p90_tokens)
    return Ask(
        facts,
        sla_class,
        rank,
        why,
        targets,
        on_miss,
        now,
        first_token_by,
        finish_by,
        _wait_until(now + standard.max_wait_s[rank], first_token_by, finish_by, on_miss),
        prompt_tokens,
        prompt_samples,
        p50_tokens * facts.choices,
        p90_tokens * facts.choices,
        outputs.samples,
        answer_tokens,
        prompt_tokens <= standard.max_prompt_tokens and answer_tokens <= standard.max_answer_tokens,
    )


def class_of(wish: Wish, standard: Standard) -> tuple[SlaClass, Why]:
    """Return the class that a wish amounts to, and what decided it."""
    if wish.sla_class is not None:
        return wish.sla_class, BY_NAME
    targets, tight = wish.targets, standard.classification
    if (
        targets.first_token_s is not None
        and targets.first_token_s <= tight.interactive_first_token_s
    ) or (targets.per_token_s is not None and targets.per_token_s <= tight.interactive_per_token_s):
        return SlaClass.INTERACTIVE, Why.TARGETS
    if targets.first_token_s is None and targets.per_token_s is None and targets.deadline_s:
        return SlaClass.BULK, Why.TARGETS
    return standard.default_class, BY_MODEL


def merged(wanted: Targets, otherwise: Targets) -> Targets:
    """Return `wanted`, with what it leaves open taken from `otherwise`."""
    if wanted is NO_TARGETS:
        return otherwise
    return Targets(
        otherwise.first_token_s if wanted.first_token_s is None else wanted.first_token_s,
        otherwise.per_token_s if wanted.per_token_s is None else wanted.per_token_s,
        otherwise.deadline_s if wanted.deadline_s is None else wanted.deadline_s,
    )


def no_tighter(wanted: Targets, own: Targets) -> Targets:
    """Return `wanted` where it is looser than the class's own: for who may not ask for haste.

    Targets that the class has none of are left out, but a deadline: it only ends a wait.
    """
    return Targets(
        _looser(wanted.first_token_s, own.first_token_s),
        _looser(wanted.per_token_s, own.per_token_s),
        wanted.deadline_s if own.deadline_s is None else _looser(wanted.deadline_s, own.deadline_s),
    )


def _looser(wanted_s: float | None, own_s: float | None) -> float | None:
    return own_s if wanted_s is None or own_s is None else max(wanted_s, own_s)


def _finish_by(deadline_s: float | None, patience_s: float | None, now: float) -> float | None:
    if deadline_s is None:
        return None if patience_s is None else now + patience_s
    return now + (deadline_s if patience_s is None else min(deadline_s, patience_s))


def _wait_until(
    policy_end: float, first_token_by: float | None, finish_by: float | None, on_miss: OnMiss
) -> float:
    """Return when waiting ends: a late answer is worth waiting for only where it is wanted."""
    end = policy_end
    if first_token_by is not None and (first_token_by > end or on_miss is REJECT):
        end = first_token_by
    return finish_by if finish_by is not None and finish_by < end else end
