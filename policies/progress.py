"""What shows that one endpoint works: tokens that come, and a counter of its own that moves.

A health check proves that a process answers, not that it computes. Here is kept when something
last moved, what there is that ought to move, and how fast tokens come; who judges is `watchdog`.
"""

from math import inf
from typing import Final

from policies.reading import Reading

HALF_LIFE_S: Final = 0.8
"""Of what is remembered of the speed of tokens."""
LEAST_TOKENS: Final = 3.0
"""Tokens, and"""
LEAST_STREAM_S: Final = 0.3
"""seconds of streams added up, below which their speed is not known."""
READING_IN_PEAKS: Final = 2.0
"""Prompts excuse silence for so many times as long as reading as many tokens took lately."""


class Progress:
    """The evidence of one endpoint. Times are seconds on the caller's clock."""

    __slots__ = (
        "_at",
        "_stream_s",
        "_tokens",
        "counter",
        "moved_at",
        "pending",
        "read_at",
        "read_every_s",
        "reading",
        "silent",
        "silent_since",
        "silent_tokens",
        "streams",
        "work_since",
    )

    def __init__(self) -> None:
        self.streams = 0
        """Our streams past their first token whose callers read."""
        self.pending = 0
        """Our streams before their first token."""
        self.silent = 0
        """Requests whose answers come as a whole: they show nothing until then."""
        self.work_since = inf
        """When there began to be something that ought to move; infinite while there is nothing."""
        self.moved_at = -inf
        """When something last moved."""
        self.counter: float | None = None
        """The engine's own counter at the last reading."""
        self.read_at = -inf
        self.read_every_s = inf
        """Time between the last two readings."""
        self.reading = Reading()
        """What prompts took to be read."""
        self.silent_tokens = 0
        """Of the prompts of answers that come as a whole, sent since"""
        self.silent_since = -inf
        """then, when those before must have been read."""
        self._stream_s = 0.0
        self._tokens = 0.0
        self._at = -inf

    @property
    def ought_to_move(self) -> bool:
        """Whether there is something whose standing still would show."""
        return bool(self.streams or self.pending or (self.silent and self.counter is not None))

    def began(self, now: float, *, streams: bool, prompt_tokens: int = 0) -> None:
        """Note a request sent there.

        `prompt_tokens`: to be read, where the answer comes as a whole; of a stream it is known all
        along whether they have been.
        """
        self._work(now)
        if streams:
            self.pending += 1
            return
        self.silent += 1
        if now >= self.reads_until():
            self.silent_tokens, self.silent_since = 0, now
        self.silent_tokens += prompt_tokens

    def reads_until(self) -> float:
        """Return until when it may give nobody a token because of such prompts of whole answers."""
        reading_s = self.reading.long_s(self.silent_tokens)
        return self.silent_since + READING_IN_PEAKS * reading_s if reading_s else -inf

    def unread_tokens(self, now: float) -> int:
        """Return how many tokens of such prompts may yet have to be read."""
        return self.silent_tokens if now < self.reads_until() else 0

    def first_token(self, now: float) -> None:
        """Note the first token of a stream."""
        self.pending -= 1
        self.streams += 1
        self.moved(now)

    def read_on(self, now: float) -> None:
        """Note that a caller reads its stream again."""
        self._work(now)
        self.streams += 1

    def unread(self) -> None:
        """Note that a caller does not read its stream, which cannot move therefore."""
        self.streams -= 1
        self._rest()

    def ended(self, *, streams: bool, begun: bool) -> None:
        """Note the end of a request, however it went."""
        if not streams:
            self.silent -= 1
            if not self.silent:
                self.silent_tokens = 0
        elif begun:
            self.streams -= 1
        else:
            self.pending -= 1
        self._rest()

    def moved(self, now: float) -> None:
        """Note that the endpoint did something."""
        self.moved_at = now

    def tokens(self, count: int, took_s: float, now: float) -> None:
        """Note `count` tokens that one stream took `took_s` for."""
        self.moved_at = now
        self._fade(now)
        self._stream_s += took_s
        self._tokens += count

    def counted(self, counter: float | None, now: float) -> None:
        """Note a reading of the engine's own counter."""
        self.read_every_s, self.read_at = now - self.read_at, now
        if counter is not None and counter != self.counter:
            self.moved_at = now
            self._work(now)
        self.counter = counter

    def per_token_s(self, now: float) -> float | None:
        """Return the mean time between two tokens of a stream; None where too little came."""
        self._fade(now)
        if self._tokens < LEAST_TOKENS or self._stream_s < LEAST_STREAM_S:
            return None
        return self._stream_s / self._tokens

    def still_s(self, now: float) -> float:
        """Return for how long nothing has moved that ought to; 0 where nothing ought to.

        Where only the counter could show it, as of its last reading: an engine that computes may
        leave the question unanswered, and whether it answers at all is for health checks to tell.
        """
        if not self.ought_to_move:
            return 0.0
        seen_at = now if self.streams or self.pending else self.read_at
        return max(0.0, seen_at - max(self.moved_at, self.work_since, self.reads_until()))

    def forget_speed(self) -> None:
        """Judge the speed afresh from here on."""
        self._stream_s = self._tokens = 0.0

    def _work(self, now: float) -> None:
        if not self.ought_to_move:
            self.work_since = now

    def _rest(self) -> None:
        if not self.ought_to_move:
            self.work_since = inf

    def _fade(self, now: float) -> None:
        elapsed_s = now - self._at
        if elapsed_s > 0:
            share = 0.5 ** (elapsed_s / HALF_LIFE_S)
            self._stream_s *= share
            self._tokens *= share
            self._at = now
