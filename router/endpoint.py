"""One engine server at run time: its adapter, its connections, and the heads of its requests."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from engines.engine import Dialect, Engine
from policies.flight import Flight
from router.intake import INTERNAL_HEADERS
from router.wire.heads import RequestHead, nominated
from router.wire.upstream import Pool

_NOT_FORWARDED = INTERNAL_HEADERS | {
    b"accept-encoding",  # a compressed answer could be neither judged nor counted
    b"content-length",
    b"content-type",  # what was read is JSON, whatever it was called; engines are strict about it
    b"expect",
    b"host",
    b"x-request-id",
}
HOPS = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
    b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip",
})  # fmt: skip
"""What a proxy in front says of whom it speaks for; from anybody else it is only a claim."""
_TRACE = frozenset({b"traceparent", b"tracestate"})
_CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key"})

_MEMOS = {
    (False, True): "forwarded",
    (True, True): "forwarded, keyless",
    (False, False): "forwarded, hopless",
    (True, False): "forwarded, keyless and hopless",
}
"""Under which name a head's forwarded lines are remembered."""


class Endpoint:
    """What the router needs to talk to one engine server."""

    __slots__ = (
        "_credentials",
        "_keeps",
        "_key",
        "_starts",
        "_traces",
        "clock",
        "dialect",
        "engine",
        "id",
        "pool",
        "pool_name",
    )

    def __init__(  # noqa: PLR0913 # all that is known of an endpoint
        self,
        id: str,  # noqa: A002 # the field's name everywhere
        *,
        pool_name: str,
        engine: Engine,
        dialect: Dialect,
        pool: Pool,
        clock: Callable[[], float],
        api_key: str | None = None,
        passes_credentials: bool = True,
        traces: bool = False,
    ) -> None:
        """`passes_credentials` False: what a caller shows is for the router, and for no engine.

        `traces`: engines are told of the router's own spans, not of the caller's.
        """
        self.id = id
        self.pool_name = pool_name
        self.engine = engine
        self.dialect = dialect
        self.pool = pool
        self.clock = clock
        self._credentials = f"authorization: Bearer {api_key}\r\n".encode() if api_key else b""
        self._key = api_key
        self._keeps = bool(api_key) or not passes_credentials
        self._traces = traces
        self._starts: dict[str, bytes] = {}

    @property
    def keeps_key(self) -> bool:
        """Whether the caller's key stays here: the router has one of its own, or asks for one."""
        return self._keeps

    def without_key(self, text: str) -> str:
        """Return an engine's words without the router's own key, which some engines repeat."""
        return text.replace(self._key, "(the key)") if self._key else text

    def request_head(
        self,
        path: str,
        caller: RequestHead,
        *,
        extra: Sequence[tuple[bytes, bytes]],
        request_id: bytes,
        length: int,
        hops: bool = True,
    ) -> bytes:
        """Return the head of a POST: the caller's end-to-end headers, less what is the router's.

        `hops`: what it says of whom it speaks for is believed.
        An endpoint with a key of its own never sees the caller's, and none does where keys are on.
        """
        start = self._start(path)
        memo = _MEMOS[self._keeps, hops]
        forwarded = caller.memo.get(memo)
        if forwarded is None:
            dropped = _NOT_FORWARDED | nominated(caller.headers)
            if self._keeps:
                dropped |= _CREDENTIALS
            if not hops:
                dropped |= HOPS
            if self._traces:
                dropped |= _TRACE
            # `content_length` and `content-length` are one name to servers that make variables of it.
            forwarded = b"".join(
                [
                    b"%b: %b\r\n" % each
                    for each in caller.headers
                    if each[0] not in dropped and b"_" not in each[0]
                ]
            )
            caller.memo[memo] = forwarded
        parts = [start, forwarded]
        parts += [b"%b: %b\r\n" % header for header in extra]
        parts.append(b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (request_id, length))
        return b"".join(parts)

    def own_head(self, path: str, length: int, extra: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        """Return the head of a POST of the router's own."""
        parts = [self._start(path), *(b"%b: %b\r\n" % header for header in extra)]
        parts.append(b"content-length: %d\r\n\r\n" % length)
        return b"".join(parts)

    def _start(self, path: str) -> bytes:
        """Return what every head for a path begins with."""
        start = self._starts.get(path)
        if start is None:
            where = self.pool.where
            target = (where.base_path + path).encode("ascii")
            start = b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n%b" % (
                target,
                where.authority,
                self._credentials,
            )
            self._starts[path] = start
        return start


def dialect_of(endpoint: Endpoint, flight: Flight) -> Dialect:
    """Return how an endpoint is spoken to about a flight: its variant may be another model."""
    part = flight.ask.part
    if part is None or part.model is None or endpoint.dialect.upstream_model is not None:
        return endpoint.dialect
    return replace(endpoint.dialect, upstream_model=part.model)
