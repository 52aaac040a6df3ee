"""Text that costs nothing: tokens counted by a rule, answers made of a fixed vocabulary.

Token i of an answer follows from the prompt alone, so any two engines give the same continuation,
and one that took over in the middle would be noticed.
"""

import re
from math import log
from zlib import crc32

_TOKEN = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s")

_SPOKEN = (
    "the of and to in is that it was for on are as with his they at be this from have or by one "
    "had not but what all were when we there can an your which their said if do will each about "
    "how up out them then she many some so these would other into has more her two like him see "
    "time could no make than first been its who now people my made over did down only way find "
    "use may water long little very after words called just where most know get through back "
    "much go good new write our me man too any day same right look think also around another "
    "came come work three must because does part even place well such here take why help put "
    "different away again off went old number great tell men say small every found still between "
    "name should home big give air line set own under read last never us left end along while "
    "might next sound below saw something thought both few those always show large often together"
)
WORDS = tuple(_SPOKEN.split())
"""Words of an answer, each a token with the space before it."""


def tokens(text: str) -> list[str]:
    """Cut text into tokens: about four characters each in English."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """Return how many tokens a text has, at least 1."""
    return max(1, len(_TOKEN.findall(text)))


def token_ids(text: str) -> list[int]:
    """Return ids that depend on each token's text alone."""
    return [crc32(token.encode()) % 100_000 for token in tokens(text)]


def word(seed: int, index: int) -> str:
    """Return token `index` of the answer to the prompt with this seed, with its space."""
    mixed = (seed ^ (index * 0x9E3779B1)) & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 15) * 0x85EBCA6B & 0xFFFFFFFF
    return " " + WORDS[(mixed ^ mixed >> 13) % len(WORDS)]


def answer(seed: int, length: int) -> str:
    """Return the first `length` tokens of an answer."""
    return "".join(word(seed, index) for index in range(length))


def natural_length(seed: int, mean: float) -> int:
    """Return after how many tokens the model would stop: geometric around `mean`, by the seed."""
    share = (seed * 0x9E3779B1 & 0xFFFFFFFF) / 2**32
    length, left = 1, 1.0 - share
    if mean > 1.0:
        length = 1 + int(log(max(left, 1e-9)) / log(1.0 - 1.0 / mean))
    return length


def prefix_keys(data: bytes, block_bytes: int) -> tuple[int, ...]:
    """Return ids of the leading blocks of a prompt: equal where all bytes up to there are."""
    keys: list[int] = []
    key = 0
    for start in range(0, len(data) - block_bytes + 1, block_bytes):
        key = crc32(data[start : start + block_bytes], key)
        keys.append(key)
    return tuple(keys)
