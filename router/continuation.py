"""A stream that broke goes on at another endpoint: what was sent becomes what the answer begins with.

Opt-in (`X-SLA-Continue: 1`), for streams of one text: completions go on from a longer prompt, chats
from an assistant's message that is to be continued, where the engine has that. Identifiers, model
and time stay those of the first part, and token counts are those of the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import orjson

from engines.engine import Feature, Kind, Question, Route, TokenUsage
from router.intake import Intake

MOST_SEAMS: Final = 3
"""After so many breaks an answer is given up."""
CONTINUES_CHAT: Final = frozenset({Kind.VLLM, Kind.SGLANG, Kind.LLAMACPP})
"""Engines that continue an assistant's message: vLLM and SGLang where `continue_final_message` says
so, llama.cpp wherever it comes last."""
_HARMLESS: Final = frozenset({Feature.MANY_STOPS, Feature.LOGIT_BIAS})
"""Features under which the rest of a text follows from its beginning as ever."""
_BOUNDS: Final = ("max_tokens", "max_completion_tokens")
_SAME: Final = ("id", "created", "model", "system_fingerprint")
DONE: Final = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Break:
    """Where one part of an answer ended."""

    endpoint: str
    tokens: int
    """Of the answer, sent until then."""


def may_continue(intake: Intake, route: Route, *, always: bool) -> bool:
    """Return whether the rest of an answer could come from another endpoint.

    `always`: also where the caller does not say that it wants that.
    """
    wanted = intake.wants_continuation
    if not (intake.stream and (always if wanted is None else wanted)):
        return False
    if set(intake.facts.needs) - {route} - _HARMLESS or intake.facts.choices != 1:
        return False
    if route is Route.COMPLETIONS:
        return type(intake.document.get("prompt")) is str
    return route is Route.CHAT and type(intake.document.get("messages")) is list


class Seams:
    """One answer in parts: what was sent of it, and how the next part is asked for."""

    def __init__(self, route: Route, first_event_at: float) -> None:
        self.first_event_at = first_event_at
        """When the answer began, by the router's clock."""
        self.breaks: list[Break] = []
        self.tokens = 0
        """Events with text, sent so far: about one a token."""
        self.is_torn = False
        """Something was sent that no other endpoint could go on from."""
        self.is_finished = False
        """The answer told why it ended."""
        self._route = route
        self._parts: list[str] = []
        self._same: dict[str, object] = {}

    @property
    def can_go_on(self) -> bool:
        """Whether another endpoint may be asked for the rest."""
        return not self.is_torn and len(self.breaks) < MOST_SEAMS

    def broke(self, endpoint: str) -> None:
        """Note that a part ended before the answer did."""
        self.breaks.append(Break(endpoint, self.tokens))

    def fits(self, kind: Kind) -> bool:
        """Return whether an engine can go on from what was sent."""
        return self._route is Route.COMPLETIONS or not self._parts or kind in CONTINUES_CHAT

    def question(self, question: Question) -> Question:
        """Return what to ask for the rest; the same question where nothing was sent yet."""
        text = "".join(self._parts)
        if not text:
            return question
        document: dict[str, object] = dict(question.document)
        if self._route is Route.COMPLETIONS:
            document["prompt"] = f"{document['prompt']}{text}"
        else:
            document |= _prolonged(document, text)
        for bound in _BOUNDS:
            asked = document.get(bound)
            if type(asked) is int:
                document[bound] = max(1, asked - self.tokens)
        return replace(question, document=document, body=orjson.dumps(document))

    def took(self, data: bytes) -> bytes:
        """Take in the data of an event, and return what the caller is to see of it."""
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            self.is_torn = True
            return data
        if type(event) is not dict:
            self.is_torn = True
            return data
        self._read(event)
        if not self.breaks:
            for name in _SAME:
                if name in event:
                    self._same.setdefault(name, event[name])
            return data
        event |= {name: value for name, value in self._same.items() if name in event}
        self._count_whole(event)
        return orjson.dumps(event)

    def _read(self, event: dict[str, Any]) -> None:
        choices = event.get("choices")
        for choice in choices if type(choices) is list else ():
            if self._route is Route.COMPLETIONS:
                text = choice.get("text")
            else:
                delta = choice.get("delta") or {}
                text = delta.get("content")
                if delta.keys() - {"role", "content"} and any(
                    delta[name] for name in delta.keys() - {"role", "content"}
                ):
                    # Reasoning, a call of a tool, a refusal: no prefix can stand for these.
                    self.is_torn = True
                if self.breaks and "role" in delta:
                    # Clients put the pieces of each field together: a role comes once.
                    del delta["role"]
                    delta.setdefault("content", "")
            if text:
                self._parts.append(text)
                self.tokens += 1
            self.is_finished = self.is_finished or bool(choice.get("finish_reason"))

    def _count_whole(self, event: dict[str, Any]) -> None:
        """Correct token counts: what was sent before is output, and no prompt."""
        usage = event.get("usage")
        if type(usage) is dict and "completion_tokens" in usage:
            sent = self.breaks[-1].tokens
            usage["completion_tokens"] += sent
            usage["prompt_tokens"] = max(0, usage.get("prompt_tokens", 0) - sent)
            usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]

    def counted(self, usage: TokenUsage) -> TokenUsage:
        """Return the token counts of the whole from those of its last part."""
        if not self.breaks:
            return usage
        sent = self.breaks[-1].tokens
        prompt, output = usage.prompt_tokens, usage.output_tokens
        return TokenUsage(
            None if prompt is None else max(0, prompt - sent),
            None if output is None else output + sent,
            usage.cached_tokens,
        )

    def end(self) -> bytes:
        """Return what ends a stream whose last event was lost after the answer had finished."""
        return b"data: %b\n\n" % DONE


def _prolonged(document: Mapping[str, object], text: str) -> dict[str, object]:
    """Return the members of a chat that ask for the rest of its last message."""
    messages = list(cast("list[dict[str, object]]", document["messages"]))
    if document.get("continue_final_message") and messages:
        last = messages.pop()
        text = f"{last.get('content') or ''}{text}"
    messages.append({"role": "assistant", "content": text})
    return {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
