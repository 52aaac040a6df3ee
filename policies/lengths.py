"""Learned lengths: prompt tokens per byte, and how long answers tend to be.

Nothing here reads a prompt: an estimate comes from its size and from what earlier answers of the
same kind turned out to be. Every table is bounded and forgets what was not confirmed for longest.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import Final, TypeVar

from policies.facts import RequestFacts, SlaClass

FIRST_TOKENS_PER_BYTE: Final = 0.27
"""English text and chat templates with the tokenizers of current models; a guess to start from."""
LEAST_TOKENS_PER_BYTE: Final = 0.05
MOST_TOKENS_PER_BYTE: Final = 1.0
TEACHES_FROM_BYTES: Final = 256
"""Of a shorter prompt the chat template is too large a part to learn a ratio from."""
STEP: Final = 0.05
"""Weight of one observation in the ratio."""

PRIOR_P50_TOKENS: Final = 130.0
PRIOR_P90_TOKENS: Final = 430.0
"""Output lengths of the Azure LLM inference trace 2023, conversation."""
PRIOR_WEIGHT: Final = 8.0
"""Observations that the prior is worth."""
RESERVOIR: Final = 256
"""Last answers kept per kind of request."""

SHORT_PROMPT_TOKENS: Final = 512
MEDIUM_PROMPT_TOKENS: Final = 4096

Key = TypeVar("Key")
Row = TypeVar("Row")


class PromptRatio:
    """Prompt tokens per UTF-8 byte of one tenant's prompts to one model."""

    __slots__ = ("samples", "tokens_per_byte")

    def __init__(self) -> None:
        self.tokens_per_byte = FIRST_TOKENS_PER_BYTE
        self.samples = 0
        """Prompts learned from: 0 is a guess."""

    def learn(self, tokens: int, size_bytes: int) -> None:
        """Move towards one prompt whose length the engine told."""
        seen = min(MOST_TOKENS_PER_BYTE, max(LEAST_TOKENS_PER_BYTE, tokens / size_bytes))
        self.tokens_per_byte += STEP * (seen - self.tokens_per_byte)
        self.samples += 1


class OutputLengths:
    """Lengths of the last answers of one kind, as quantiles that start from the prior."""

    __slots__ = ("_next", "_recent", "_sorted", "p50_tokens", "p90_tokens", "samples")

    def __init__(self) -> None:
        self.p50_tokens = PRIOR_P50_TOKENS
        self.p90_tokens = PRIOR_P90_TOKENS
        self.samples = 0
        """Answers that the quantiles rest on, at most `RESERVOIR`: 0 is a guess."""
        self._recent: list[int] = []
        self._next = 0
        self._sorted: list[int] = []

    def learn(self, tokens: int) -> None:
        """Take in one answer; the oldest makes room."""
        if self.samples < RESERVOIR:
            self._recent.append(tokens)
            self.samples += 1
        else:
            oldest = self._recent[self._next]
            del self._sorted[bisect_left(self._sorted, oldest)]
            self._recent[self._next] = tokens
            self._next = (self._next + 1) % RESERVOIR
        insort(self._sorted, tokens)
        trust = self.samples / (self.samples + PRIOR_WEIGHT)
        self.p50_tokens = PRIOR_P50_TOKENS + trust * (self._quantile(0.5) - PRIOR_P50_TOKENS)
        self.p90_tokens = PRIOR_P90_TOKENS + trust * (self._quantile(0.9) - PRIOR_P90_TOKENS)

    def _quantile(self, share: float) -> int:
        return self._sorted[min(self.samples - 1, int(share * self.samples))]


NO_RATIO: Final = PromptRatio()
NO_LENGTHS: Final = OutputLengths()


def band(prompt_tokens: int) -> int:
    """Return the prompt's band: 0 short, 1 medium, 2 long."""
    if prompt_tokens <= SHORT_PROMPT_TOKENS:
        return 0
    return 1 if prompt_tokens <= MEDIUM_PROMPT_TOKENS else 2


class Lengths:
    """Both tables. Reading never changes them."""

    def __init__(self, max_rows: int = 2048) -> None:
        self._max_rows = max_rows
        self._ratios: OrderedDict[tuple[str, str], PromptRatio] = OrderedDict()
        self._outputs: OrderedDict[tuple[str, str, SlaClass, int], OutputLengths] = OrderedDict()

    def ratio(self, facts: RequestFacts) -> PromptRatio:
        """Return prompt tokens per byte for requests like this one; not to be changed."""
        return self._ratios.get((facts.tenant, facts.model), NO_RATIO)

    def outputs(
        self, facts: RequestFacts, sla_class: SlaClass, prompt_tokens: int
    ) -> OutputLengths:
        """Return output lengths of requests like this one; not to be changed."""
        key = (facts.tenant, facts.model, sla_class, band(prompt_tokens))
        return self._outputs.get(key, NO_LENGTHS)

    def learn_prompt(self, facts: RequestFacts, prompt_tokens: int) -> None:
        """Take in a prompt's length as the engine counted it."""
        if facts.prompt_bytes >= TEACHES_FROM_BYTES and facts.known_prompt_tokens is None:
            row = _row(
                self._ratios, (facts.tenant, facts.model), PromptRatio, max_rows=self._max_rows
            )
            row.learn(prompt_tokens, facts.prompt_bytes)

    def learn_output(
        self, facts: RequestFacts, sla_class: SlaClass, prompt_tokens: int, output_tokens: int
    ) -> None:
        """Take in a finished answer's length, all choices together, as the engine counted it.

        `prompt_tokens` is what the request was classified with, so that it finds its row again.
        An answer that ran into the caller's own bound would have been longer, so it counts only
        where it is already above the median.
        """
        tokens = output_tokens // facts.choices
        key = (facts.tenant, facts.model, sla_class, band(prompt_tokens))
        row = _row(self._outputs, key, OutputLengths, max_rows=self._max_rows)
        cut_short = facts.max_tokens is not None and tokens >= facts.max_tokens
        if not cut_short or tokens > row.p50_tokens:
            row.learn(tokens)


def _row(table: OrderedDict[Key, Row], key: Key, make: type[Row], *, max_rows: int) -> Row:
    """Return the row of `key`, made if absent, as the last to be forgotten."""
    row = table.get(key)
    if row is None:
        row = table[key] = make()
        if len(table) > max_rows:
            table.popitem(last=False)
    else:
        table.move_to_end(key)
    return row
