"""KV cache memory in blocks, with an optional cache of prompt prefixes.

A block is private (counted only) or keyed (known by the identity of the text up to its end). A
keyed block that nobody holds stays as a cached prefix until its space is needed, oldest first.
"""

from collections.abc import Sequence


class BlockPool:
    """A fixed number of blocks."""

    __slots__ = ("_idle", "_references", "_used", "block_tokens", "total", "weight")

    def __init__(self, tokens: int, block_tokens: int, key_tokens: int | None = None) -> None:
        """Hold `tokens` tokens in blocks of `block_tokens`; a key stands for `key_tokens`."""
        key_tokens = key_tokens or block_tokens
        if key_tokens % block_tokens:
            raise ValueError(f"prefix blocks of {key_tokens} tokens, blocks of {block_tokens}")
        self.block_tokens = block_tokens
        self.total = tokens // block_tokens
        self.weight = key_tokens // block_tokens
        """Blocks that one key stands for."""
        self._used = 0
        self._references: dict[int, int] = {}
        self._idle: dict[int, None] = {}

    @property
    def used(self) -> int:
        """Blocks that somebody holds."""
        return self._used

    @property
    def free(self) -> int:
        """Blocks that can be taken, cached prefixes included."""
        return self.total - self._used

    @property
    def cached(self) -> int:
        """Blocks of prefixes that nobody holds."""
        return len(self._idle) * self.weight

    def blocks_for(self, tokens: int) -> int:
        """Return the blocks that `tokens` tokens need."""
        return -(-tokens // self.block_tokens)

    def take(self, blocks: int) -> bool:
        """Take private blocks; False, and nothing is taken, where there are too few."""
        if blocks > self.total - self._used:
            return False
        self._used += blocks
        if self._idle:
            self._make_room()
        return True

    def give(self, blocks: int) -> None:
        """Give private blocks back."""
        if blocks > self._used:
            raise ValueError(f"{blocks} blocks given back, but only {self._used} are held")
        self._used -= blocks

    def match(self, keys: Sequence[int]) -> int:
        """Return how many leading keys are cached."""
        for index, key in enumerate(keys):
            if key not in self._references and key not in self._idle:
                return index
        return len(keys)

    def idle(self, keys: Sequence[int]) -> int:
        """Return the blocks that holding these cached keys would make unfree."""
        return sum(key in self._idle for key in keys) * self.weight

    def hold(self, keys: Sequence[int]) -> None:
        """Hold keys that `match` found."""
        for key in keys:
            if key in self._idle:
                del self._idle[key]
                self._references[key] = 1
                self._used += self.weight
            else:
                self._references[key] += 1

    def publish(self, keys: Sequence[int]) -> tuple[int, ...]:
        """Turn private blocks of the caller into keyed ones that it holds; return the keys.

        A key that another has published first keeps its block, and the caller a private copy:
        keyed blocks form a chain, so nothing after it is published either.
        """
        published: list[int] = []
        for key in keys:
            if key in self._references or key in self._idle:
                break
            self._references[key] = 1
            published.append(key)
        return tuple(published)

    def release(self, keys: Sequence[int]) -> None:
        """Let go of held keys; the last holder leaves them cached."""
        for key in reversed(keys):
            self._references[key] -= 1
            if not self._references[key]:
                del self._references[key]
                self._idle[key] = None
                self._used -= self.weight

    def _make_room(self) -> None:
        while self._used + self.cached > self.total:
            del self._idle[next(iter(self._idle))]
