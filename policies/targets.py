"""Latency targets. Apart from the other facts: pydantic reads these fields as they are written here.

What is compiled has no annotations left to read.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt


@dataclass(frozen=True, slots=True)
class Targets:
    """Latency targets, all counted from arrival; None where there is none."""

    first_token_s: Annotated[float, Gt(0)] | None = None
    """Until the first output token, s."""
    per_token_s: Annotated[float, Gt(0)] | None = None
    """Mean time per output token after the first, s."""
    deadline_s: Annotated[float, Gt(0)] | None = None
    """Until the whole answer is there, s."""


NO_TARGETS = Targets()
