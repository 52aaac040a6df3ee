"""Fuzzes what callers send: the server side of the wire, and the reading of a request."""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from random import Random
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.server import ServerState

from engines.engine import Route
from router import errors
from router.door import ROUTES
from router.intake import read_asked, read_request
from router.settings import Limits
from router.wire.heads import KnownRequests, RequestHead
from router.wire.inbound import LINGER_S, Inbound, Incoming
from tests.fakes.transport import FakeTransport
from tests.fuzz.corpus import BODIES, HEADERS, REQUESTS
from tests.fuzz.mutate import cut, mutated

LIMITS = Limits(max_header_bytes=4096, max_body_bytes=4096)
PIECE_BYTES = 7
Seen = list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]]
"""Method, target, headers and body of each request that was begun."""


class Broken(AssertionError):
    """A promise that did not hold, with the input."""


class _Held:
    """An exchange that does nothing by itself."""

    def caller_left(self) -> None:
        """Nothing is held."""

    def pause_writing(self) -> None:
        """Nothing is written."""

    def resume_writing(self) -> None:
        """Nothing is written."""


class _Task:
    def add_done_callback(self, _: object) -> None:
        """The task is over."""


class Door:
    """A door, and the loop and application behind it, that remember what came through."""

    limits = LIMITS

    def __init__(self, known: KnownRequests) -> None:
        self.routes: Mapping[bytes, Route] = ROUTES
        self.known = known
        self.most_connections = 2
        self.trusts = lambda _: True
        self.now = 0.0
        self.clock: Callable[[], float] = lambda: self.now
        self.connections: set[Inbound] = set()
        self.seen: Seen = []
        self.keep_alive = True
        """What the latest request wants of its connection."""

    def begin(self, _: Inbound, request: Incoming) -> _Held:
        """Remember an inference request."""
        self.note(request)
        return _Held()

    def refusal_of(self, _head: RequestHead, _key: bytes) -> None:
        """No key is asked for."""

    def note(self, request: Incoming) -> None:
        """Remember any request."""
        head = request.head
        # A head that is known may differ in the length; its body tells it as well.
        headers = [header for header in head.headers if header[0] != b"content-length"]
        self.keep_alive = request.keep_alive
        self.seen.append((head.method, head.target, headers, request.body))

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> _Task:
        """Do as a loop, but run nothing: what is no inference request would be answered."""
        coroutine.close()
        return _Task()


class _Watched(Inbound):
    """Tells its door of the requests that are none of inference too."""

    def _start_cycle(self, request: Incoming) -> None:
        cast("Door", self._door).note(request)
        super()._start_cycle(request)


async def _no_app(scope: object, receive: object, send: object) -> None:
    """Never runs."""


CONFIG = Config(app=_no_app, lifespan="off", log_config=None)
CONFIG.load()


def served(
    parts: list[bytes], known: KnownRequests, patience: int = 0
) -> tuple[Door, Inbound, FakeTransport]:
    """Feed one connection and answer whatever begins, once `patience` parts have come."""
    door = Door(known)
    inbound = _Watched(
        door, config=CONFIG, server_state=ServerState(), app_state={}, _loop=cast("Any", door)
    )
    transport = FakeTransport()
    inbound.connection_made(transport)
    for number, part in enumerate(parts):
        if transport.closed:
            break
        inbound.data_received(part)
        if number >= patience:
            _answer(door, inbound, transport)
    _answer(door, inbound, transport)
    return door, inbound, transport


def _answer(door: Door, inbound: Inbound, transport: FakeTransport) -> None:
    """Answer all that was begun, and what begins with that."""
    while inbound._busy and not transport.closed:
        inbound.answer(200, [], b"ok")
        inbound.finished(keep_alive=door.keep_alive)


def fuzz_inbound(rng: Random, known: KnownRequests) -> None:
    """Serve one mutated input; raises `Broken`, or whatever the router raised."""
    items = [mutated(rng, REQUESTS) for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 20)))]
    data = b"".join(items)
    parts = items if rng.random() < 0.5 else cut(rng, data)
    door, inbound, transport = served(parts, known, rng.choice((0, 0, len(parts))))
    if len(door.seen) > data.count(b"HTTP/1."):
        raise Broken(f"{len(door.seen)} requests were begun of {data!r}")
    # The same bytes cut otherwise: no head is known, and nothing is read in one piece.
    again, _, _ = served(list(pieces(data)), KnownRequests())
    fewer = door.seen, again.seen[: len(door.seen)]
    if fewer[0] != fewer[1] or (len(parts) == 1 and len(door.seen) != len(again.seen)):
        raise Broken(f"read as {door.seen} at once and as {again.seen} in pieces: {data!r}")
    _require_agreement(door.seen, data)
    if inbound._problem is not None and not transport.closed:
        _require_closed(door, inbound, transport, data)
    inbound.connection_lost(None)
    if door.connections:
        raise Broken(f"the connection is held after its end: {data!r}")


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield the data in pieces too small to hold a head."""
    for at in range(0, len(data), PIECE_BYTES):
        yield data[at : at + PIECE_BYTES]


def _require_closed(door: Door, inbound: Inbound, transport: FakeTransport, data: bytes) -> None:
    """Raise `Broken` where a refused connection is kept, or a refusal is no whole answer."""
    if not transport.ended:
        raise Broken(f"refused, but not ended: {inbound._problem} {data!r}")
    began = len(door.seen)
    inbound.data_received(REQUESTS[0])
    if len(door.seen) != began:
        raise Broken(f"a request was begun on a refused connection: {data!r}")
    door.now += LINGER_S
    inbound.expire(door.now)
    if not transport.aborted:
        raise Broken(f"a refused connection is kept: {data!r}")


def _require_agreement(seen: Seen, data: bytes) -> None:
    """Hold what was begun to what another parser makes of the same bytes, as far as it reads."""
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(data)
    for method, target, _, body in seen:
        parts: list[bytes] = []
        try:
            head = judge.next_event()
            while isinstance(event := judge.next_event(), h11.Data):
                parts.append(bytes(event.data))
            if not isinstance(head, h11.Request) or not isinstance(event, h11.EndOfMessage):
                return
            if (head.method, head.target, b"".join(parts)) != (method, target, body):
                raise Broken(f"another parser reads {head} {parts}: {data!r}")
            judge.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            judge.send(h11.EndOfMessage())
            judge.start_next_cycle()
        except h11.ProtocolError:
            return


def fuzz_intake(rng: Random) -> None:
    """Read one mutated request into facts; raises `Broken`, or whatever the router raised."""
    route = rng.choice(list(BODIES))
    body = mutated(rng, BODIES[route])
    headers = []
    for _ in range(rng.randint(0, 4)):
        name, _, value = mutated(rng, HEADERS).partition(b":")
        headers.append((name.lower().strip(), value.strip()))
    read = read_request(route, read_asked(headers), body, new_id=lambda: "id")
    if isinstance(read, errors.Problem):
        lines = errors.headers(read)
        errors.body(read), errors.event(read), errors.body(read, anthropic=True)
        if any(byte in value for _, value in lines for byte in b"\r\n"):
            raise Broken(f"a header of the refusal has a line end: {lines} {headers} {body!r}")
    elif not read.facts.model or "\n" in read.request_id:
        raise Broken(f"read as {read.facts}: {headers} {body!r}")
