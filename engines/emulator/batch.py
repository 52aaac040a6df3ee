"""The decodes of an engine, counted together.

Every decode step gives each member one token, so nothing is counted per member: a clock counts
decode steps, and a member knows the clock at which it joined and the one at which it leaves.
"""

from heapq import heappop, heappush

from engines.emulator.sequence import Entry, Sequence


class DecodeBatch:
    """Sequences that yield a token in every decode step, in the order in which they joined."""

    __slots__ = (
        "_block_tokens",
        "_growth",
        "_leaving",
        "_pushed",
        "clock",
        "completed",
        "kv_tokens",
        "members",
        "size",
    )

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._growth = [0] * block_tokens
        self._leaving: list[tuple[int, int, Sequence, int]] = []
        self._pushed = 0
        self.members: dict[Sequence, None] = {}
        """Whoever decodes, the leaving ones included until they are settled."""
        self.size = 0
        """Members that take part in the next step."""
        self.kv_tokens = 0
        """KV tokens that those hold."""
        self.clock = 0
        """Decode steps planned."""
        self.completed = 0
        """Decode steps completed."""

    def join(self, sequence: Sequence) -> None:
        """Let a sequence decode from the next step on, whose first token the step just planned gives."""
        sequence.joined = self.clock
        sequence.leave_at = self.clock + sequence.target - sequence.produced - 1
        self.members[sequence] = None
        self.size += 1
        self.kv_tokens += sequence.prompt
        self._growth[self._residue(sequence)] += 1
        self._pushed += 1
        heappush(self._leaving, (sequence.leave_at, self._pushed, sequence, sequence.stay))

    def tick(self) -> list[Entry]:
        """Plan one step; return the members for whom it is the last, who are no longer counted."""
        self.clock += 1
        self.kv_tokens += self.size
        leaving: list[Entry] = []
        while self._leaving and self._leaving[0][0] <= self.clock:
            _, _, sequence, stay = heappop(self._leaving)
            if sequence.stay == stay:
                self._uncount(sequence)
                leaving.append((sequence, stay))
        return leaving

    def skip(self, steps: int) -> None:
        """Plan `steps` steps in which nobody leaves."""
        self.clock += steps
        self.kv_tokens += steps * self.size

    def steps_without_leaving(self) -> int:
        """Return how many steps can be planned before the one in which somebody leaves."""
        while self._leaving and self._leaving[0][2].stay != self._leaving[0][3]:
            heappop(self._leaving)
        return self._leaving[0][0] - self.clock - 1 if self._leaving else 0

    def growth(self) -> int:
        """Return the blocks that the next step needs, one for each member that fills its last."""
        return self._growth[(self.clock + 1) % self._block_tokens]

    def growth_over(self, steps: int) -> int:
        """Return the blocks that the next `steps` steps need."""
        rounds, rest = divmod(steps, self._block_tokens)
        residues = ((self.clock + 1 + i) % self._block_tokens for i in range(rest))
        return rounds * self.size + sum(self._growth[residue] for residue in residues)

    def counted(self) -> list[Sequence]:
        """Return the members that take part in the next step."""
        return [sequence for sequence in self.members if sequence.leave_at > self.clock]

    def context(self, sequence: Sequence) -> int:
        """Return the KV tokens of a member, as of the steps that are planned."""
        return sequence.prompt + min(self.clock, sequence.leave_at) - sequence.joined

    def leave(self, sequence: Sequence) -> None:
        """Forget a member, whether it was through or not."""
        del self.members[sequence]
        if self.clock < sequence.leave_at:
            self._uncount(sequence)

    def _uncount(self, sequence: Sequence) -> None:
        self.size -= 1
        self.kv_tokens -= self.context(sequence)
        self._growth[self._residue(sequence)] -= 1

    def _residue(self, sequence: Sequence) -> int:
        """Return the clock, modulo the block size, at which the member fills its last block."""
        return (sequence.joined + 1 - sequence.prompt) % self._block_tokens
