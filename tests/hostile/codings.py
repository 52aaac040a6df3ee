"""Transfer codings that one parser takes for `chunked` and another does not (TE.TE, TE.0).

Each comes alone, in front of a good one, behind it, and beside a length.
Source: RFC 9112, sections 6.1 and 7.
"""

from collections.abc import Iterator

from tests.hostile.case import (
    BODY,
    CHUNKED,
    HOST,
    LENGTH,
    SMUGGLED,
    Case,
    chunked,
    each_refused,
    each_served,
    head,
    refused,
)

_OBFUSCATED = {
    "another word": b"transfer-encoding: xchunked",
    "a longer word": b"transfer-encoding: chunkedx",
    "nonsense": b"transfer-encoding: cow",
    "identity": b"transfer-encoding: identity",
    "gzip first": b"transfer-encoding: gzip, chunked",
    "identity first": b"transfer-encoding: identity, chunked",
    "identity last": b"transfer-encoding: chunked, identity",
    "twice in a list": b"transfer-encoding: chunked, chunked",
    "an empty member first": b"transfer-encoding: ,chunked",
    "an empty member last": b"transfer-encoding: chunked,",
    "a parameter": b"transfer-encoding: chunked;q=1",
    "a semicolon": b"transfer-encoding: chunked;",
    "spaces behind": b"transfer-encoding: chunked  ",
    "quoted": b'transfer-encoding: "chunked"',
    "in single quotes": b"transfer-encoding: 'chunked'",
    "empty": b"transfer-encoding:",
    "space before the colon": b"transfer-encoding : chunked",
    "tab before the colon": b"transfer-encoding\t: chunked",
    "space before the name": b" transfer-encoding: chunked",
    "tab before the name": b"\ttransfer-encoding: chunked",
    "vertical tab before the value": b"transfer-encoding: \x0bchunked",
    "form feed before the value": b"transfer-encoding: \x0cchunked",
    "vertical tab behind the value": b"transfer-encoding: chunked\x0b",
    "zero byte behind the value": b"transfer-encoding: chunked\x00",
    "zero byte inside": b"transfer-encoding: chun\x00ked",
    "backspace": b"transfer-encoding: chunkedx\x08",
    "delete": b"transfer-encoding: chunked\x7f",
    "no-break space": b"transfer-encoding: \xa0chunked",
    "long s in the name": "tran\u017ffer-encoding: chunked\x00".encode(),
    "kelvin sign": "transfer-encoding: chun\u212aed".encode(),
    "value on the next line": b"transfer-encoding:\r\n chunked",
    "value on the next line behind a tab": b"transfer-encoding:\r\n\tchunked",
    "second half on the next line": b"transfer-encoding: chun\r\n ked",
    "line feed before the value": b"transfer-encoding:\nchunked",
    "line feed before the colon": b"transfer-encoding\n: chunked",
    "return before the value": b"transfer-encoding:\rchunked",
    "return behind the value": b"transfer-encoding: chunked\r",
    "behind a bare line feed": b"x: y\ntransfer-encoding: chunked",
    "behind a bare return": b"x: y\rtransfer-encoding: chunked",
    "behind two returns": b"x: y\r\rtransfer-encoding: chunked",
    "behind a line with a space": b"x: y\r\n \r\ntransfer-encoding: chunked, x",
    "zero byte behind the name": b"transfer-encoding\x00: chunked",
    "colon twice": b"transfer-encoding:: chunked",
    "equals for a colon": b"transfer-encoding=chunked",
    "no colon": b"transfer-encoding chunked",
}
_HARMLESS = {
    "underscore": b"transfer_encoding: chunked",
    "dot": b"transfer.encoding: chunked",
    "no hyphen": b"transferencoding: chunked",
    "percent": b"transfer-%65ncoding: chunked",
    "another header's": b"te: chunked",
    "another header's value": b"x: transfer-encoding: chunked",
}


def _tricks() -> Iterator[tuple[str, bytes]]:
    """Yield each obfuscation in each company; the length leaves a request behind it."""
    rest = chunked(BODY) + SMUGGLED
    for name, line in _OBFUSCATED.items():
        yield f"{name}, alone", head(HOST, line) + rest
        yield f"{name}, beside a length", head(HOST, b"content-length: 4", line) + rest
    for name in ("another word", "identity", "space before the name", "vertical tab before the value",
                 "value on the next line", "empty"):  # fmt: skip
        line = _OBFUSCATED[name]
        yield f"{name}, behind a good one", head(HOST, CHUNKED, line) + rest
        yield f"{name}, before a good one", head(HOST, line, CHUNKED) + rest


CASES: list[Case] = [
    *each_refused("coding", _tricks()),
    *each_served(
        "a coding's namesake",
        ((name, head(HOST, LENGTH, line) + BODY) for name, line in _HARMLESS.items()),
    ),
    *each_served(
        "coding",
        (
            ("in capitals", head(HOST, CHUNKED.upper()) + chunked(BODY)),
            ("in mixed case", head(HOST, b"Transfer-Encoding: ChUnKeD") + chunked(BODY)),
            ("spaces in front", head(HOST, b"transfer-encoding:   chunked") + chunked(BODY)),
            ("a tab in front", head(HOST, b"transfer-encoding:\tchunked") + chunked(BODY)),
        ),
    ),
    *each_refused(
        "two codings",
        (
            ("the same", head(HOST, CHUNKED, CHUNKED) + chunked(BODY)),
            ("in two cases", head(HOST, CHUNKED, CHUNKED.title()) + chunked(BODY)),
            ("and a length", head(HOST, CHUNKED, LENGTH, CHUNKED) + chunked(BODY)),
        ),
    ),
    refused(
        "coding: in HTTP/1.0",
        head(HOST, CHUNKED, start=b"POST /v1/completions HTTP/1.0") + chunked(BODY),
    ),
    Case(
        "coding: of a GET that has a request for a body",
        head(HOST, CHUNKED, start=b"GET /healthz HTTP/1.1") + chunked(SMUGGLED),
        (200,),
    ),
]
