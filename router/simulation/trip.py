"""One request on its way through the world."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.emulator.jobs import Finished
from policies.facts import Refuse, RequestFacts
from policies.flight import Flight
from policies.ordering import Ticket
from router.measure.outcome import Fate, Outcome
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
    """The latest attempt."""
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

    def outcome(
        self,
        fate: Fate,
        now: float,
        finished: Finished | None = None,
        refusal: Refuse | None = None,
        *,
        tokens: int = 0,
    ) -> Outcome:
        """End the trip; return what became of it.

        `finished`: what the engine said of a whole answer; `tokens` came of one that is not.
        """
        self.over = True
        offer, flight = self.offer, self.flight
        outcome = Outcome(
            offer, fate, total_s=now - offer.at_s, attempts=self.attempts, output_tokens=tokens
        )
        if self.first_at is not None:
            outcome.first_token_s = self.first_at - offer.at_s
        if flight is not None:
            outcome.endpoint = flight.endpoint.id
            outcome.reason = flight.reason
            outcome.queued_s = flight.queued_s
        elif refusal is not None:
            outcome.queued_s = now - offer.at_s
        if finished is not None:
            _measure(outcome, finished)
        if refusal is not None:
            outcome.refusal = refusal.reason
            outcome.retry_after_s = refusal.retry_after_s
        return outcome


def _measure(outcome: Outcome, finished: Finished) -> None:
    outcome.output_tokens = finished.output_tokens
    outcome.slowest_gap_s = finished.slowest_gap_s
    if finished.output_tokens > 1:
        took_s = finished.at_s - finished.first_token_s
        outcome.per_token_s = took_s / (finished.output_tokens - 1)
