"""One try at one endpoint: from asking to the last byte of its answer.

Until the first event of the answer was judged, nothing reaches the caller, so that a refusal in
any form (a status, a body, an event inside a 200) can still go elsewhere. After that every whole
event is passed on as it came; half an event is held until its other half, so that an answer that
breaks can be ended with an event of ours.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Final, Protocol

from engines.engine import Fault, FaultKind, Prepared
from policies.facts import FailureKind
from policies.flight import Flight
from router.endpoint import Endpoint
from router.wire.framing import Framing
from router.wire.heads import FIRST_NOT_GOOD_STATUS, AnswerHead
from router.wire.upstream import Connection

MAX_FAULT_BYTES = 64 * 1024
"""Of a refusal, this much is read."""
MAX_HELD_BYTES = 1024 * 1024
"""A plain answer up to this size is held until it is whole; a larger one is passed on as it comes."""
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""A larger event is taken for one that never ends."""
TAIL_BUFFERS = 4
"""Usage stands in the last events: usage, end of stream, end marker, and one to spare."""

EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
LONGEST_EVENT_END = 4

_FAILURES = {
    FaultKind.BUSY: FailureKind.BUSY,
    FaultKind.BROKEN: FailureKind.BROKEN,
}


class Asker(Protocol):
    """The exchange that an attempt is made for."""

    def attempt_failed(self, attempt: "Attempt", kind: FailureKind, fault: Fault) -> None:
        """Nothing of the answer is usable, and nothing was passed on."""

    def begin_answer(self, attempt: "Attempt") -> None:
        """The answer is good: its head may go with the first part that is passed on."""

    def whole_answer(self, attempt: "Attempt", body: bytes) -> None:
        """The answer is good and complete."""

    def pass_on(self, relay: bytes, payload: Sequence[bytes]) -> None:
        """More of a begun answer came, up to the end of an event."""

    def answer_ended(self, attempt: "Attempt") -> None:
        """A begun answer is complete."""

    def answer_broke(self, attempt: "Attempt", kind: FailureKind, detail: str) -> None:
        """A begun answer will not be completed."""


class _State(Enum):
    ASKING = auto()
    REFUSED = auto()
    """A status other than 2xx: the body says why."""
    COLLECTING = auto()
    """A plain answer, held until it is whole."""
    JUDGING = auto()
    """A stream whose first event has not come."""
    RELAYING = auto()
    OVER = auto()


# A member looked up on its class costs more than a name of this module.
_ASKING: Final = _State.ASKING
_REFUSED: Final = _State.REFUSED
_COLLECTING: Final = _State.COLLECTING
_JUDGING: Final = _State.JUDGING
_RELAYING: Final = _State.RELAYING
_OVER: Final = _State.OVER


class Attempt:
    """A `Listener` to one connection on behalf of one exchange."""

    __slots__ = (
        "_asker", "_framing", "_head", "_held", "_held_bytes", "_held_payload", "_state", "_task",
        "_torn_bytes",
        "asked_at", "connected_at", "connection", "endpoint", "events", "first_event_at", "flight",
        "in_events", "last_at", "prepared", "tail", "torn",
    )  # fmt: skip

    def __init__(
        self, asker: Asker, flight: Flight, endpoint: Endpoint, prepared: Prepared
    ) -> None:
        self._asker = asker
        self.flight = flight
        self.endpoint = endpoint
        self.prepared = prepared
        self._state = _ASKING
        self._task: asyncio.Task[None] | None = None
        self.connection: Connection | None = None
        """From being connected until the answer has ended."""
        self._head: AnswerHead | None = None
        self._framing: Framing | None = None
        self._held: list[bytes] = []
        self._held_payload: list[bytes] = []
        self._held_bytes = 0
        self._torn_bytes = 0
        """Of an event that is passed on in pieces, those that went."""
        self.in_events = False
        """The answer is a stream of events, and the first one is good."""
        self.asked_at = 0.0
        self.connected_at = 0.0
        self.first_event_at = 0.0
        self.last_at = 0.0
        self.torn = False
        """Half an event was passed on, because the whole is too large to be held."""
        self.events = 0
        """Server-sent events with data so far: about one an output token."""
        self.tail: deque[Sequence[bytes]] = deque(maxlen=TAIL_BUFFERS)

    def ask(self, head: bytes, now: float) -> None:
        """Send the request."""
        self.asked_at = self.last_at = now
        self._task = self.endpoint.pool.ask(self, head, self.prepared.body)

    def drop(self) -> None:
        """Hang up; nothing more is heard of this attempt."""
        self._state = _OVER
        if self.connection is not None:
            self.connection.drop()
        elif self._task is not None:
            self._task.cancel()

    def time_out(self, kind: FailureKind, detail: str) -> None:
        """Hang up, and report it as a failure."""
        if self.connection is not None:
            self.connection.drop()
        elif self._task is not None:
            self._task.cancel()
        self.on_failure(kind, detail)

    @property
    def connect_s(self) -> float | None:
        """How long a fresh connection took; None on a kept one."""
        return self.connected_at - self.asked_at if self._task is not None else None

    @property
    def content_events(self) -> int:
        """Events that carried a part of the answer: the end-of-stream mark is none."""
        return max(0, self.events - 1)

    @property
    def is_answered(self) -> bool:
        """Whether the head of an answer came: what went wrong then may be in the engine's words."""
        return self._head is not None

    @property
    def head(self) -> AnswerHead:
        """The head of the answer; only once it came."""
        if self._head is None:
            raise RuntimeError("the head of the answer has not come")
        return self._head

    @property
    def framing(self) -> Framing:
        """The framing of the answer's body; only once its head came."""
        if self._framing is None:
            raise RuntimeError("the head of the answer has not come")
        return self._framing

    @property
    def begun(self) -> bool:
        """Whether the caller has been given a part of this answer."""
        return self._state is _RELAYING

    # Listener

    def on_connected(self, connection: Connection) -> None:
        """See `Listener`."""
        self.connection = connection
        self.connected_at = self.endpoint.clock()

    def on_head(self, head: AnswerHead, framing: Framing) -> None:
        """See `Listener`."""
        self._head = head
        self._framing = framing
        self.last_at = self.endpoint.clock()
        if head.status >= FIRST_NOT_GOOD_STATUS:
            self._state = _REFUSED
        elif head.is_event_stream:
            self._state = _JUDGING
        else:
            self._state = _COLLECTING
            self.first_event_at = self.last_at

    def on_body(self, relay: bytes, payload: Sequence[bytes], *, done: bool) -> None:
        """See `Listener`."""
        self.last_at = self.endpoint.clock()
        if done:
            # It serves others from here on: to pause or drop it would be to pause or drop theirs.
            self.connection = None
        state = self._state
        if state is _RELAYING:
            self._relay(relay, payload, done=done)
            return
        self._hold(relay, payload)
        if state is _JUDGING:
            self._judge(done=done)
        elif state is _COLLECTING:
            self._collect(done=done)
        elif state is _REFUSED and (done or self._held_bytes > MAX_FAULT_BYTES):
            body = b"".join(self._held_payload)
            self._fail(self.endpoint.engine.read_fault(self.head.status, body), done=done)

    def on_failure(self, kind: FailureKind, detail: str) -> None:
        """See `Listener`."""
        state = self._state
        self._state = _OVER
        if state is _RELAYING:
            self._asker.answer_broke(self, kind, detail)
        elif state is not _OVER:
            fault = Fault(FaultKind.BROKEN, f"endpoint {self.endpoint.id!r}: {detail}")
            self._asker.attempt_failed(self, kind, fault)

    # how an answer goes on

    def _relay(self, relay: bytes, payload: Sequence[bytes], *, done: bool) -> None:
        self.tail.append(payload)
        for part in payload:
            self.events += part.count(b"data:")
        if self._held or self.torn:
            self._hold(relay, payload)
            is_whole = done or self._ends_whole(self._held_payload)
            if is_whole or self._held_bytes > MAX_HELD_BYTES:
                self.torn = not is_whole
                self._torn_bytes = 0 if is_whole else self._torn_bytes + self._held_bytes
                self._pass_on_held()
                if self._torn_bytes > MAX_EVENT_BYTES:
                    self.time_out(FailureKind.BROKEN, "an event is larger than 16 MiB")
                    return
        elif done or self._ends_whole(payload):
            self._asker.pass_on(relay, payload)
        else:
            self._hold(relay, payload)
        if done:
            self._end()

    def _ends_whole(self, payload: Sequence[bytes]) -> bool:
        """Return whether what came so far can be followed by an event of ours."""
        if not self.in_events:
            return True
        if not payload:
            return False
        last = payload[-1]
        if len(last) < LONGEST_EVENT_END:
            # The blank line itself may have been cut.
            last = b"".join(payload[-LONGEST_EVENT_END:])
        return last.endswith(EVENT_ENDS) and self.framing.between

    def take_whole_events(self) -> bytes:
        """Return the whole events among what is held, and hold nothing more; no framing."""
        held = b"".join(self._held_payload)
        self._held, self._held_payload, self._held_bytes = [], [], 0
        return held[: max(held.rfind(end) + len(end) if end in held else 0 for end in EVENT_ENDS)]

    def _hold(self, relay: bytes, payload: Sequence[bytes]) -> None:
        self._held.append(relay)
        self._held_payload += payload
        self._held_bytes += len(relay)

    def _pass_on_held(self) -> None:
        relay = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        payload = self._held_payload
        self._held, self._held_payload, self._held_bytes = [], [], 0
        self._asker.pass_on(relay, payload)

    def _end(self) -> None:
        self._state = _OVER
        self._asker.answer_ended(self)

    # how an answer begins

    def _collect(self, *, done: bool) -> None:
        if done:
            self._state = _OVER
            self._asker.whole_answer(self, b"".join(self._held_payload))
        elif self._held_bytes > MAX_HELD_BYTES and not self.prepared.repairs:
            self._begin()

    def _judge(self, *, done: bool) -> None:
        held = self._held_payload
        seen = held[0] if len(held) == 1 else b"".join(held)
        event = first_data(seen)
        if event is not None:
            fault = self.endpoint.engine.read_event_fault(event)
        elif done:
            fault = Fault(FaultKind.BROKEN, "the engine's stream ended before its first event")
        elif len(seen) > MAX_HELD_BYTES:
            fault = Fault(FaultKind.BROKEN, "the stream's first event is larger than 1 MiB")
        else:
            return
        if fault is not None:
            self._fail(fault, done=done)
            return
        self.first_event_at = self.last_at
        self.events = seen.count(b"data:")
        self.tail.append((seen,))
        self.in_events = True
        self._begin()
        if done:
            self._end()

    def _begin(self) -> None:
        self._state = _RELAYING
        self._asker.begin_answer(self)
        # Nothing to wait for where the held part ends whole; else it goes with its other half.
        if self.framing.done or self._ends_whole(self._held_payload):
            self._pass_on_held()

    def _fail(self, fault: Fault, *, done: bool = False) -> None:
        self._state = _OVER
        if not done and self.connection is not None:
            self.connection.drop()
        kind = _FAILURES.get(fault.kind, FailureKind.REJECTED)
        if fault.kind is FaultKind.UNAUTHORIZED and self.endpoint.keeps_key:
            # The router's own key was refused: that is the endpoint's fault, not the caller's.
            kind = FailureKind.BROKEN
        message = self.endpoint.without_key(fault.message)
        if message is not fault.message:
            fault = replace(fault, message=message)
        self._asker.attempt_failed(self, kind, fault)


def first_data(seen: bytes) -> bytes | None:
    """Return the data of a stream's first event; None while it is not complete.

    Comments before it (an engine's keep-alive while the request queues) are passed over.
    Source: WHATWG HTML, section 9.2.6.
    """
    if b"\r" in seen:
        seen = seen.replace(b"\r\n", b"\n")
    at = 0
    while (end := seen.find(b"\n\n", at)) >= 0:
        data = [
            line[5:].removeprefix(b" ")
            for line in seen[at:end].split(b"\n")
            if line.startswith(b"data:")
        ]
        if data:
            return b"\n".join(data)
        at = end + 2
    return None
