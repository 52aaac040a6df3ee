"""Connections: requests sent ahead, hop-by-hop headers, expectations and changes of protocol.

Source: RFC 9110, sections 7.6.1, 7.8 and 10.1.1; RFC 9112, section 9.
"""

from tests.hostile.case import (
    BODY,
    CHUNKED,
    HOST,
    INCOMPLETE,
    LENGTH,
    SMUGGLED,
    Case,
    chunked,
    each_served,
    head,
    post,
    refused,
    served,
)

GOOD = post()
HEALTHZ = head(HOST, start=b"GET /healthz HTTP/1.1")
_HOP_BY_HOP = {
    "the host": b"connection: host",
    "the length": b"connection: content-length",
    "the type": b"connection: content-type",
    "the key": b"connection: close, authorization",
    "the request's id": b"connection: x-request-id",
    "the class": b"connection: x-sla-class",
    "the caller's address": b"connection: x-forwarded-for, x-real-ip, forwarded",
    "nothing": b"connection:",
    "itself": b"connection: connection",
    "a list with holes": b"connection: , ,keep-alive,,",
    "a quoted name": b'connection: "x-request-id"',
    "a coding that is not used": b"connection: transfer-encoding",
}
_DROPPED = {
    "an old one for proxies": b"proxy-connection: keep-alive",
    "what the router would answer": b"te: trailers, deflate;q=0.5",
    "a promise of trailers": b"trailer: content-length",
    "a key for proxies": b"proxy-authorization: Basic b3duLTAwMDA=",
    "how long to keep": b"keep-alive: timeout=1000000, max=1",
    "an engine's queue": b"x-override-priority: 99",
    "an answer's class": b"x-sla-pool: p",
    "hops": b"max-forwards: 0",
    "a range": b"range: bytes=0-0",
    "a condition": b'if-none-match: "x"',
    "compressed answers": b"accept-encoding: gzip, br",
}
_UPGRADES = {
    "h2c": (b"upgrade: h2c", b"connection: upgrade, http2-settings", b"http2-settings: AAMAAABk"),
    "h2c, not nominated": (b"upgrade: h2c", b"http2-settings: AAMAAABk"),
    "websocket": (b"upgrade: websocket", b"connection: upgrade", b"sec-websocket-version: 13",
                  b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="),
    "websocket of another version": (b"upgrade: websocket", b"connection: Upgrade",
                                     b"sec-websocket-version: 777"),
    "TLS": (b"upgrade: TLS/1.0", b"connection: upgrade"),
    "nothing": (b"upgrade:", b"connection: upgrade"),
    "a word": (b"upgrade: x", b"connection: keep-alive, UPGRADE"),
}  # fmt: skip
_EXPECTATIONS = {
    "something else": b"expect: 200-ok",
    "two things": b"expect: 100-continue, x",
    "nothing": b"expect:",
    "with a parameter": b"expect: 100-continue;x=y",
    "longer": b"expect: 100-continuee",
    "quoted": b'expect: "100-continue"',
    "letter by letter": b"expect: 1 0 0-continue",
}

CASES: list[Case] = [
    served("sent ahead: two", GOOD * 2, 2),
    served("sent ahead: sixteen", GOOD * 16, 16),
    Case("sent ahead: more than are taken", GOOD * 40, (200,) * 16 + (400,), 16),
    Case("sent ahead: a page between", GOOD + HEALTHZ + GOOD, (200, 200, 200), 2),
    Case("sent ahead: one that is wrong between", GOOD + post(body=b"{") + GOOD, (200, 400, 200), 2),
    Case("sent ahead: one that is no HTTP between", GOOD + b"GET\r\n\r\n" + GOOD, (200, 400), 1),
    Case("sent ahead: half of one", GOOD + GOOD[:40], (200, INCOMPLETE), 1),
    served("sent ahead: behind the last one", post(b"connection: close") + SMUGGLED),
    served("sent ahead: behind the last one of several",
           post(b"connection: keep-alive, close") + SMUGGLED),
    served("sent ahead: chunks and a length", head(HOST, CHUNKED) + chunked(BODY) + GOOD, 2),
    *each_served("connection names", ((name, post(line, b"x-request-id: a-b", b"x-real-ip: 10.9.9.9"))
                                      for name, line in _HOP_BY_HOP.items())),
    *each_served("for the next hop alone", ((name, post(line)) for name, line in _DROPPED.items())),
    *each_served("upgrade", ((name, post(*lines)) for name, lines in _UPGRADES.items())),
    served("upgrade: and a request behind", post(*_UPGRADES["h2c"]) + SMUGGLED, 2),
    Case("upgrade: of a page, and a request behind",
         head(HOST, *_UPGRADES["websocket"], start=b"GET /healthz HTTP/1.1") + SMUGGLED,
         (200, 200), 1),
    Case("upgrade: with a body that covers a request",
         head(HOST, *_UPGRADES["h2c"], b"content-length: %d" % len(SMUGGLED),
              start=b"GET /healthz HTTP/1.1") + SMUGGLED, (200,)),
    Case("upgrade: with chunks that cover a request",
         head(HOST, *_UPGRADES["h2c"], CHUNKED, start=b"GET /healthz HTTP/1.1")
         + chunked(SMUGGLED), (200,)),
    *(refused(f"expect: {name}", post(line), 417) for name, line in _EXPECTATIONS.items()),
    served("expect: leave to send", post(b"expect: 100-continue")),
    served("expect: leave to send in capitals", post(b"EXPECT: 100-CONTINUE")),
    served("expect: leave to send, sent ahead", GOOD + post(b"expect: 100-continue"), 2),
    served("expect: leave to send chunks",
           head(HOST, CHUNKED, b"expect: 100-continue") + chunked(BODY)),
    Case("expect: leave to send nothing",
         head(HOST, b"expect: 100-continue", start=b"GET /healthz HTTP/1.1"), (200,)),
    refused("expect: twice", post(b"expect: 100-continue", b"expect: 100-continue")),
    refused("expect: leave to send too much",
            head(HOST, b"expect: 100-continue", b"content-length: 2000000") + BODY, 413),
    served("expect: in HTTP/1.0",
           head(HOST, LENGTH, b"expect: x", start=b"POST /v1/completions HTTP/1.0") + BODY),
]  # fmt: skip
