"""Lengths: missing, doubled, odd, huge, and in the company of chunks (CL.0, CL.CL, CL.TE, TE.CL).

Source: RFC 9112, section 6.3; RFC 9110, section 8.6.
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
    each_refused,
    each_served,
    head,
    post,
    refused,
    served,
)

SIZE = b"%d" % len(BODY)

_ODD = {
    "plus": b"+" + SIZE,
    "minus": b"-" + SIZE,
    "minus nothing": b"-0",
    "hexadecimal": b"0x%x" % len(BODY),
    "hexadecimal digits": b"%xh" % len(BODY),
    "octal": b"0o41",
    "space inside": b"3 3",
    "tab inside": b"3\t3",
    "underscore inside": b"3_3",
    "decimal point": SIZE + b".0",
    "decimal comma": SIZE + b",0",
    "exponent": b"33e0",
    "list of the same": SIZE + b", " + SIZE,
    "list without a space": SIZE + b"," + SIZE,
    "list of two": SIZE + b", 0",
    "list with an empty end": SIZE + b",",
    "list with an empty start": b"," + SIZE,
    "semicolon": SIZE + b";",
    "parameter": SIZE + b";q=1",
    "quoted": b'"' + SIZE + b'"',
    "empty": b"",
    "word": b"many",
    "infinity": b"inf",
    "not a number": b"NaN",
    "arabic digits": "٣٣".encode(),
    "full-width digits": "\uff13\uff13".encode(),
    "superscript digit": b"3\xb3",
    "spaces behind": SIZE + b"  ",
    "trailing letter": SIZE + b"a",
    "trailing vertical tab": SIZE + b"\x0b",
    "leading vertical tab": b"\x0b" + SIZE,
    "leading form feed": b"\x0c" + SIZE,
    "trailing zero byte": SIZE + b"\x00",
    "leading zero byte": b"\x00" + SIZE,
    "no-break space": b"\xa0" + SIZE,
    "2^64 and some": b"%d" % (2**64 + len(BODY)),
    "2^128 and some": b"%d" % (2**128 + len(BODY)),
    "five hundred digits": b"9" * 500,
}
_TOO_LARGE = {
    "2^31": b"%d" % 2**31,
    "2^32 and some": b"%d" % (2**32 + len(BODY)),
    "2^63": b"%d" % 2**63,
    "2^64 less one": b"%d" % (2**64 - 1),
    "a byte too many": b"%d" % (1 << 20 | 1),
}

_NAMED_ODDLY = {
    "space before the colon": b"content-length : " + SIZE,
    "tab before the colon": b"content-length\t: " + SIZE,
    "space before the name": b" content-length: " + SIZE,
    "zero byte behind the name": b"content-length\x00: " + SIZE,
    "vertical tab before the name": b"\x0bcontent-length: " + SIZE,
    "value on the next line": b"content-length:\r\n " + SIZE,
    "line feed before the value": b"content-length:\n" + SIZE,
    "return before the value": b"content-length:\r" + SIZE,
    "no colon": b"content-length " + SIZE,
    "behind a bare line feed": b"x: y\ncontent-length: " + SIZE,
    "behind a bare return": b"x: y\rcontent-length: " + SIZE,
    "in parentheses": b"(content-length): " + SIZE,
}

CASES: list[Case] = [
    *each_refused("length", ((name, head(HOST, b"content-length: " + value) + BODY)
                             for name, value in _ODD.items())),
    *each_refused("length", ((name, head(HOST, b"content-length: " + value) + BODY)
                             for name, value in _TOO_LARGE.items()), 413),
    *each_refused("length named oddly", ((name, head(HOST, line) + BODY)
                                         for name, line in _NAMED_ODDLY.items())),
    *each_refused("length named oddly, beside a good one", (
        (name, head(HOST, LENGTH, line) + BODY) for name, line in _NAMED_ODDLY.items())),
    *each_refused("two lengths", (
        ("the same", head(HOST, LENGTH, LENGTH) + BODY),
        ("the same in another case", head(HOST, LENGTH, LENGTH.title()) + BODY),
        ("the second is 0", head(HOST, LENGTH, b"content-length: 0") + BODY),
        ("the first is 0", head(HOST, b"content-length: 0", LENGTH) + BODY),
        ("apart from each other", head(LENGTH, HOST, b"x: y", b"content-length: 3") + BODY),
        ("the second is odd", head(HOST, LENGTH, b"content-length: +3") + BODY),
        ("the second is empty", head(HOST, LENGTH, b"content-length:") + BODY),
        ("three", head(HOST, LENGTH, LENGTH, LENGTH) + BODY),
        ("the second covers a request", head(HOST, LENGTH, b"content-length: %d" % (
            len(BODY) + len(SMUGGLED))) + BODY + SMUGGLED),
    )),
    *each_refused("length and chunks", (
        ("CL.TE", head(HOST, b"content-length: 5", CHUNKED) + b"0\r\n\r\n" + SMUGGLED),
        ("TE.CL", head(HOST, CHUNKED, b"content-length: 4") + chunked(SMUGGLED)),
        ("that agree", head(HOST, LENGTH, CHUNKED) + chunked(BODY)),
        ("length 0", head(HOST, b"content-length: 0", CHUNKED) + chunked(BODY)),
        ("length first", head(HOST, LENGTH, CHUNKED) + BODY),
        ("chunks in capitals", head(HOST, LENGTH, b"TRANSFER-ENCODING: CHUNKED") + chunked(BODY)),
        ("in a GET", head(HOST, b"content-length: 5", CHUNKED, start=b"GET /healthz HTTP/1.1")
         + b"0\r\n\r\n" + SMUGGLED),
        ("length is odd", head(HOST, b"content-length: x", CHUNKED) + chunked(BODY)),
    )),
    *each_served("length", (
        ("as it should be", post()),
        ("zeros in front", head(HOST, b"content-length: 000%b" % SIZE) + BODY),
        ("spaces in front", head(HOST, b"content-length:   " + SIZE) + BODY),
        ("a tab in front", head(HOST, b"content-length:\t" + SIZE) + BODY),
        ("no space", head(HOST, b"content-length:" + SIZE) + BODY),
        ("name in capitals", head(HOST, LENGTH.upper()) + BODY),
        ("a namesake with an underscore", head(HOST, LENGTH, b"content_length: 0") + BODY),
        ("a namesake with a dot", head(HOST, LENGTH, b"content.length: 0") + BODY),
    )),
    Case("length: 0, and a request behind", head(HOST, b"content-length: 0") + SMUGGLED,
         (400, 200), 1),
    Case("length: none, and a body behind", head(HOST) + BODY, (400, 400)),
    Case("length: none, and a request behind", head(HOST) + SMUGGLED, (400, 200), 1),
    Case("length: too short", head(HOST, b"content-length: 4") + BODY, (400, 400)),
    Case("length: a namesake alone", head(HOST, b"content_length: 99") + SMUGGLED, (400, 200), 1),
    refused("length: too long", head(HOST, b"content-length: 99") + BODY, INCOMPLETE),
    refused("length: covers what looks like a request", post(body=SMUGGLED)),
    served("length: two requests, each its own", post() + SMUGGLED, 2),
    Case("length: of a GET that has a request for a body",
         head(HOST, b"content-length: %d" % len(SMUGGLED), start=b"GET /healthz HTTP/1.1")
         + SMUGGLED, (200,)),
    Case("length: of a HEAD that has a request for a body",
         head(HOST, b"content-length: %d" % len(SMUGGLED), start=b"HEAD /healthz HTTP/1.1")
         + SMUGGLED, (200,)),
    Case("length: of a DELETE that has a request for a body",
         head(HOST, b"content-length: %d" % len(SMUGGLED), start=b"DELETE /healthz HTTP/1.1")
         + SMUGGLED, (405,)),
    Case("length: of an OPTIONS that has a request for a body",
         head(HOST, b"content-length: %d" % len(SMUGGLED), start=b"OPTIONS /healthz HTTP/1.1")
         + SMUGGLED, (405,)),
]  # fmt: skip
