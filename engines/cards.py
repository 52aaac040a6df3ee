"""Reads the list of models that every engine gives at `/v1/models`."""

from collections.abc import Mapping

from engines.fields import as_count, as_list, as_object, as_text, parsed


def cards(answer: bytes | None) -> list[Mapping[str, object]]:
    """Return the models' cards, each with an `id`; none where the answer is missing or makes no sense."""
    listed = as_list(as_object(parsed(answer or b"")).get("data"))
    return [card for card in map(as_object, listed) if as_text(card.get("id"))]


def names(found: list[Mapping[str, object]]) -> tuple[str, ...]:
    """Return the models' names, in the engine's order, each once."""
    return tuple(dict.fromkeys(str(card["id"]) for card in found))


def context_tokens(found: list[Mapping[str, object]]) -> int | None:
    """Return the longest context that a card tells; an adapter's card tells none of its own."""
    told = (as_count(card.get("max_model_len")) for card in found)
    return max((length for length in told if length), default=None)
