"""What a verified token says of its holder: tenant, models, classes, weight.

A claim that is there and not understood is never passed over: what it would have taken away must
not be had for a spelling mistake.
"""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from re import compile as pattern
from re import sub
from typing import Any, Final

from policies.facts import SlaClass
from policies.keys import Key
from router.settings import Jwt, is_name

_DERIVED: Final = pattern(".*-[0-9a-f]{16}")
MOST_NAME: Final = 47
"""Characters that are kept of what is no name, before 16 of a digest."""
MOST_WEIGHT: Final = 1e6
"""Shares beyond are no shares but everything."""


class UnusableClaim(Exception):
    """A claim is not as it should be; the text says which and what would be right, not its value."""


def key_of(claims: Mapping[str, Any], settings: Jwt) -> Key:
    """Return what a token's holder is entitled to, as for a key; raises `UnusableClaim`."""
    entitlement = settings.default
    if settings.models_claim in claims:
        entitlement = replace(entitlement, models=_words(claims, settings.models_claim))
    if settings.classes_claim in claims:
        words = _words(claims, settings.classes_claim)
        classes = tuple(_class(word, settings.classes_claim) for word in words)
        entitlement = replace(entitlement, classes=classes)
    if settings.highest_class_claim in claims:
        name = settings.highest_class_claim
        entitlement = replace(entitlement, highest_class=_class(claims[name], name))
    return Key(
        "token", _tenant(claims, settings), (), entitlement, weight=_weight(claims, settings)
    )


def _tenant(claims: Mapping[str, Any], settings: Jwt) -> str:
    name = next((each for each in settings.tenant_claims if each in claims), None)
    if name is None:
        raise UnusableClaim(f"there is none of {', '.join(map(repr, settings.tenant_claims))}")
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise UnusableClaim(f"{name!r} is no text that names a tenant")
    return tenant_name(value)


def tenant_name(text: str) -> str:
    """Return a name for metrics, logs and limits: the text itself where it is one.

    What is none, such as `auth0|5f7c`, becomes one that no other text becomes: what there is of it
    that may stand in a name, and a digest of it all. So does a name that ends as those do, or
    whoever may choose its own could pass for another.
    """
    if is_name(text) and not _DERIVED.fullmatch(text):
        return text
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    stem = sub("[^A-Za-z0-9._-]", "-", text[:MOST_NAME]).lstrip("._-") or "tenant"
    return f"{stem}-{digest}"


def _words(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = claims[name]
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
        raise UnusableClaim(f"{name!r} is neither a list of names nor one text of them")
    return tuple(words)


def _class(value: Any, name: str) -> SlaClass:
    try:
        return SlaClass(value)
    except ValueError:
        known = ", ".join(SlaClass)
        raise UnusableClaim(f"{name!r} names something else than {known}") from None


def _weight(claims: Mapping[str, Any], settings: Jwt) -> float:
    name = settings.weight_claim
    if name not in claims:
        return settings.weight
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST_WEIGHT:
        raise UnusableClaim(f"{name!r} is no number above 0 and below {MOST_WEIGHT:g}")
    return float(value)
