"""Which features a field of the body calls for: each reader takes one field and returns bits.

A value that changes nothing (`n: 1`, `presence_penalty: 0`, `logit_bias: {}`) calls for nothing, so
that it keeps no engine out.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache

from engines.engine import Feature, Route
from router.body_values import boolean, integer, mapping, number
from router.errors import BadRequest, wrong_type

_BITS = {feature: 1 << place for place, feature in enumerate(Feature)}
MOST_STOPS = 4
"""OpenAI's limit, and TGI's."""
MOST_LOGPROBS = 5
"""TGI's limit; OpenAI's is 20 in chat and 5 in completions."""


def bits(*features: Feature) -> int:
    """Return the set of features as an integer, one bit each."""
    return sum(_BITS[feature] for feature in features)


@lru_cache(maxsize=4096)
def needs_of(route: Route, features: int) -> frozenset[Enum]:
    """Return the route and the features whose bits are set; kept, because few sets are common."""
    return frozenset[Enum]((route, *(feature for feature, bit in _BITS.items() if features & bit)))


NONE = bits()
TOOLS = bits(Feature.TOOLS)
IMAGES = bits(Feature.IMAGES)
AUDIO = bits(Feature.AUDIO)
TOKEN_IDS = bits(Feature.TOKEN_IDS)
MANY_PROMPTS = bits(Feature.MANY_PROMPTS)
MANY_CHOICES = bits(Feature.MANY_CHOICES)
BEST_OF = bits(Feature.BEST_OF)
_TOOL_CHOICE_REQUIRED = bits(Feature.TOOL_CHOICE_REQUIRED)
_GUIDED = bits(Feature.GUIDED)
_FORMATS = {
    "text": NONE,
    "json_object": bits(Feature.JSON_OBJECT),
    "json_schema": bits(Feature.JSON_SCHEMA),
}
_LOGPROBS = bits(Feature.LOGPROBS)
_MANY_LOGPROBS = bits(Feature.LOGPROBS, Feature.MANY_LOGPROBS)
_PROMPT_LOGPROBS = bits(Feature.PROMPT_LOGPROBS)
_LOGIT_BIAS = bits(Feature.LOGIT_BIAS)
_PRESENCE_PENALTY = bits(Feature.PRESENCE_PENALTY)
_MANY_STOPS = bits(Feature.MANY_STOPS)
_ECHO = bits(Feature.ECHO)
SUFFIX = bits(Feature.SUFFIX)


def _tool_choice(name: str, value: object) -> int:
    """Read whether a tool must be called: OpenAI's word or object, or Anthropic's object."""
    if type(value) is dict:
        value = value.get("type")
    elif type(value) is not str:
        raise BadRequest(wrong_type(name, "a string or an object", value))
    return NONE if value in ("auto", "none") else _TOOL_CHOICE_REQUIRED


def _response_format(name: str, value: object) -> int:
    kind = mapping(name, value).get("type", "text")
    return _FORMATS.get(kind, _GUIDED) if type(kind) is str else NONE


def _format_within(name: str, value: object) -> int:
    """Read a format one level down: `text.format` of a response, `output_config.format`."""
    inner = mapping(name, value).get("format")
    return NONE if inner is None else _response_format(f"{name}.format", inner)


def _guided(_name: str, _value: object) -> int:
    return _GUIDED


def _logprobs(name: str, value: object) -> int:
    """Read chat's boolean or completions' count, of which 0 means the chosen token alone."""
    if type(value) is bool:
        return _LOGPROBS if value else NONE
    return _LOGPROBS | _top_logprobs(name, value)


def _top_logprobs(name: str, value: object) -> int:
    count = integer(name, value)
    return _MANY_LOGPROBS if count > MOST_LOGPROBS else _LOGPROBS if count > 0 else NONE


def _prompt_logprobs(name: str, value: object) -> int:
    integer(name, value)
    return _PROMPT_LOGPROBS


def _logit_bias(name: str, value: object) -> int:
    return _LOGIT_BIAS if mapping(name, value) else NONE


def _presence_penalty(name: str, value: object) -> int:
    return _PRESENCE_PENALTY if number(name, value) else NONE


def _stop(name: str, value: object) -> int:
    if type(value) is list:
        return _MANY_STOPS if len(value) > MOST_STOPS else NONE
    if type(value) is not str:
        raise BadRequest(wrong_type(name, "a string or an array of strings", value))
    return NONE


def _echo(name: str, value: object) -> int:
    return _ECHO if boolean(name, value) else NONE


FeatureReader = Callable[[str, object], int]
GUIDANCE: Mapping[str, FeatureReader] = dict.fromkeys(
    (
        "structured_outputs",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "regex",
        "ebnf",
        "grammar",
        "json_schema",
        "structural_tag",
    ),
    _guided,
)
"""Fields of vLLM, SGLang and llama.cpp, present and past, that constrain the answer."""
SAMPLING: Mapping[str, FeatureReader] = {
    **GUIDANCE,
    "response_format": _response_format,
    "tool_choice": _tool_choice,
    "function_call": _tool_choice,
    "logprobs": _logprobs,
    "top_logprobs": _top_logprobs,
    "prompt_logprobs": _prompt_logprobs,
    "logit_bias": _logit_bias,
    "presence_penalty": _presence_penalty,
    "stop": _stop,
    "echo": _echo,
}
"""Fields of chat and completions."""
RESPONSE: Mapping[str, FeatureReader] = {
    **GUIDANCE,
    "text": _format_within,
    "tool_choice": _tool_choice,
    "top_logprobs": _top_logprobs,
}
"""Fields of OpenAI's responses."""
MESSAGE: Mapping[str, FeatureReader] = {
    "output_config": _format_within,
    "output_format": _response_format,
    "tool_choice": _tool_choice,
    "stop_sequences": _stop,
}
"""Fields of Anthropic's messages."""
