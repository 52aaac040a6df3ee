"""What a hostile or broken engine answers, and what its caller may see of it.

`EVIL` stands wherever a caller must never hear it: in what splits an answer in two, in what is
meant for the next hop alone, in what only the router may say. Source: RFC 9112, sections 4 to 7.
"""

from dataclasses import dataclass

from tests.hostile.case import EVIL, OWN, chunked, own
from tests.hostile.case import evil as evil_mark

BODY = b'{"choices":[{"text":"%b"}]}' % OWN
JSON = b"content-type: application/json"
LENGTH = b"content-length: %d" % len(BODY)
CHUNKED = b"transfer-encoding: chunked"
SECOND = b'HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{"second":"%b"}  ' % EVIL
"""A whole answer, for the inside or the end of another one."""
BAD = 502


@dataclass(frozen=True, slots=True)
class Said:
    """What an engine says to one request."""

    name: str
    data: bytes
    status: int
    """What the caller hears."""
    closes: bool = False
    """The engine closes its side behind it."""

    def numbered(self, number: int) -> bytes:
        """Return its bytes with the marks of one request."""
        return self.data.replace(OWN, own(number)).replace(EVIL, evil_mark(number))


def head(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """Return a head of these lines, as they are."""
    return b"\r\n".join((start, *lines, b"", b""))


def good(*lines: bytes, body: bytes = BODY) -> bytes:
    """Return an answer that would be right but for these lines."""
    return head(JSON, b"content-length: %d" % len(body), *lines) + body


_SPLITS = {
    "a return in a value": b"x: a\rset-cookie: %b" % EVIL,
    "a line feed in a value": b"x: a\nset-cookie: %b" % EVIL,
    "two line feeds in a value": b"x: a\n\n%b" % SECOND,
    "two returns in a value": b"x: a\r\r%b" % EVIL,
    "a folded value": b"x: a\r\n %b" % EVIL,
    "a zero byte in a value": b"x: %b\x00" % EVIL,
    "a zero byte in a name": b"x\x00: %b" % EVIL,
    "a control character in a value": b"x: \x1b[2J%b" % EVIL,
    "a space before a colon": b"x : %b" % EVIL,
    "a space in a name": b"x y: %b" % EVIL,
    "no colon": EVIL,
    "no name": b": %b" % EVIL,
    "a name that is none": b"x(%b): a" % EVIL,
    "a return before a line end": b"x: %b\r" % EVIL,
}
_LENGTHS = {
    "two lengths": (LENGTH, b"content-length: 3"),
    "two lengths, the same": (LENGTH, LENGTH),
    "a list of lengths": (LENGTH + b", 3",),
    "a list of the same lengths": (b"content-length: %d, %d" % (len(BODY), len(BODY)),),
    "a signed length": (b"content-length: +%d" % len(BODY),),
    "a negative length": (b"content-length: -1",),
    "a hexadecimal length": (b"content-length: 0x1b",),
    "a length with an underscore": (b"content-length: 2_7",),
    "a length of a hundred digits": (b"content-length: " + b"9" * 100,),
    "no length": (b"content-length:",),
    "a length and chunks": (LENGTH, CHUNKED),
    "chunks and a length": (CHUNKED, LENGTH),
    "an unknown coding": (b"transfer-encoding: cow",),
    "compressed chunks": (b"transfer-encoding: gzip, chunked",),
    "chunks that are no last coding": (b"transfer-encoding: chunked, gzip",),
    "two codings": (CHUNKED, CHUNKED),
    "a coding with a space before its colon": (b"transfer-encoding : chunked",),
    "a coding behind a vertical tab": (b"transfer-encoding: \x0bchunked",),
}
_STARTS = {
    "HTTP/2": b"HTTP/2.0 200 OK",
    "HTTP/0.9": b"HTTP/0.9 200 OK",
    "another protocol": b"ICY 200 OK",
    "no version": b"200 OK",
    "no status": b"HTTP/1.1 OK",
    "a status of two digits": b"HTTP/1.1 20 OK",
    "a status of four digits": b"HTTP/1.1 2000 OK",
    "a signed status": b"HTTP/1.1 +200 OK",
    "a return in the reason": b"HTTP/1.1 200 OK\rx: %b" % EVIL,
    "a request": b"GET / HTTP/1.1",
    "lower case": b"http/1.1 200 OK",
}
_CHUNKS = {
    "a size with a prefix": b"0x5\r\n",
    "a signed size": b"+5\r\n",
    "no size": b"\r\n",
    "a huge size": b"ffffffffffffffff\r\n",
    "an extension": b"1b;%b\r\n" % EVIL,
    "a line feed behind the size": b"1b\n",
    "a space behind the size": b"1b \r\n",
}
_HIDDEN = {
    "a header that Connection names": (b"connection: x-secret", b"x-secret: %b" % EVIL),
    "how long to keep": (b"keep-alive: timeout=5, max=%b" % EVIL,),
    "a demand of a proxy's": (b"proxy-authenticate: Basic realm=%b" % EVIL,),
    "an offer of another protocol": (b"upgrade: %b" % EVIL,),
    "a promise of trailers": (b"trailer: %b" % EVIL,),
    "a pool's name": (b"x-sla-pool: %b" % EVIL,),
    "a receipt": (b"x-sla-receipt: %b" % EVIL,),
    "a class": (b"X-SLA-Class: %b" % EVIL,),
    "another request's id": (b"x-request-id: %b" % EVIL,),
}
_INTERIM = head(start=b"HTTP/1.1 100 Continue")
_EVENTS = head(b"content-type: text/event-stream", CHUNKED)
_EVENT = b'data: {"choices":[{"text":"%b"}]}\n\n' % OWN

SAID: list[Said] = [
    *(Said(f"head: {name}", good(line), BAD) for name, line in _SPLITS.items()),
    *(Said(f"length: {name}", head(JSON, *lines) + BODY, BAD, closes=True)
      for name, lines in _LENGTHS.items()),
    *(Said(f"start: {name}", head(JSON, LENGTH, start=start) + BODY, BAD, closes=True)
      for name, start in _STARTS.items()),
    *(Said(f"chunk: {name}", head(JSON, CHUNKED) + size + BODY + b"\r\n0\r\n\r\n", BAD, closes=True)
      for name, size in _CHUNKS.items()),
    *(Said(f"hidden: {name}", good(*lines), 200) for name, lines in _HIDDEN.items()),
    Said("good", good(), 200),
    Said("good, in chunks", head(JSON, CHUNKED) + chunked(BODY), 200),
    Said("good, no reason", head(JSON, LENGTH, start=b"HTTP/1.1 200 ") + BODY, 200),
    Said("good, an odd reason", head(JSON, LENGTH, start=b"HTTP/1.1 200 \x00%b" % EVIL) + BODY, 200),
    Said("good, until its end", head(JSON) + BODY, 200, closes=True),
    Said("good, behind an interim one", _INTERIM + good(), 200),
    Said("good, behind hints that are not passed on", head(
        b"link: <%b>" % EVIL, start=b"HTTP/1.1 103 Early Hints") + good(), 200),
    Said("good, trailers that are not passed on", head(JSON, CHUNKED) + chunked(BODY)[:-2]
         + b"set-cookie: %b\r\n\r\n" % EVIL, 200),
    Said("a second answer behind it", good() + SECOND, 200),
    Said("a second answer behind chunks", head(JSON, CHUNKED) + chunked(BODY) + SECOND, 200),
    Said("a second answer behind none", head(start=b"HTTP/1.1 204 No Content") + SECOND, 204),
    Said("a second answer behind a body of length 0", good(body=b"") + SECOND, 200),
    Said("a second answer behind an interim one", _INTERIM + good() + SECOND, 200),
    Said("a second answer for a body of no answer", head(
        b"content-length: %d" % len(SECOND), start=b"HTTP/1.1 304 Not Modified") + SECOND, BAD),
    Said("a change of protocol", head(b"upgrade: h2c", b"connection: upgrade",
                                      start=b"HTTP/1.1 101 Switching Protocols") + SECOND, BAD),
    Said("a change of protocol by a good status", head(
        JSON, LENGTH, b"upgrade: h2c", b"connection: upgrade") + BODY, 200),
    Said("interim answers without an end", _INTERIM * 3000 + good(), BAD),
    Said("a head without an end", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000, BAD),
    Said("a head of many lines", head(*(b"x-%d: y" % each for each in range(20_000))), BAD),
    Said("an interim head without an end", b"HTTP/1.1 100 OK\r\nx: " + b"y" * 100_000, BAD),
    Said("nothing", b"", BAD, closes=True),
    Said("an empty line", b"\r\n\r\n", BAD, closes=True),
    Said("a body alone", BODY, BAD, closes=True),
    Said("half a head", head(JSON, LENGTH)[:30], BAD, closes=True),
    Said("half a body", head(JSON, LENGTH) + BODY[:9], BAD, closes=True),
    Said("half a chunk", head(JSON, CHUNKED) + chunked(BODY)[:9], BAD, closes=True),
    Said("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x28", BAD, closes=True),
    Said("a refusal too deep to be read", head(
        JSON, b"content-length: 40000", start=b"HTTP/1.1 400 Bad") + b"[" * 40_000, 400),
    Said("a refusal of odd bytes", head(
        b"content-length: 4", start=b"HTTP/1.1 400 Bad") + b"\xff\x00\r\n", 400),
    Said("a refusal with line ends in its words", head(
        JSON, b"content-length: 58", start=b"HTTP/1.1 400 Bad")
        + b'{"error":{"message":"a\\r\\nset-cookie: x","type":"b\\r\\nc: d"}}'[:58], 400),
    Said("a refusal without an end", head(
        b"content-length: 99999999", start=b"HTTP/1.1 500 Bad") + b"x" * 200_000, BAD),
    Said("events", _EVENTS + chunked(_EVENT, b"data: [DONE]\n\n"), 200),
    Said("events, and a second answer", _EVENTS + chunked(_EVENT, b"data: [DONE]\n\n") + SECOND, 200),
    Said("events, the first in a chunk with an extension",
         _EVENTS + b"29;%b\r\n" % EVIL + _EVENT + b"\r\n0\r\n\r\n", BAD, closes=True),
    Said("events, none whole", _EVENTS + b"5\r\ndata:\r\n0\r\n\r\n", BAD),
]  # fmt: skip
