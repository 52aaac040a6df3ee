"""Learned lengths: prompt tokens per byte, and how long answers tend to be.

Nothing here reads a prompt: an estimate comes from its size and from what earlier answers of the
same kind turned out to be. The table is bounded and forgets what was not confirmed for longest.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import Final

from policies.facts import RequestFacts

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
BANDS: Final = 3


def band(prompt_tokens: int) -> int:
    """Return the prompt's band: 0 short, 1 medium, 2 long."""
    if prompt_tokens <= SHORT_PROMPT_TOKENS:
        return 0
    return 1 if prompt_tokens <= MEDIUM_PROMPT_TOKENS else 2


class OutputLengths:
    """Lengths of the last answers of one kind, as quantiles that start from the prior."""

    __slots__ = ("_next", "_recent", "_sorted", "p50_tokens", "p90_tokens", "samples")

    def __init__(self) -> None:
        self.p50_tokens = PRIOR_P50_TOKENS
        self.p90_tokens = PRIOR_P90_TOKENS
        self.samples = 0
        """Answers that the quantiles rest on, at most `RESERVOIR`: 0 is a guess."""
        self._recent: list[int] = []
        self._sorted: list[int] = []
        self._next = 0

    def learn(self, tokens: int) -> None:
        """Take in one answer; the oldest makes room."""
        in_order, samples = self._sorted, self.samples
        if samples < RESERVOIR:
            self._recent.append(tokens)
            self.samples = samples = samples + 1
        else:
            at = self._next
            del in_order[bisect_left(in_order, self._recent[at])]
            self._recent[at] = tokens
            self._next = (at + 1) % RESERVOIR
        insort(in_order, tokens)
        trust = samples / (samples + PRIOR_WEIGHT)
        p50, p90 = in_order[samples // 2], in_order[samples * 9 // 10]
        self.p50_tokens = PRIOR_P50_TOKENS + trust * (p50 - PRIOR_P50_TOKENS)
        self.p90_tokens = PRIOR_P90_TOKENS + trust * (p90 - PRIOR_P90_TOKENS)


class LengthsSeen:
    """What one tenant's requests to one model have shown."""

    __slots__ = ("outputs", "samples", "tokens_per_byte")

    def __init__(self) -> None:
        self.tokens_per_byte = FIRST_TOKENS_PER_BYTE
        """Prompt tokens per UTF-8 byte of the prompt."""
        self.samples = 0
        """Prompts that the ratio rests on: 0 is a guess."""
        self.outputs: dict[int, OutputLengths] = {}
        """By class and prompt band, as `kind` numbers them."""

    def learn_ratio(self, tokens: int, size_bytes: int) -> None:
        """Move the ratio towards one prompt whose length the engine told."""
        seen = min(MOST_TOKENS_PER_BYTE, max(LEAST_TOKENS_PER_BYTE, tokens / size_bytes))
        self.tokens_per_byte += STEP * (seen - self.tokens_per_byte)
        self.samples += 1


NOTHING_SEEN: Final = LengthsSeen()
NO_OUTPUTS: Final = OutputLengths()


def kind(rank: int, prompt_tokens: int) -> int:
    """Return the number of a kind of request: by rank of class and prompt band."""
    return BANDS * rank + band(prompt_tokens)


class Lengths:
    """The table, by tenant and model. Reading never changes it."""

    def __init__(self, max_rows: int = 512) -> None:
        self._max_rows = max_rows
        self._rows: OrderedDict[tuple[str, str], LengthsSeen] = OrderedDict()

    def seen(self, facts: RequestFacts) -> LengthsSeen:
        """Return what requests like this one have shown; not to be changed."""
        return self._rows.get((facts.tenant, facts.model), NOTHING_SEEN)

    def learn(
        self,
        facts: RequestFacts,
        rank: int,
        estimate_tokens: int,
        *,
        prompt_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """Take in a completed request, as far as the engine counted it; zero counts as untold.

        `estimate_tokens` is the prompt length that it was classified with, so that its kind is
        found again. `output_tokens` is of all choices together.
        """
        row = self._row((facts.tenant, facts.model))
        if prompt_tokens and facts.prompt_bytes >= TEACHES_FROM_BYTES:
            row.learn_ratio(prompt_tokens, facts.prompt_bytes)
        if output_tokens:
            number = kind(rank, estimate_tokens)
            outputs = row.outputs.get(number)
            if outputs is None:
                outputs = row.outputs[number] = OutputLengths()
            tokens = output_tokens // facts.choices
            bound = facts.max_tokens
            # An answer that ran into the caller's own bound would have been longer: it counts
            # only where it is already above the median.
            if bound is None or tokens < bound or tokens > outputs.p50_tokens:
                outputs.learn(tokens)

    def _row(self, key: tuple[str, str]) -> LengthsSeen:
        """Return a row to write in, made if absent, as the last to be forgotten."""
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = LengthsSeen()
            if len(self._rows) > self._max_rows:
                self._rows.popitem(last=False)
        else:
            self._rows.move_to_end(key)
        return row
