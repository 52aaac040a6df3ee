"""What a hostile request is: its bytes, and what must come of them.

Two words stand in every case for what is told apart later: `OWN` in the request that the caller
means to send, `EVIL` in the one that it means to smuggle. Both are as long as what replaces them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

OWN = b"own-0000"
EVIL = b"evl-0000"
BODY = b'{"model":"m","prompt":"%b"}' % OWN
LENGTH = b"content-length: %d" % len(BODY)
CHUNKED = b"transfer-encoding: chunked"
HOST = b"host: r"
COMPLETIONS = b"/v1/completions"
INCOMPLETE = 408
"""Answered once the time is up, where the rest of a request never comes."""


@dataclass(frozen=True, slots=True)
class Case:
    """One connection's bytes."""

    name: str
    data: bytes
    answers: tuple[int, ...]
    """Statuses with which the router itself answers, in order; then the connection ends."""
    reaches: int = 0
    """Requests that reach an engine."""

    def numbered(self, number: int, model: bytes = b"m") -> bytes:
        """Return its bytes with its own marks, for a model of as long a name."""
        data = self.data.replace(OWN, own(number)).replace(EVIL, evil(number))
        return data.replace(b'"model":"m"', b'"model":"%b"' % model)


def own(number: int) -> bytes:
    """Return what marks the request that a caller means to send."""
    return b"own-%04d" % number


def evil(number: int) -> bytes:
    """Return what marks the one that it means to smuggle."""
    return b"evl-%04d" % number


def head(*lines: bytes, start: bytes = b"POST /v1/completions HTTP/1.1") -> bytes:
    """Return a head of these lines, as they are."""
    return b"\r\n".join((start, *lines, b"", b""))


def post(*lines: bytes, body: bytes = BODY, target: bytes = COMPLETIONS) -> bytes:
    """Return a whole request of known length, with more headers behind the usual ones."""
    start = b"POST %b HTTP/1.1" % target
    return head(HOST, b"content-length: %d" % len(body), *lines, start=start) + body


def chunked(*chunks: bytes) -> bytes:
    """Return a body in chunks, its end included."""
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"


SMUGGLED = post(body=BODY.replace(OWN, EVIL))
"""A whole request, for the inside of another one."""


def refused(name: str, data: bytes, status: int = 400) -> Case:
    """Return a case that is answered once, and of which no engine hears."""
    return Case(name, data, (status,))


def served(name: str, data: bytes, requests: int = 1) -> Case:
    """Return a case of requests that are all right."""
    return Case(name, data, (200,) * requests, requests)


def each_refused(theme: str, cases: Iterable[tuple[str, bytes]], status: int = 400) -> list[Case]:
    """Return cases of one theme that are all refused."""
    return [refused(f"{theme}: {name}", data, status) for name, data in cases]


def each_served(theme: str, cases: Iterable[tuple[str, bytes]]) -> list[Case]:
    """Return cases of one theme that are all served."""
    return [served(f"{theme}: {name}", data) for name, data in cases]
