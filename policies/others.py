"""What other routers have at an endpoint, as they tell it."""

from dataclasses import dataclass
from math import inf
from typing import Final


@dataclass(frozen=True, slots=True)
class Others:
    """What other routers have at an endpoint, as last heard."""

    in_flight: tuple[int, int, int] = (0, 0, 0)
    """Requests by rank of class."""
    pending_prompt_tokens: int = 0
    kv_tokens: int = 0
    room: int | None = None
    """Requests that may be sent there on top of what is in flight, until the next is heard; None:
    as many as there are slots."""
    bulk_permits: int | None = None
    """Bulk requests of our own that may be there at once; None: what the policy lets all hold."""
    bulk_before: float = inf
    """Bulk that is due after this lets others' go first."""


NO_OTHERS: Final = Others()
