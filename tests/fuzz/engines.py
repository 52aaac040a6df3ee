"""Fuzzes what engines answer: the connections to them."""

from collections.abc import Sequence
from random import Random

from policies.facts import FailureKind
from router.wire.framing import Framing
from router.wire.heads import AnswerHead, HeadReader
from router.wire.upstream import Connection
from tests.fakes.transport import FakeTransport
from tests.fuzz.callers import Broken
from tests.fuzz.corpus import ANSWERS
from tests.fuzz.mutate import cut, mutated


class _Pool:
    """Takes back connections, and remembers that it did."""

    def __init__(self, heads: HeadReader) -> None:
        self.heads = heads
        self.given: list[Connection] = []

    def give(self, connection: Connection) -> None:
        """Take one back."""
        self.given.append(connection)

    def forget(self, connection: Connection) -> None:
        """Let go of one."""
        if connection in self.given:
            self.given.remove(connection)


class Listener:
    """Remembers, and holds the connection to its promises."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.head: AnswerHead | None = None
        self.framing: Framing | None = None
        self.relayed: list[bytes] = []
        self.payload: list[bytes] = []
        self.endings = 0
        """Times that the answer was said to be complete, or failed."""

    def on_connected(self, connection: Connection) -> None:
        """The request is on its way."""

    def on_head(self, head: AnswerHead, framing: Framing) -> None:
        """Remember the head."""
        self._require_open()
        if self.head is not None or head.status < 200:
            raise Broken(f"a second head, or an interim one: {self._data!r}")
        self.head, self.framing = head, framing

    def on_body(self, relay: bytes, payload: Sequence[bytes], *, done: bool) -> None:
        """Remember a part."""
        self._require_open()
        if self.head is None:
            raise Broken(f"a body without a head: {self._data!r}")
        self.relayed.append(relay)
        self.payload += payload
        self.endings += done

    def on_failure(self, kind: FailureKind, detail: str) -> None:
        """Remember that it failed."""
        self._require_open()
        self.endings += 1

    def _require_open(self) -> None:
        if self.endings:
            raise Broken(f"something was heard after the end: {self._data!r}")


def fuzz_upstream(rng: Random, heads: HeadReader) -> None:
    """Hear one mutated answer; raises `Broken`, or whatever the router raised."""
    data = mutated(rng, ANSWERS)
    pool, transport, listener = _Pool(heads), FakeTransport(), Listener(data)
    connection = Connection(pool)  # type: ignore[arg-type] # all of a pool that it uses
    connection.connection_made(transport)
    connection.ask(listener, b"POST / HTTP/1.1\r\n\r\n", b"{}")
    for part in cut(rng, data):
        if not transport.closed and part:
            connection.data_received(part)
    ended_before = listener.endings
    if pool.given and not ended_before:
        raise Broken(f"a connection was given back before its time: {data!r}")
    connection.connection_lost(rng.choice((None, ConnectionResetError())))
    if listener.endings != 1:
        raise Broken(f"{listener.endings} endings were told of: {data!r}")
    if not ended_before and not transport.closed and listener.framing is None:
        raise Broken(f"a connection without an answer is kept: {data!r}")
    _require_same_payload(listener, data)


def _require_same_payload(listener: Listener, data: bytes) -> None:
    """Raise `Broken` where what is relayed and what is looked into are not the same."""
    relayed, payload = b"".join(listener.relayed), b"".join(listener.payload)
    if listener.framing is None or not listener.framing.chunked:
        if relayed != payload:
            raise Broken(f"relayed {relayed!r}, looked into {payload!r}: {data!r}")
        return
    unframed, at = b"", 0
    while at < len(relayed):
        end = relayed.find(b"\r\n", at)
        if end < 0:
            break
        size = int(relayed[at:end], 16)
        unframed += relayed[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    if unframed != payload:
        raise Broken(f"relayed {relayed!r}, looked into {payload!r}: {data!r}")
