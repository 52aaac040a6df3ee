"""What all other replicas have together, by endpoint: pure sums, worked out at every exchange."""

from collections.abc import Iterable
from math import inf
from typing import Final

from router.replicas.word import Said, Work


class Sum:
    """The work of several replicas at one endpoint."""

    __slots__ = (
        "bulk",
        "first_waiting_s",
        "interactive",
        "kv_tokens",
        "pending_prompt_tokens",
        "standard",
    )

    def __init__(self) -> None:
        self.interactive = 0
        self.standard = 0
        self.bulk = 0
        self.pending_prompt_tokens = 0
        self.kv_tokens = 0
        self.first_waiting_s = inf
        """Place of the first bulk that waits for it, board's time; infinite where none does."""

    def add(self, work: Work) -> None:
        """Add what one more replica has."""
        interactive, standard, bulk, pending_prompt_tokens, kv_tokens, first_waiting_s = work
        self.interactive += interactive
        self.standard += standard
        self.bulk += bulk
        self.pending_prompt_tokens += pending_prompt_tokens
        self.kv_tokens += kv_tokens
        if first_waiting_s is not None and first_waiting_s < self.first_waiting_s:
            self.first_waiting_s = first_waiting_s


NOTHING_THERE: Final = Sum()
"""To be read only."""


def added_up(others: Iterable[Said]) -> dict[str, Sum]:
    """Return the sums, by endpoint id, of those where there is any."""
    sums: dict[str, Sum] = {}
    for said in others:
        for name, work in said.work.items():
            found = sums.get(name)
            if found is None:
                found = sums[name] = Sum()
            found.add(work)
    return sums
