"""All hostile requests, by theme."""

from tests.hostile import bodies, chunks, codings, connections, lengths, lines, targets
from tests.hostile.case import Case

CASES: list[Case] = [
    *lengths.CASES,
    *codings.CASES,
    *chunks.CASES,
    *lines.CASES,
    *targets.CASES,
    *bodies.CASES,
    *connections.CASES,
]
