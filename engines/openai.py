"""Any server that speaks OpenAI's API, of which nothing more is known.

Only what all of them share is relied upon; what one of them cannot do, it says when asked.
"""

from collections.abc import Mapping

from engines import cards, edits, faults, usage, words
from engines.engine import (
    Dialect,
    Discovery,
    EngineLoad,
    Fault,
    Feature,
    Kind,
    Prepared,
    Question,
    Route,
    TokenUsage,
    Traits,
)


class OpenAI:
    """The least common denominator of OpenAI-compatible servers."""

    traits = Traits(
        kind=Kind.OPENAI,
        routes=frozenset(Route),
        features=frozenset(Feature),
        # The only portable sign of life.
        health_path="/v1/models",
        load_path=None,
        discovery_paths=("/v1/models",),
        keep_alive_s=4.0,  # below uvicorn's 5, the shortest that is common
    )

    def prepare(self, question: Question, dialect: Dialect) -> Prepared:
        """Return the caller's bytes, with the server's own name for the model if it has one."""
        return edits.prepare(question, dialect.upstream_model)

    def read_fault(self, status: int, body: bytes) -> Fault:
        """Read a refusal in whatever form."""
        said = words.of_answer(status, body)
        return faults.fault(said, faults.usual_kind(said))

    def read_event_fault(self, payload: bytes) -> Fault | None:
        """Read an error after the status line, in whatever form."""
        said = words.of_event(payload)
        return None if said is None else faults.fault(said, faults.usual_kind(said))

    def read_usage(self, tail: bytes, *, stream: bool) -> TokenUsage | None:
        """Read the usage, if the server tells it."""
        return usage.read_usage(tail)

    def repair_event(self, payload: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(payload, question)

    def repair_body(self, body: bytes, question: Question) -> bytes:
        """Give the model its public name."""
        return edits.with_public_model(body, question)

    def read_load(self, text: str) -> EngineLoad:
        """Return nothing: there is no portable load to read."""
        return EngineLoad()

    def read_discovery(self, answers: Mapping[str, bytes]) -> Discovery:
        """Read the models; some servers tell their context as vLLM does."""
        found = cards.cards(answers.get("/v1/models"))
        return Discovery(models=cards.names(found), max_context_tokens=cards.context_tokens(found))

    def probe(self, model: str) -> Prepared:
        """Ask for one token on the route that all of them have."""
        turn = {"role": "user", "content": "a"}
        return edits.probe(Route.CHAT.value, {"model": model, "messages": [turn], "max_tokens": 1})
