"""One offered request over a socket, from the moment it is due to its outcome."""

from collections.abc import Callable
from typing import Final

from policies.facts import Reason
from router.bench.stream import AnswerStream
from router.measure.outcome import Fate, Outcome
from router.workload.offers import Offer

OK: Final = 200
STOPPED: Final = "stop"
"""The model ended its answer itself, as some engines let it whatever they are asked (TGI)."""
NO_ROOM: Final = frozenset({429, 503})
CALLERS_FAULT: Final = range(400, 500)
_REASONS: Final = {reason.encode(): reason for reason in Reason}
MOST_WORDS: Final = 200
"""Characters kept of what an error says."""


class Call:
    """See `connection.Listener`; tells `ended` once."""

    def __init__(
        self,
        offer: Offer,
        due_at: float,
        clock: Callable[[], float],
        ended: Callable[["Call"], None],
        *,
        exact: bool,
    ) -> None:
        self.offer = offer
        self.outcome: Outcome | None = None
        """None until it is known."""
        self.sent_at: float | None = None
        self.trouble: str | None = None
        """What went wrong, in words."""
        self._due_at = due_at
        self._clock = clock
        self._ended = ended
        self._exact = exact
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._stream = AnswerStream()
        self._error_body = b""

    @property
    def lag_s(self) -> float | None:
        """How much later than due it was sent; None: it was not."""
        return None if self.sent_at is None else self.sent_at - self._due_at

    def sent(self) -> None:
        """See `Listener`."""
        self.sent_at = self._clock()

    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """See `Listener`."""
        self._status = status
        self._headers = headers

    def body(self, data: bytes) -> None:
        """See `Listener`."""
        if self._status == OK:
            self._stream.feed(data, self._clock())
        elif len(self._error_body) < MOST_WORDS:
            self._error_body += data

    def over(self) -> None:
        """See `Listener`."""
        if self._status == OK:
            self._end(self._fate_of_stream())
            return
        self.trouble = self._error_body[:MOST_WORDS].decode(errors="replace")
        if self._status in NO_ROOM:
            self._end(Fate.REFUSED)
        else:
            self._end(Fate.REJECTED if self._status in CALLERS_FAULT else Fate.FAILED)

    def lost(self, why: str) -> None:
        """See `Listener`."""
        self.trouble = why
        self._end(Fate.FAILED)

    def give_up(self, fate: Fate, why: str) -> None:
        """End it from the caller's side."""
        self.trouble = why
        self._end(fate)

    def _fate_of_stream(self) -> Fate:
        stream = self._stream
        if stream.error is not None:
            self.trouble = stream.error
            return Fate.FAILED
        whole = stream.done or stream.finish_reason is not None
        if self._exact and stream.finish_reason != STOPPED:
            whole = whole and stream.tokens >= self.offer.length
        return Fate.SERVED if whole else Fate.TRUNCATED

    def _end(self, fate: Fate) -> None:
        if self.outcome is not None:
            return
        stream = self._stream
        outcome = Outcome(
            self.offer,
            fate,
            total_s=self._clock() - self._due_at,
            output_tokens=stream.tokens,
            attempts=1,
        )
        if stream.first_at is not None:
            outcome.first_token_s = stream.first_at - self._due_at
            if fate is Fate.SERVED and stream.tokens > 1:
                outcome.per_token_s = (stream.last_at - stream.first_at) / (stream.tokens - 1)
                outcome.slowest_gap_s = stream.slowest_gap_s
        self._note_routing(outcome)
        self.outcome = outcome
        self._ended(self)

    def _note_routing(self, outcome: Outcome) -> None:
        """Take over what a router says of its decision."""
        endpoint = self._headers.get(b"x-sla-endpoint")
        outcome.endpoint = None if endpoint is None else endpoint.decode("latin-1")
        outcome.reason = _REASONS.get(self._headers.get(b"x-sla-reason", b""))
        if outcome.fate is Fate.REFUSED:
            reason = self._headers.get(b"x-sla-dropped-reason")
            outcome.refusal = str(self._status) if reason is None else reason.decode("latin-1")
            retry_after = self._headers.get(b"retry-after", b"")
            outcome.retry_after_s = float(retry_after) if retry_after.isdigit() else None
