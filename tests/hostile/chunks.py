"""Chunks: odd sizes, extensions, line ends and trailers (TERM.EXT, EXT.TERM, and their kin).

Source: RFC 9112, section 7.1.
"""

from tests.hostile.case import (
    BODY,
    CHUNKED,
    HOST,
    INCOMPLETE,
    OWN,
    SMUGGLED,
    Case,
    chunked,
    each_refused,
    each_served,
    head,
    refused,
)

SIZE = b"%x" % len(BODY)
HEAD = head(HOST, CHUNKED)
END = b"0\r\n\r\n"

_SIZES = {
    "hexadecimal prefix": b"0x" + SIZE,
    "plus": b"+" + SIZE,
    "minus": b"-" + SIZE,
    "minus nothing": b"-0",
    "space in front": b" " + SIZE,
    "tab in front": b"\t" + SIZE,
    "underscore": b"2_1",
    "space inside": b"2 1",
    "no digit": b"",
    "no hexadecimal digit": b"g",
    "letter behind": SIZE + b"h",
    "comma": SIZE + b"," + SIZE,
    "decimal point": SIZE + b".0",
    "quoted": b'"' + SIZE + b'"',
    "arabic digits": "٢١".encode(),
    "zero byte behind": SIZE + b"\x00",
    "vertical tab behind": SIZE + b"\x0b",
    "2^64 and some": b"%x" % (2**64 + len(BODY)),
    "2^128 and some": b"%x" % (2**128 + len(BODY)),
    "seventeen digits": b"1" + b"0" * 16,
}
_LINE_ENDS = {
    "line feed behind the size": SIZE + b"\n" + BODY + b"\r\n" + END,
    "return behind the size": SIZE + b"\r" + BODY + b"\r\n" + END,
    "two returns behind the size": SIZE + b"\r\r\n" + BODY + b"\r\n" + END,
    "line feed behind the chunk": SIZE + b"\r\n" + BODY + b"\n" + END,
    "nothing behind the chunk": SIZE + b"\r\n" + BODY + END,
    "two letters behind the chunk": SIZE + b"\r\n" + BODY + b"XX" + END,
    "return and letter behind the chunk": SIZE + b"\r\n" + BODY + b"\rX" + END,
    "line feed behind the last size": SIZE + b"\r\n" + BODY + b"\r\n0\n\r\n",
    "line feeds at the end": SIZE + b"\r\n" + BODY + b"\r\n0\n\n",
    "line feed for the empty line": SIZE + b"\r\n" + BODY + b"\r\n0\r\n\n",
    "chunk longer than its size": b"5\r\n" + BODY + b"\r\n" + END,
    "line feed in an extension": SIZE + b";\n" + BODY + b"\r\n" + END,
    "line feed in an extension's value": SIZE + b";a=b\nX\r\n" + BODY + b"\r\n" + END,
    "return in an extension": SIZE + b";a\rb\r\n" + BODY + b"\r\n" + END,
    "zero byte in an extension": SIZE + b";a\x00b\r\n" + BODY + b"\r\n" + END,
    "line end in a quoted extension": SIZE + b';a="\r\n\r\n"\r\n' + BODY + b"\r\n" + END,
    "line feed in a quoted extension": SIZE + b';a="\n"\r\n' + BODY + b"\r\n" + END,
    "line feed in the last extension": chunked(BODY)[:-5] + b"0;\n" + b"\r\n" + SMUGGLED,
}
_TRAILERS = {
    "without a colon": b"x y",
    "with a space before the colon": b"x : y",
    "folded": b"x: y\r\n z",
    "with a bare line feed": b"x: y\nz: a",
    "with a bare return": b"x: y\rz: a",
    "with a zero byte": b"x: y\x00",
    "a length": b"content-length: 5",
    "two lengths": b"content-length: 5\r\ncontent-length: 6",
    "another coding": b"transfer-encoding: chunked",
}

CASES: list[Case] = [
    *each_refused("chunk size", ((name, HEAD + size + b"\r\n" + BODY + b"\r\n" + END)
                                 for name, size in _SIZES.items())),
    *each_refused("chunk", ((name, HEAD + rest) for name, rest in _LINE_ENDS.items())),
    *each_refused("trailer", ((name, HEAD + chunked(BODY)[:-2] + line + b"\r\n\r\n")
                              for name, line in _TRAILERS.items())),
    *each_served("chunk", (
        ("one", HEAD + chunked(BODY)),
        ("each byte its own", HEAD + chunked(
            *(BODY[at : at + 1] for at in range(BODY.find(OWN))), OWN,
            *(BODY[at : at + 1] for at in range(BODY.find(OWN) + len(OWN), len(BODY))))),
        ("size in capitals", HEAD + b"1F\r\n" + BODY[:31] + b"\r\n" + chunked(BODY[31:])),
        ("zeros in front of the size", HEAD + b"000000" + SIZE + b"\r\n" + BODY + b"\r\n" + END),
        ("zeros for the last size", HEAD + chunked(BODY)[:-5] + b"000\r\n\r\n"),
        ("a trailer that is dropped", HEAD + chunked(BODY)[:-2] + b"x-sum: 1\r\n\r\n"),
        ("a trailer that names the class",
         HEAD + chunked(BODY)[:-2] + b"x-sla-class: nonsense\r\n\r\n"),
    )),
    refused("chunk: larger than is taken", HEAD + b"200000\r\n" + BODY, INCOMPLETE),
    refused("chunk: larger than fits", HEAD + b"fffffffffffffff0\r\n" + BODY, INCOMPLETE),
    refused("chunk: ends in the middle", HEAD + b"99\r\n" + BODY, INCOMPLETE),
    refused("chunk: no last one", HEAD + SIZE + b"\r\n" + BODY + b"\r\n", INCOMPLETE),
    refused("chunk: no line behind the last one", HEAD + chunked(BODY)[:-2], INCOMPLETE),
    refused("chunk: an extension without an end", HEAD + SIZE + b";" + b"a" * 1_000_000),
    refused("chunk: an extension for each byte",
            HEAD + b"".join(b"1;%b\r\n \r\n" % (b"a" * 500) for _ in range(4000)) + chunked(BODY)),
    refused("trailer: without an end", HEAD + chunked(BODY)[:-2] + b"x: " + b"y" * 1_000_000),
    Case("chunk: the last one comes early, and a request behind",
         HEAD + END + SMUGGLED, (400, 200), 1),
    Case("chunk: a request behind", HEAD + chunked(BODY) + SMUGGLED, (200, 200), 2),
    refused("chunk: a request inside", HEAD + chunked(SMUGGLED)),
    Case("chunk: more behind the end", HEAD + chunked(BODY) + b"X", (200, 400), 1),
    Case("chunk: a second end", HEAD + chunked(BODY) + END, (200, 400), 1),
]  # fmt: skip
