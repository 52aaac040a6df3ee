"""What a request's body says that routing must know: one table a route, from field to reader.

Only the fields in a route's table are looked at, null is as good as absent, and what is not read
here is the engine's to judge. A field of the wrong type is a `BadRequest` that names its path.
"""

from collections.abc import Callable, Mapping

from engines.engine import Route
from policies.facts import SlaClass
from router import intake_features as features
from router.body_values import boolean, integer, string
from router.errors import BadRequest, missing_field, missing_model, wrong_type, wrong_value
from router.intake_features import FeatureReader
from router.prompt_size import Prompt, text_bytes


class Contents:
    """What the body of one request says; None where it does not say."""

    model: str = ""
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    """The later name of the same bound; wins where both are given."""
    choices: int = 1
    """Answers to generate, at least 1: `n` or `best_of`, for every prompt of a completion."""
    query_bytes: int = 0
    """Text that a reranker reads anew with every document."""
    tier: SlaClass | None = None
    priority: int | None = None
    """vLLM's: any integer, lower first."""

    def __init__(self) -> None:
        self.prompt = Prompt()
        self.features = features.NONE
        """One bit a feature."""


def read_body(route: Route, document: Mapping[str, object]) -> Contents:
    """Read all fields that the route knows; raise `BadRequest`."""
    contents = Contents()
    fields = _FIELDS[route]
    for name, value in document.items():
        read = fields.get(name)
        if read is not None and value is not None:
            read(contents, name, value)
    if not contents.model:
        raise BadRequest(missing_model())
    required = _REQUIRED.get(route)
    if required is not None and document.get(required) is None:
        _refuse_lack(route, document)
    _add_up(route, contents)
    return contents


def _add_up(route: Route, contents: Contents) -> None:
    """Draw the conclusions that need more than one field."""
    prompt = contents.prompt
    contents.features |= prompt.features
    if prompt.count > 1 and route is Route.COMPLETIONS:
        contents.features |= features.MANY_PROMPTS
        contents.choices *= prompt.count
    prompt.text_bytes += contents.query_bytes * prompt.count


def _refuse_lack(route: Route, document: Mapping[str, object]) -> None:
    """Refuse a request without its main field; embeddings take vLLM's `messages` instead."""
    if route is not Route.EMBEDDINGS or document.get("messages") is None:
        raise BadRequest(missing_field(_REQUIRED[route]))


def max_tokens_of(route: Route, contents: Contents) -> int | None:
    """Return the bound on each answer's tokens; 0 on a route that generates none.

    A negative bound is llama.cpp's word for none.
    """
    if route not in _GENERATING:
        return 0
    bound = contents.max_completion_tokens
    if bound is None:
        bound = contents.max_tokens
    return None if bound is None or bound < 0 else bound


def _model(contents: Contents, name: str, value: object) -> None:
    contents.model = string(name, value)


def _stream(contents: Contents, name: str, value: object) -> None:
    contents.stream = boolean(name, value)


_TIERS: Mapping[str, SlaClass | None] = {
    "priority": SlaClass.INTERACTIVE,
    "fast": SlaClass.INTERACTIVE,
    "auto": None,
    "default": None,
    "scale": None,
    "standard_only": None,
    "flex": SlaClass.BULK,
    "batch": SlaClass.BULK,
}
"""OpenAI's tiers, and Anthropic's `standard_only`; None leaves the class to others."""


def _service_tier(contents: Contents, name: str, value: object) -> None:
    tier = string(name, value)
    if tier not in _TIERS:
        raise BadRequest(wrong_value(name, tier, "one of " + ", ".join(_TIERS)))
    contents.tier = _TIERS[tier]


def _priority(contents: Contents, name: str, value: object) -> None:
    contents.priority = integer(name, value)


def _max_tokens(contents: Contents, name: str, value: object) -> None:
    contents.max_tokens = integer(name, value)


def _max_completion_tokens(contents: Contents, name: str, value: object) -> None:
    contents.max_completion_tokens = integer(name, value)


def _n(contents: Contents, name: str, value: object) -> None:
    n = integer(name, value)
    if n > 1:
        contents.features |= features.MANY_CHOICES
        contents.choices = max(contents.choices, n)


def _best_of(contents: Contents, name: str, value: object) -> None:
    """Read how many answers are generated for the `n` that are given."""
    best_of = integer(name, value)
    if best_of > 1:
        contents.features |= features.BEST_OF
        contents.choices = max(contents.choices, best_of)


def _messages(contents: Contents, name: str, value: object) -> None:
    contents.prompt.add_messages(name, value)


def _content(contents: Contents, name: str, value: object) -> None:
    contents.prompt.add_content(name, value)


def _items(contents: Contents, name: str, value: object) -> None:
    """Read the input of a response: a string or an array of items."""
    if type(value) is str:
        contents.prompt.add_text(name, value)
    else:
        contents.prompt.add_messages(name, value)


def _prompts(contents: Contents, name: str, value: object) -> None:
    contents.prompt.add_prompts(name, value)


def _tokens(contents: Contents, name: str, value: object) -> None:
    """Read the ids to turn into text, which is what the route is for and no feature of it."""
    if type(value) is not list:
        raise BadRequest(wrong_type(name, "an array of integers", value))
    contents.prompt.token_ids = len(value)


def _text(contents: Contents, name: str, value: object) -> None:
    contents.prompt.add_text(name, value)


def _suffix(contents: Contents, name: str, value: object) -> None:
    contents.prompt.add_text(name, value)
    if value:
        contents.features |= features.SUFFIX


def _tools(contents: Contents, name: str, value: object) -> None:
    if type(value) is not list:
        raise BadRequest(wrong_type(name, "an array of objects", value))
    if value:
        contents.features |= features.TOOLS
        contents.prompt.add_json(value)


def _query(contents: Contents, name: str, value: object) -> None:
    """Read one text that is compared with many; several are the engine's to pair."""
    if type(value) is str:
        contents.query_bytes = text_bytes(value)
    else:
        _documents(contents, name, value)


def _documents(contents: Contents, _name: str, value: object) -> None:
    """Read one text or several, each a string or an object whose JSON is near enough."""
    documents = value if type(value) is list else [value]
    contents.prompt.count = max(len(documents), 1)
    for document in documents:
        if type(document) is str:
            contents.prompt.text_bytes += text_bytes(document)
        else:
            contents.prompt.add_json(document)


_Read = Callable[[Contents, str, object], None]


def _noting(readers: Mapping[str, FeatureReader]) -> dict[str, _Read]:
    """Turn readers of features into readers that note what they read."""

    def noting(read: FeatureReader) -> _Read:
        def note(contents: Contents, name: str, value: object) -> None:
            contents.features |= read(name, value)

        return note

    return {name: noting(read) for name, read in readers.items()}


_ANY: Mapping[str, _Read] = {
    "model": _model,
    "service_tier": _service_tier,
    "priority": _priority,
}
_SAMPLED: Mapping[str, _Read] = {
    **_ANY,
    **_noting(features.SAMPLING),
    "stream": _stream,
    "max_tokens": _max_tokens,
    "n": _n,
}
_CHAT: Mapping[str, _Read] = {
    **_SAMPLED,
    "messages": _messages,
    "max_completion_tokens": _max_completion_tokens,
    "tools": _tools,
    "functions": _tools,
}
_MESSAGE: Mapping[str, _Read] = {
    **_ANY,
    **_noting(features.MESSAGE),
    "stream": _stream,
    "max_tokens": _max_tokens,
    "system": _content,
    "messages": _messages,
    "tools": _tools,
}
_PAIRS: Mapping[str, _Read] = {
    **_ANY,
    **dict.fromkeys(("query", "queries", "text_1", "data_1"), _query),
    **dict.fromkeys(("documents", "text_2", "data_2"), _documents),
}
_FIELDS: Mapping[Route, Mapping[str, _Read]] = {
    Route.CHAT: _CHAT,
    Route.COMPLETIONS: {
        **_SAMPLED,
        "prompt": _prompts,
        "suffix": _suffix,
        "best_of": _best_of,
    },
    Route.EMBEDDINGS: {**_ANY, "input": _prompts, "messages": _messages},
    Route.RESPONSES: {
        **_ANY,
        **_noting(features.RESPONSE),
        "stream": _stream,
        "max_output_tokens": _max_tokens,
        "instructions": _items,
        "input": _items,
        "tools": _tools,
    },
    Route.MESSAGES: _MESSAGE,
    Route.COUNT_TOKENS: _MESSAGE,
    Route.RERANK: _PAIRS,
    Route.SCORE: _PAIRS,
    Route.TOKENIZE: {**_ANY, "prompt": _text, "messages": _messages, "tools": _tools},
    Route.DETOKENIZE: {**_ANY, "tokens": _tokens},
}
_REQUIRED: Mapping[Route, str] = {
    Route.CHAT: "messages",
    Route.MESSAGES: "messages",
    Route.COUNT_TOKENS: "messages",
    Route.EMBEDDINGS: "input",
}
_GENERATING = frozenset({Route.CHAT, Route.COMPLETIONS, Route.RESPONSES, Route.MESSAGES})
