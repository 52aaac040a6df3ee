"""Text of a wanted length in tokens, cheap to make and never the same twice."""

from random import Random
from typing import Final

from router.workload.offers import PREFIX_TOKENS, Offer

BYTES_A_TOKEN: Final = 4
"""A space and three letters: one token to the emulated engines, and about one to most others."""
_POOL_TOKENS: Final = 1 << 17
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


class Prompts:
    """Cuts prompts out of one long row of random words."""

    def __init__(self, salt: str | int) -> None:
        """Another `salt` gives other text: what an engine has seen before, it has in its cache."""
        rng = Random(f"{salt}/prompts")
        words = ["".join(rng.choices(_LETTERS, k=3)) for _ in range(4096)]
        self._pool = "".join(f" {word}" for word in rng.choices(words, k=_POOL_TOKENS))
        self._rng = rng

    def text(self, offer: Offer) -> str:
        """Return a prompt as long as the offer says; its prefix blocks are those of their ids."""
        shared = "".join(self._block(each) for each in offer.prefix)[
            : BYTES_A_TOKEN * offer.prompt_tokens
        ]
        left = offer.prompt_tokens - len(shared) // BYTES_A_TOKEN
        return shared + self._cut(self._rng, left)

    def _block(self, block_id: int) -> str:
        return self._cut(Random(f"block/{block_id}"), PREFIX_TOKENS)

    def _cut(self, rng: Random, tokens: int) -> str:
        parts = []
        while tokens > 0:
            length = min(tokens, _POOL_TOKENS // 2)
            at = int(rng.random() * (_POOL_TOKENS - length + 1))
            parts.append(self._pool[BYTES_A_TOKEN * at : BYTES_A_TOKEN * (at + length)])
            tokens -= length
        return "".join(parts)
