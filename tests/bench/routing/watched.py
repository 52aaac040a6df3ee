"""A world whose predictions are written down beside what came true."""

from dataclasses import dataclass

from engines.emulator.jobs import Event, FirstToken
from policies.facts import FailureKind, SlaClass
from policies.flight import Flight
from router.simulation.conditions import USUAL, Conditions
from router.simulation.contenders import Contender
from router.simulation.fleet import Fleet
from router.simulation.machine import Machine
from router.simulation.trip import Trip
from router.simulation.world import World
from router.workload.settings import Fault


@dataclass(frozen=True, slots=True)
class Prediction:
    """A time to first token, from being sent, s."""

    number: int
    """Counts the requests sent to this endpoint, from 0."""
    endpoint: str
    sla_class: SlaClass
    predicted_s: float
    bound_s: float
    """What nine in ten should stay under."""
    seen_s: float

    @property
    def error(self) -> float:
        """The prediction's error as a share of what was seen, 0 or more."""
        return abs(self.predicted_s - self.seen_s) / self.seen_s


class WatchedWorld(World):
    """Keeps predictions, if asked to."""

    def __init__(
        self,
        fleet: Fleet,
        contender: Contender,
        *,
        seed: int,
        faults: tuple[Fault, ...] = (),
        conditions: Conditions = USUAL,
        keeps: bool,
    ) -> None:
        super().__init__(fleet, contender, seed=seed, faults=faults, conditions=conditions)
        self.predictions: list[Prediction] = []
        self._keeps = keeps
        self._sent: dict[int, tuple[int, float]] = {}
        """By flight: its place among those to its endpoint, and its bound then, s."""

    def _send(self, trip: Trip, flight: Flight, now: float) -> FailureKind | None:
        if self._keeps:
            endpoint = flight.endpoint
            bound_s = flight.predicted_first_token_s * endpoint.model.first_token_bound.factor
            self._sent[flight.id] = endpoint.sent - 1, bound_s
        return super()._send(trip, flight, now)

    def _take_in(self, machine: Machine, trip: Trip, flight: Flight, event: Event) -> None:
        if self._keeps and isinstance(event, FirstToken):
            number, bound_s = self._sent.pop(flight.id)
            self.predictions.append(
                Prediction(
                    number,
                    machine.id,
                    flight.ask.sla_class,
                    flight.predicted_first_token_s,
                    bound_s,
                    event.at_s - flight.sent_at,
                )
            )
        super()._take_in(machine, trip, flight, event)
