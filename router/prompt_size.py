r"""How much text a request gives the model to read, without copying or encoding a long prompt.

Text is counted in UTF-8 bytes as it stood before JSON escaped it: the length of the body would
count `\u4f60` as six and a base64 image as text. ASCII text, which is most, is counted by its
length alone. Other text is encoded where it is short and sampled where it is long.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import orjson

from router.errors import BadRequest, wrong_type
from router.intake_features import AUDIO, IMAGES, NONE, TOKEN_IDS

EXACT_CHARACTERS = 1024
"""Up to here text that is not ASCII is encoded to be counted; of a longer one, about as many."""
DEEPEST_CONTENT = 4
"""Content inside content (a tool's result, in turn of parts) is read down to here."""

_TEXT_PARTS: Mapping[str, str] = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
"""Types of content part that are text, and the field that holds it."""
_IMAGE_PARTS = frozenset({"image_url", "input_image", "image", "image_embeds", "video_url"})
_AUDIO_PARTS = frozenset({"input_audio", "audio_url", "audio"})


class Prompt:
    """What the model has to read, as far as it was seen."""

    text_bytes: int = 0
    token_ids: int | None = None
    """How many the caller sent in place of text; None where it sent none."""
    count: int = 1
    """Prompts that are answered apart from each other."""

    def __init__(self) -> None:
        self.features = NONE
        """What an engine must offer to read it, one bit a feature."""

    def add_text(self, path: str, value: object) -> None:
        """Count one string."""
        if type(value) is not str:
            raise BadRequest(wrong_type(path, "a string", value))
        self.text_bytes += text_bytes(value)

    def add_json(self, value: object) -> None:
        """Count what a template shows to the model as JSON, such as tools."""
        with suppress(orjson.JSONEncodeError):  # nested deeper than JSON is written: not a prompt
            self.text_bytes += len(orjson.dumps(value))

    def add_messages(self, path: str, messages: object) -> None:
        """Count a conversation: OpenAI's messages or response items, or Anthropic's messages."""
        if type(messages) is not list:
            raise BadRequest(wrong_type(path, "an array of objects", messages))
        total = 0
        for index, message in enumerate(messages):
            if type(message) is not dict:
                raise BadRequest(wrong_type(f"{path}[{index}]", "an object", message))
            content = message.get("content")
            if type(content) is str:
                total += len(content) if content.isascii() else text_bytes(content)
            elif content is not None:
                self.add_content(f"{path}[{index}].content", content)
            if len(message) > 2:  # noqa: PLR2004 - most messages are a role and a content
                self._add_calls(message)
        self.text_bytes += total

    def _add_calls(self, message: Mapping[str, object]) -> None:
        """Count calls of tools and their results, wherever they stand in a message or item."""
        calls = message.get("tool_calls")
        for call in calls if type(calls) is list else ():
            function = call.get("function") if type(call) is dict else None
            if type(function) is dict:
                self._add_if_text(function.get("name"), function.get("arguments"))
        self._add_if_text(message.get("arguments"), message.get("output"))

    def _add_if_text(self, *values: object) -> None:
        for value in values:
            if type(value) is str:
                self.text_bytes += text_bytes(value)

    def add_content(self, path: str, content: object, depth: int = 0) -> None:
        """Count a string or an array of content parts, and note images and audio among them."""
        if type(content) is str:
            self.text_bytes += text_bytes(content)
            return
        if type(content) is not list:
            raise BadRequest(wrong_type(path, "a string or an array of objects", content))
        for index, part in enumerate(content):
            if type(part) is str:
                self.text_bytes += text_bytes(part)
            elif type(part) is dict:
                self._add_part(f"{path}[{index}]", part, depth)
            else:
                raise BadRequest(wrong_type(f"{path}[{index}]", "an object", part))

    def _add_part(self, path: str, part: Mapping[str, object], depth: int) -> None:
        """Count one content part; a part of an unknown type is the engine's to judge."""
        kind = part.get("type")
        kind = kind if type(kind) is str else "text" if "text" in part else ""
        if kind in _TEXT_PARTS:
            field = _TEXT_PARTS[kind]
            self.add_text(f"{path}.{field}", part.get(field))
        elif kind in _IMAGE_PARTS or "image_url" in part:
            self.features |= IMAGES
        elif kind in _AUDIO_PARTS:
            self.features |= AUDIO
        elif kind == "tool_use":
            self.add_json(part.get("input"))
        elif kind == "tool_result" and part.get("content") is not None and depth < DEEPEST_CONTENT:
            self.add_content(f"{path}.content", part["content"], depth + 1)

    def add_prompts(self, path: str, value: object) -> None:
        """Count one prompt or several, each a string or an array of token ids.

        The first element tells which; that all others are alike is left to the engine.
        """
        if type(value) is str:
            self.text_bytes += text_bytes(value)
        elif type(value) is not list:
            raise BadRequest(wrong_type(path, "a string or an array", value))
        elif value and type(value[0]) is int:
            self._add_token_ids(value)
        elif value:
            self.count = len(value)
            for index, prompt in enumerate(value):
                self._add_prompt(f"{path}[{index}]", prompt)

    def _add_prompt(self, path: str, prompt: object) -> None:
        if type(prompt) is list:
            self._add_token_ids(prompt)
        else:
            self.add_text(path, prompt)

    def _add_token_ids(self, ids: Sequence[object]) -> None:
        self.features |= TOKEN_IDS
        self.token_ids = (self.token_ids or 0) + len(ids)


def text_bytes(text: str) -> int:
    """Return the UTF-8 length of `text`; where it is long and not ASCII, an estimate.

    The estimate takes a thousand characters, evenly spread: right for text of one script, a few
    per cent off for a mixture.
    """
    if text.isascii():
        return len(text)
    if len(text) <= EXACT_CHARACTERS:
        return len(text.encode())
    sample = text[:: len(text) // EXACT_CHARACTERS]
    return len(sample.encode()) * len(text) // len(sample)
