"""Bodies: depth, numbers, text and codings that cost more than they should, or are read two ways.

Source: RFC 8259; RFC 9110, section 8.4.
"""

import gzip
import zlib

from tests.hostile.case import (
    BODY,
    CHUNKED,
    EVIL,
    HOST,
    OWN,
    Case,
    chunked,
    each_refused,
    each_served,
    head,
    post,
    refused,
)

DEPTH = 100_000


def with_field(value: bytes) -> bytes:
    """Return a body with one more field of this value."""
    return BODY[:-1] + b',"x":' + value + b"}"


_NO_JSON = {
    "empty": b"",
    "white space": b"   ",
    "cut": BODY[:-1],
    "two documents": BODY + BODY,
    "letters behind": BODY + b"x",
    "zero byte behind": BODY + b"\x00",
    "byte order mark": b"\xef\xbb\xbf" + BODY,
    "16 bits a letter": BODY.decode().encode("utf-16-le"),
    "32 bits a letter": BODY.decode().encode("utf-32"),
    "invalid UTF-8": BODY.replace(b'"m"', b'"\xff"'),
    "overlong UTF-8": BODY.replace(b'"m"', b'"\xc0\xae"'),
    "surrogates in UTF-8": BODY.replace(b'"m"', b'"\xed\xa0\x80"'),
    "a lone surrogate": BODY.replace(b'"m"', b'"\\ud800"'),
    "single quotes": BODY.replace(b'"', b"'"),
    "a comment": b"/* x */" + BODY,
    "a comma too many": BODY[:-1] + b",}",
    "no quotes": BODY.replace(b'"model"', b"model"),
    "not a number": with_field(b"NaN"),
    "infinity": with_field(b"Infinity"),
    "minus infinity": with_field(b"-Infinity"),
    "a hexadecimal number": with_field(b"0x10"),
    "an octal number": with_field(b"010"),
    "a plus": with_field(b"+1"),
    "a number without digits": with_field(b"-"),
    "a number cut behind its point": with_field(b"1."),
    "a control character in a string": with_field(b'"\x01"'),
    "a line end in a string": with_field(b'"a\nb"'),
    "a wrong escape": with_field(b'"\\x41"'),
    "arrays without an end": b"[" * DEPTH,
    "objects without an end": b'{"a":' * DEPTH,
    "arrays too deep": with_field(b"[" * DEPTH + b"]" * DEPTH),
    "objects too deep": with_field(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH),
    "a long integer": with_field(b"9" * 5000),
    "a long negative integer": with_field(b"-" + b"9" * 5000),
    "a form": b"model=m&prompt=own-0000",
    "XML": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00",
}
_NOT_A_REQUEST = {
    "an array": b"[" + BODY + b"]",
    "a number": b"1",
    "a string": b'"model"',
    "null": b"null",
    "true": b"true",
    "an empty object": b"{}",
    "model is a number": BODY.replace(b'"m"', b"1"),
    "model is null": BODY.replace(b'"m"', b"null"),
    "model is an array": BODY.replace(b'"m"', b'["m"]'),
    "model is an object": BODY.replace(b'"m"', b'{"m":1}'),
    "model is empty": BODY.replace(b'"m"', b'""'),
    "prompt is an object": BODY.replace(b'"%b"' % OWN, b"{}"),
    "stream is a string": with_field(b"1").replace(b'"x"', b'"stream"').replace(b":1}", b':"no"}'),
    "tokens is huge": with_field(b"9" * 400).replace(b'"x"', b'"max_tokens"'),
    "tokens is a fraction": with_field(b"1.5").replace(b'"x"', b'"max_tokens"'),
}
_UNHARMED = {
    "tokens is below zero": with_field(b"-1").replace(b'"x"', b'"max_tokens"'),
    "a long fraction": with_field(b"0." + b"1" * 5000),
    "a large exponent": with_field(b"1e308"),
    "a small exponent": with_field(b"1e-99999"),
    "minus nothing": with_field(b"-0"),
    "2^53 and one": with_field(b"9007199254740993"),
    "2^64": with_field(b"18446744073709551616"),
    "escaped zero": with_field(b'"\\u0000"'),
    "escaped line ends": with_field(b'"\\r\\n\\r\\nHTTP/1.1 200 OK"'),
    "an escaped name": BODY.replace(b'"model"', b'"\\u006dodel"'),
    "a name twice": b'{"model":"other",' + BODY[1:],
    "a prompt twice": b'{"prompt":"%b",' % EVIL + BODY[1:],
    "a name of a prototype": with_field(b'{"__proto__":{"admin":true},"constructor":1}'),
    "many names": with_field(b"{%b}" % b",".join(b'"k%d":0' % each for each in range(20_000))),
    "names that are alike": with_field(b"{%b}" % b",".join(b'"k":0' for _ in range(20_000))),
    "arrays a hundred deep": with_field(b"[" * 100 + b"]" * 100),
    "a long string": with_field(b'"%b"' % (b"a" * 500_000)),
    "spaces": b" \r\n\t" + BODY + b"\r\n",
}
_CODINGS = {
    "gzip": (b"gzip", gzip.compress(BODY)),
    "x-gzip": (b"x-gzip", gzip.compress(BODY)),
    "deflate": (b"deflate", zlib.compress(BODY)),
    "brotli": (b"br", b"\x0b\x01\x80ab\x03"),
    "zstd": (b"zstd", b"\x28\xb5\x2f\xfd\x00\x00\x01\x00\x00"),
    "compress": (b"compress", b"\x1f\x9d\x90"),
    "in capitals": (b"GZIP", gzip.compress(BODY)),
    "twice": (b"gzip, gzip", gzip.compress(gzip.compress(BODY))),
    "identity and another": (b"identity, gzip", gzip.compress(BODY)),
    "a bomb": (b"gzip", gzip.compress(b" " * 20_000_000 + BODY)),
    "unknown": (b"cow", BODY),
    "said of plain text": (b"gzip", BODY),
}
_NOT_JSON = (b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"text/xml",
             b"application/xml", b"text/html", b"image/png")  # fmt: skip

CASES: list[Case] = [
    *each_refused("no JSON", ((name, post(body=body)) for name, body in _NO_JSON.items())),
    *each_refused("no request", ((name, post(body=body)) for name, body in _NOT_A_REQUEST.items())),
    *each_served("JSON", ((name, post(body=body)) for name, body in _UNHARMED.items())),
    *each_refused("body's coding", ((name, post(b"content-encoding: " + coding, body=body))
                                    for name, (coding, body) in _CODINGS.items()), 415),
    *each_refused("body's type", ((each.decode(), post(b"content-type: " + each))
                                  for each in _NOT_JSON), 415),
    *each_served("body's coding", (
        ("identity", post(b"content-encoding: identity")),
        ("no value", post(b"content-encoding:")),
    )),
    refused("body's coding: compressed chunks", head(HOST, CHUNKED, b"content-encoding: gzip")
            + chunked(gzip.compress(BODY)), 415),
    refused("body's coding: compressed, and not said so", post(body=gzip.compress(BODY))),
    refused("body: too large", post(body=BODY + b" " * (1 << 20)), 413),
    refused("body: too large in chunks", head(HOST, CHUNKED)
            + chunked(BODY, *(b" " * 65536 for _ in range(17))), 413),
]  # fmt: skip
