"""One request as a workload offers it: when, how long, for whom."""

from dataclasses import dataclass
from typing import Final

from policies.facts import NO_TARGETS, SlaClass, Targets

PREFIX_TOKENS: Final = 512
"""Tokens that one id of an offer's prefix stands for, as in the Mooncake traces."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One request. Whoever sends it knows its lengths; a router does not."""

    number: int
    """Counts the offers of a workload from 0, in order of time."""
    at_s: float
    """From the start of the workload, s."""
    traffic: str
    """The name of the traffic that it is part of."""
    sla_class: SlaClass
    prompt_tokens: int
    """At least 1."""
    output_tokens: int
    """What the model would say if it were not cut short, at least 1."""
    max_tokens: int
    """The caller's bound on output, at least 1."""
    targets: Targets = NO_TARGETS
    """What the answer is held to; each target is this offer's own or its class's."""
    tenant: str = ""
    session: str | None = None
    prefix: tuple[int, ...] = ()
    """Ids of the leading blocks of the prompt, `PREFIX_TOKENS` each: equal ids are equal text."""
    patience_s: float | None = None
    """When the caller gives up, from arrival, s; None: never."""

    @property
    def length(self) -> int:
        """Output tokens of a whole answer."""
        return min(self.output_tokens, self.max_tokens)
