"""What the dispatcher tells the router to do; `facts.Refuse` is the fourth answer."""

from dataclasses import dataclass

from policies.facts import Refuse
from policies.flight import Flight
from policies.ordering import Ticket


# Made for every request: frozen would cost three times as much.
@dataclass(init=False, slots=True)
class Send:
    """Send the request to `flight.endpoint`; the slot is taken already."""

    flight: Flight
    ticket: Ticket | None = None
    """Of a request that waited."""

    def __init__(
        self,
        flight: Flight,
        ticket: Ticket | None = None,
    ) -> None:
        self.flight = flight
        self.ticket = ticket


@dataclass(frozen=True, slots=True)
class Wait:
    """No slot is free. `due` answers for this ticket, or `left` gives it up."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Expire:
    """A waiting request is refused."""

    ticket: Ticket
    refusal: Refuse
