"""How often each endpoint came to each state, for whoever asks why traffic moved."""

from collections.abc import Mapping

from policies.fleet import EndpointState
from policies.health import State
from router import metrics as families
from router.metrics import Metrics, Rows


class Transitions:
    """Counts them; a state that lasts less than the time between two looks is missed."""

    def __init__(self, metrics: Metrics) -> None:
        self._states: dict[str, State] = {}
        self._counts: dict[tuple[str, State], int] = {}
        metrics.read(families.TRANSITIONS, self._rows)

    def look(self, endpoints: Mapping[str, EndpointState]) -> None:
        """Compare every endpoint's state with the one before; to be called a few times a second."""
        states = self._states
        for id_, endpoint in endpoints.items():
            state = endpoint.health.state
            if states.get(id_, state) is not state:
                self._counts[id_, state] = self._counts.get((id_, state), 0) + 1
            states[id_] = state

    def forget(self, endpoint: str) -> None:
        """Drop what is known of an endpoint that was removed."""
        self._states.pop(endpoint, None)
        self._counts = {key: n for key, n in self._counts.items() if key[0] != endpoint}

    def _rows(self) -> Rows:
        return list(self._counts.items())
