"""How long an endpoint may take to read prompts, going by what it took lately for as many tokens.

Engines read at rates that lie a thousandfold apart: a prompt that an accelerator reads in a tenth of
a second keeps an engine on a CPU busy for a minute, in which it gives nobody a token. So each
endpoint is held to its own times. They are kept by size, each size twice the one before: short
prompts take what a step takes, whatever their length, and tell little of long ones.
"""

from typing import Final

SIZES: Final = 24
"""Powers of two of tokens that are told apart; more are taken for the largest."""
FALL: Final = 0.25
"""Of the way from a remembered time to a shorter one that came after it."""
LONG_S: Final = 1.0
"""Reading that explains why nobody gets tokens meanwhile takes so much longer than"""
SMALLER: Final = 3
"""what took least, of so many sizes smaller; or, where no such is known, as long in all, of"""
LARGE_TOKENS: Final = 512
"""prompts so large."""
FAMILIAR: Final = 4.0
"""More than so many times the most tokens that were ever seen are taken for long."""


class Reading:
    """Recent peaks of the time to first token, by how many prompt tokens were ahead."""

    __slots__ = ("_took_s", "largest_tokens")

    def __init__(self) -> None:
        self._took_s = [0.0] * SIZES
        """By size; 0 where none was seen."""
        self.largest_tokens = 0
        """The most tokens that a time is known of."""

    def saw(self, tokens: int, took_s: float) -> None:
        """Take in one time to first token, with so many prompt tokens to be read by then."""
        size = _size(tokens)
        before_s = self._took_s[size]
        if took_s >= before_s:
            self._took_s[size] = took_s
        else:
            self._took_s[size] = before_s + FALL * (took_s - before_s)
        self.largest_tokens = max(self.largest_tokens, tokens)

    def expected_s(self, tokens: int) -> float | None:
        """Return how long so many may take, s; None before anything was seen.

        Of a size that was not seen: as long as the next larger one that was; beyond the largest,
        in proportion to it.
        """
        if not self.largest_tokens:
            return None
        for took_s in self._took_s[_size(tokens) :]:
            if took_s:
                return took_s
        largest_s = self._took_s[_size(self.largest_tokens)]
        return largest_s * tokens / self.largest_tokens

    def long_s(self, tokens: int) -> float:
        """Return what `expected_s` does where reading is what takes the time; else 0.

        What a first token took is otherwise mostly the steps of others, or the same for any prompt.
        """
        expected_s = self.expected_s(tokens)
        if expected_s is None:
            return 0.0
        if tokens > FAMILIAR * self.largest_tokens:
            return expected_s
        known = [took_s for took_s in self._took_s[: max(0, _size(tokens) - SMALLER + 1)] if took_s]
        if known:
            is_long = expected_s - min(known) >= LONG_S
        else:
            is_long = expected_s >= LONG_S and tokens >= LARGE_TOKENS
        return expected_s if is_long else 0.0


def _size(tokens: int) -> int:
    return min(tokens.bit_length(), SIZES - 1)
