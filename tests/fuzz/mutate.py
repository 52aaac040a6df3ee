"""Makes wrong bytes of right ones: flips, cuts, splices, doubled headers, odd line ends."""

from collections.abc import Callable, Sequence
from random import Random

TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b"\x7f", b"\xff", b":", b",",
    b";", b"0", b"-1", b"+5", b"0x5", b"99999999999999999999", b"1e9", b"\r\n ", b"\r\n\t",
    b"content-length: 0\r\n", b"Content-Length: 5\r\n", b"content-length : 5\r\n",
    b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"transfer-encoding:\x0bchunked\r\n", b"connection: close\r\n", b"Connection: Upgrade\r\n",
    b"upgrade: h2c\r\n", b"expect: 100-continue\r\n", b"host: other\r\n", b"HTTP/1.0", b"HTTP/2.0",
    b"HTTP/0.9", b"0\r\n\r\n", b"5\r\nabcde\r\n", b"ffffffffffffffff\r\n", b"1;x=y\r\n",
    b'"', b"\\", b"{", b"}", b"[" * 300, b"\\ud800", b"null", b"true", b"1e400", b'{"model":"m"}',
    b"x-sla-ttft-ms: nan\r\n", b"x-sla-class: \xe9\r\n", b"x" * 3000,
)  # fmt: skip
"""Pieces that parsers disagree about."""

Mutation = Callable[[Random, bytearray, Sequence[bytes]], None]


def _flip(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _delete(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 1, 2, 5, 20))]


def _cut(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def _double(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.choice((1, 2, 10, 50))]


def _insert(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.choice(TOKENS)


def _insert_line(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Put a piece where a header line begins."""
    at = data.find(b"\r\n", rng.randrange(len(data)))
    if at >= 0:
        data[at + 2 : at + 2] = rng.choice(TOKENS)


def _double_line(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = data.find(b"\r\n", rng.randrange(len(data)))
    end = data.find(b"\r\n", start + 2)
    if 0 <= start < end:
        data[end:end] = data[start:end]


def _other_line_ends(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    other = rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r"))
    data[:] = data.replace(b"\r\n", other, rng.choice((1, 2, -1)))


def _other_case(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    data[at : at + 20] = data[at : at + 20].swapcase()


def _splice(rng: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    other = rng.choice(corpus)
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def _append(rng: Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    data += rng.choice(corpus)


MUTATIONS: tuple[Mutation, ...] = (
    _flip, _set, _delete, _cut, _double, _insert, _insert_line, _insert_line, _double_line,
    _other_line_ends, _other_case, _splice, _append,
)  # fmt: skip


def mutated(rng: Random, corpus: Sequence[bytes]) -> bytes:
    """Return one item of the corpus after a few mutations; now and then after none."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        if data:
            rng.choice(MUTATIONS)(rng, data, corpus)
    return bytes(data)


def cut(rng: Random, data: bytes) -> list[bytes]:
    """Return the data in one piece, mostly, or in several."""
    if rng.random() < 0.6 or not data:
        return [data]
    if rng.random() < 0.1:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(rng.randrange(len(data)) for _ in range(rng.randint(1, 4)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
