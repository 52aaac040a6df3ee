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
DOUBTFUL_FALL: Final = 0.06
"""The same, where most of the tokens were another's, of whose prompt much may have been read before."""
UNKNOWN_S: Final = 0.001
"""For each token, s, where nothing was seen yet."""
LONG_S: Final = 1.0
"""Reading that explains why nobody gets tokens meanwhile takes so much longer than"""
SMALLER: Final = 3
"""what took least, of so many sizes smaller; or, where no such is known, as long in all, of"""
LARGE_TOKENS: Final = 512
"""prompts so large."""
FAMILIAR: Final = 4.0
"""More than so many times the most tokens that were ever seen are not known of."""


class Reading:
    """Recent peaks of the time to first token, by how many prompt tokens were ahead."""

    __slots__ = ("_largest_tokens", "_took_s")

    def __init__(self) -> None:
        self._took_s = [0.0] * SIZES
        """By size; 0 where none was seen."""
        self._largest_tokens = 0
        """The most tokens that a time is known of."""

    @property
    def is_known(self) -> bool:
        """Whether anything was seen."""
        return self._largest_tokens > 0

    def saw(self, ahead_tokens: int, own_tokens: int, took_s: float) -> None:
        """Take in one time to first token.

        `ahead_tokens`: to be read by then, of them `own_tokens` of the request itself.
        """
        is_sure = 2 * own_tokens >= ahead_tokens
        if not is_sure and ahead_tokens > self._largest_tokens:
            return
        size = _size(ahead_tokens)
        before_s = self._took_s[size]
        if took_s >= before_s:
            if is_sure or took_s > self.expected_s(ahead_tokens):
                self._took_s[size] = took_s
        else:
            self._took_s[size] += (FALL if is_sure else DOUBTFUL_FALL) * (took_s - before_s)
        self._largest_tokens = max(self._largest_tokens, ahead_tokens)

    def expected_s(self, tokens: int) -> float:
        """Return how long so many may take, s.

        Of a size that was not seen: as long as the next larger one that was; beyond the largest,
        in proportion to it.
        """
        if not self._largest_tokens:
            return tokens * UNKNOWN_S
        for took_s in self._took_s[_size(tokens) :]:
            if took_s:
                return took_s
        largest_s = self._took_s[_size(self._largest_tokens)]
        return largest_s * tokens / self._largest_tokens

    def is_familiar(self, tokens: int) -> bool:
        """Return whether what is expected rests on anything like it."""
        return tokens <= FAMILIAR * self._largest_tokens

    def long_s(self, tokens: int) -> float:
        """Return what `expected_s` does where reading is what takes the time; else 0.

        What a first token took is otherwise mostly the steps of others, or the same for any prompt.
        """
        expected_s = self.expected_s(tokens)
        if expected_s < LONG_S:
            return 0.0
        if self._largest_tokens and not self.is_familiar(tokens):
            return expected_s
        known = [took_s for took_s in self._took_s[: max(0, _size(tokens) - SMALLER + 1)] if took_s]
        if known:
            is_long = expected_s - min(known) >= LONG_S
        else:
            is_long = expected_s >= LONG_S and tokens >= LARGE_TOKENS
        return expected_s if is_long else 0.0


def _size(tokens: int) -> int:
    return min(tokens.bit_length(), SIZES - 1)
