"""Requests of the router's own: one token, through the real route, where nothing else tells.

An engine that is idle, or has been down, shows by its health check only that a process answers.
A canary passes its queue and its scheduler, and is counted nowhere else.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from engines.engine import Fault, FaultKind
from policies.dispatcher import Dispatcher
from policies.facts import FailureKind
from router.endpoint import Endpoint
from router.wire.framing import Framing
from router.wire.heads import FIRST_NOT_GOOD_STATUS, AnswerHead
from router.wire.upstream import Connection

logger = logging.getLogger("headway")
MAX_ANSWER_BYTES: Final = 64 * 1024
_UNDECIDED: Final = frozenset(
    {
        FaultKind.INVALID,
        FaultKind.CONTEXT_TOO_LONG,
        FaultKind.NOT_FOUND,
        FaultKind.UNSUPPORTED,
        FaultKind.TOO_LARGE,
    }
)
"""Refusals that say that the engine does not serve such requests, and nothing of its health."""
Told = Callable[["Canary", bool | None, str], None]


class Canary:
    """A `Listener` to one one-token answer; tells once how it went."""

    __slots__ = ("_body", "_connection", "_head", "_size", "_task", "_told", "due_at", "endpoint")

    def __init__(self, endpoint: Endpoint, due_at: float, told: Told) -> None:
        """`due_at`: when it is given up; `told` hears of its end: well, or not, or None."""
        self.endpoint = endpoint
        self.due_at = due_at
        self._told: Told | None = told
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._head: AnswerHead | None = None
        self._body: list[bytes] = []
        self._size = 0

    def send(self, model: str) -> None:
        """Ask for one token of a model, by the engine's own name for it."""
        prepared = self.endpoint.engine.probe(self.endpoint.dialect.upstream_model or model)
        head = self.endpoint.own_head(prepared.path, len(prepared.body), prepared.headers)
        self._task = self.endpoint.pool.ask(self, head, prepared.body)

    def give_up(self, why: str) -> None:
        """End it without an answer."""
        if self._connection is not None:
            self._connection.drop()
        elif self._task is not None:
            self._task.cancel()
        self._end(well=False, why=why)

    def on_connected(self, connection: Connection) -> None:
        """See `Listener`."""
        self._connection = connection

    def on_head(self, head: AnswerHead, framing: Framing) -> None:
        """See `Listener`."""
        self._head = head

    def on_body(self, relay: bytes, payload: Sequence[bytes], *, done: bool) -> None:
        """See `Listener`."""
        self._body += payload
        self._size += len(relay)
        if done:
            self._connection = None
            self._judge()
        elif self._size > MAX_ANSWER_BYTES:
            self.give_up("its answer to one token has no end")

    def on_failure(self, kind: FailureKind, detail: str) -> None:
        """See `Listener`."""
        # A kept connection that had been closed says nothing: the next canary takes a fresh one.
        self._end(well=None if kind is FailureKind.STALE_CONNECTION else False, why=detail)

    def _judge(self) -> None:
        body, head = b"".join(self._body), self._head
        if head is None or head.status < FIRST_NOT_GOOD_STATUS:
            self._end(well=True, why="")
            return
        fault: Fault = self.endpoint.engine.read_fault(head.status, body)
        well: bool | None = False
        if fault.kind is FaultKind.BUSY:
            well = True
        elif fault.kind in _UNDECIDED:
            well = None
        self._end(well=well, why=fault.message)

    def _end(self, *, well: bool | None, why: str) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(self, well, why)


class Canaries:
    """Sends what the dispatcher wants to be tried, and tells it what came of it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoints: dict[str, Endpoint],
        *,
        clock: Callable[[], float],
        idle_s: float,
        limit_s: float,
        ended: Callable[[float], None],
    ) -> None:
        """`ended` is called when one has ended: requests may wait for what it has shown."""
        self._dispatcher = dispatcher
        self._endpoints = endpoints
        self._clock = clock
        self._idle_s = idle_s
        self._limit_s = limit_s
        self._ended = ended
        self._flying: set[Canary] = set()

    def sweep(self) -> None:
        """Give up those that have taken too long, and send those that are due."""
        now = self._clock()
        for canary in tuple(self._flying):
            if now >= canary.due_at:
                canary.give_up(f"no token within {self._limit_s:g} s")
        for id_ in self._dispatcher.canaries(now, self._idle_s):
            endpoint = self._endpoints.get(id_)
            models = self._dispatcher.endpoints[id_].plan.models
            if endpoint is None or not models:
                self._dispatcher.canary_ended(id_, None, now)
                continue
            canary = Canary(endpoint, now + self._limit_s, self._told)
            self._flying.add(canary)
            canary.send(min(models))

    def close(self) -> None:
        """End all that are under way."""
        for canary in tuple(self._flying):
            canary.give_up("the router stops")

    def _told(self, canary: Canary, well: bool | None, why: str) -> None:  # a callback
        self._flying.discard(canary)
        if not well:
            fields = {"endpoint": canary.endpoint.id, "reason": why}
            logger.info("canary failed" if well is False else "canary undecided", extra=fields)
        now = self._clock()
        self._dispatcher.canary_ended(canary.endpoint.id, well, now)
        self._ended(now)
