"""One request on its way through the world."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.facts import RequestFacts
from policies.fleet import Flight
from policies.ordering import Ticket
from router.workload.offers import Offer

if TYPE_CHECKING:
    from router.simulation.machine import Machine


@dataclass(slots=True, eq=False)
class Trip:
    """Holds a slot (`flight`) or a place in the queue (`ticket`), never both."""

    offer: Offer
    facts: RequestFacts
    """What the router sees of it."""
    flight: Flight | None = None
    ticket: Ticket | None = None
    machine: "Machine | None" = None
    """Where it is, if it is anywhere."""
    job_id: str = ""
    attempts: int = 0
    asked_at: float = 0.0
    """When it was last sent to an engine."""
    first_at: float | None = None
    """When its first token came."""
    steps: int = 0
    """The engine's steps as of the last look at it."""
    moved_at: float = 0.0
    """When it was last seen to have moved."""
    over: bool = False
