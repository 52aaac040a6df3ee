"""The seam that each kind's face fills, and what all faces are made of."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import orjson

from engines.emulator.faces.words import (
    Answer,
    Ask,
    Form,
    Histogram,
    Problem,
    Quirks,
    Site,
    Spoken,
    Times,
    Told,
)
from engines.emulator.jobs import FailureCause, Refused

DONE = b"[DONE]"
Headers = Mapping[str, str]
"""Request headers, names in lower case."""


class Face(Protocol):
    """One kind's HTTP: what it reads and what it says. Events are SSE payloads, without `data:`."""

    quirks: Quirks
    generating: Mapping[str, Form]
    """POST routes that generate."""

    def read(self, path: str, headers: Headers, body: bytes, site: Site) -> Ask | Problem:
        """Read a request to generate; a Problem is told with its own status."""
        ...

    def stream_headers(self, ask: Ask, site: Site) -> tuple[tuple[str, str], ...]:
        """Return the headers of a stream, its content type included."""
        ...

    def opening(self, ask: Ask, index: int, site: Site) -> Sequence[bytes]:
        """Return what comes before a choice's first token."""
        ...

    def token(self, ask: Ask, index: int, site: Site, tokens: int) -> tuple[bytes, bytes]:
        """Return what stands before and after a token's JSON text in its event.

        `tokens` have been generated with it; it makes a difference only to `Usage.ALWAYS`.
        """
        ...

    def last(self, ask: Ask, index: int, word: str, spoken: Spoken, site: Site) -> Sequence[bytes]:
        """Return the events of a choice's last token `word`; empty where there is none to say."""
        ...

    def ending(self, ask: Ask, spoken: Sequence[Spoken], site: Site) -> Sequence[bytes]:
        """Return what comes after the last token of all."""
        ...

    def whole(self, ask: Ask, spoken: Sequence[Spoken], times: Times, site: Site) -> Answer:
        """Return an answer that is not streamed."""
        ...

    def refused(self, refused: Refused, ask: Ask, site: Site) -> Problem:
        """Say in the engine's words why it does not take a request."""
        ...

    def failed(self, cause: FailureCause) -> Problem:
        """Say in the engine's words why an answer broke off."""
        ...

    def told(self, status: int) -> Problem:
        """Say something that goes with a status, which somebody asked for."""
        ...

    def answer(self, problem: Problem) -> Answer:
        """Return a problem as an answer."""
        ...

    def event(self, problem: Problem, ask: Ask) -> Sequence[bytes]:
        """Return a problem as the end of a stream."""
        ...

    def page(self, method: str, path: str, body: bytes, site: Site, told: Told) -> Answer | None:
        """Answer everything else that this kind has; None where it has nothing."""
        ...

    def not_found(self) -> Answer:
        """Answer a path that is not there."""
        ...

    def histograms(self) -> dict[str, Histogram]:
        """Return the histograms that the server fills: ttft, itl, e2e, queue, prompt, output."""
        ...


def around(event: object) -> tuple[bytes, bytes]:
    """Cut an event into what stands before and after the text `MARK` in it."""
    before, _, after = orjson.dumps(event).partition(b'"\\u0000"')
    return before, after


MARK = "\x00"
"""Stands for a token's text, see `around`."""


def usage(ask: Ask, spoken: Sequence[Spoken]) -> dict[str, object]:
    """Return the token counts of an answer, in OpenAI's names."""
    output = sum(one.tokens for one in spoken)
    return {
        "prompt_tokens": ask.prompt_tokens,
        "total_tokens": ask.prompt_tokens + output,
        "completion_tokens": output,
    }


def cached(spoken: Sequence[Spoken]) -> int:
    """Return the prompt tokens that came from the prefix cache."""
    return sum(one.cached_tokens for one in spoken)
