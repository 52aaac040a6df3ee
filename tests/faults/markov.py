"""A stand-in whose text can be gone on with: each word follows from the two words before it.

So the right continuation of a cut answer is known, whoever gives it. It speaks vLLM's completions and
chat, one word an event, answers what a prober asks, and breaks as the emulated engines do when told to.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from zlib import crc32

from tests.fakes.scripted import Call

WORDS = [
    first + second
    for first in ("ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "ru")
    for second in ("lan", "mer", "nis", "pod", "sut", "tak")
]


def next_word(text: str) -> str:
    """Return the word that follows a text, with its space."""
    last = " ".join(text.split()[-2:])
    return f" {WORDS[crc32(last.encode()) % len(WORDS)]}"


def continued(text: str, tokens: int) -> str:
    """Return the next `tokens` words."""
    said = ""
    for _ in range(tokens):
        said += next_word(text + said)
    return said


FAULTS = "/emulator/faults"
"""Where a stand-in is told how to break, by the names of the emulated engines' faults."""


@dataclass(frozen=True, slots=True)
class Broken:
    """How it misbehaves; the default is not at all."""

    hang: bool = False
    slow_factor: float = 1.0
    refuse_status: int | None = None
    draining: bool = False
    fail_steps: bool = False


WELL = Broken()


class Speaker:
    """A script that goes on from what it is given."""

    def __init__(self, name: str, pause_s: float) -> None:
        self.name = name
        self.pause_s = pause_s
        self.asked: list[dict[str, object]] = []
        self.broken = WELL
        self._serial = 0
        self._moving = asyncio.Event()
        self._moving.set()

    def tell(self, faults: Mapping[str, Any]) -> None:
        """Break, or be well again."""
        names = {field.name for field in fields(Broken)}
        self.broken = Broken(**{name: faults[name] for name in names & faults.keys()})
        if self.broken.hang:
            self._moving.clear()
        else:
            self._moving.set()

    async def _pause(self) -> None:
        await asyncio.sleep(self.pause_s * self.broken.slow_factor)
        await self._moving.wait()

    async def __call__(self, call: Call) -> None:
        """Answer one request."""
        document = json.loads(call.body)
        if call.path == FAULTS:
            self.tell(document)
            await call.say_json(b"{}")
            return
        await self._moving.wait()
        status = 503 if self.broken.draining else self.broken.refuse_status
        if status is not None:
            told = b'{"error":{"message":"told to","type":"told","code":"told"}}'
            await call.say_json(told, b"%d Told" % status)
            return
        self.asked.append(document)
        self._serial += 1
        base = {"id": f"{self.name}-{self._serial}", "created": 1, "model": document["model"]}
        if document.get("stream"):
            await self._stream(call, document, base)
        else:
            await self._whole(call, document, base)

    async def _whole(
        self, call: Call, document: dict[str, Any], base: Mapping[str, object]
    ) -> None:
        tokens = int(document.get("max_tokens", 16))
        for _ in range(tokens):
            await self._pause()
        body = {**base, "choices": [{"index": 0, "text": continued(document["prompt"], tokens)}]}
        await call.say_json(json.dumps(body).encode())

    async def _stream(
        self, call: Call, document: dict[str, Any], base: Mapping[str, object]
    ) -> None:
        is_chat = call.path.endswith("/chat/completions")
        text = _prompt_of(document) if is_chat else document["prompt"]
        tokens = int(document.get("max_tokens", 16))
        await call.begin_stream()
        if is_chat:
            opening = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            await _say(call, base, opening)
        for number in range(tokens):
            word = next_word(text)
            text += word
            said = {"delta": {"content": word}} if is_chat else {"text": word}
            reason = "length" if number == tokens - 1 else None
            await _say(call, base, {**said, "finish_reason": reason})
            await self._pause()
            if self.broken.fail_steps:
                await call.say_chunk(b'data: {"error":{"message":"told to fail","code":500}}\n\n')
                break
        if document.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 7 + _prefix_tokens(document), "completion_tokens": tokens}
            usage["total_tokens"] = sum(usage.values())
            event = {**base, "choices": [], "usage": usage}
            await call.say_chunk(b"data: %b\n\n" % json.dumps(event).encode())
        await call.end_stream()


def _prompt_of(document: dict[str, object]) -> str:
    messages = document["messages"]
    assert isinstance(messages, list)
    if messages[-1]["role"] == "assistant":
        assert document["continue_final_message"] is True
        assert document["add_generation_prompt"] is False
    return "".join(message["content"] for message in messages)


def _prefix_tokens(document: dict[str, object]) -> int:
    """Return how many words of the prompt are an answer's."""
    text = _prompt_of(document) if "messages" in document else str(document["prompt"])
    return sum(word in WORDS for word in text.split())


async def _say(call: Call, base: Mapping[str, object], choice: Mapping[str, object]) -> None:
    event = {**base, "choices": [{"index": 0, **choice}]}
    await call.say_chunk(b"data: %b\n\n" % json.dumps(event).encode())
