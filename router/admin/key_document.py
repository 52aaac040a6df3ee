"""Keys as an operator writes and sees them; neither has a secret in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Final

from annotated_types import Ge, Gt, Len
from pydantic import ConfigDict, TypeAdapter

from policies.facts import SlaClass
from policies.keys import CLASSES, Allowance, Entitlement, Key
from router.document import FORBIDDING, Document
from router.settings import Name, Text

Amount = Annotated[int, Ge(1)] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDocument:
    """What is said of a key."""

    __pydantic_config__: ClassVar[ConfigDict] = FORBIDDING

    tenant: Name
    """Whose it is: requests are counted, and served fairly, by tenant."""
    models: Annotated[tuple[Text, ...], Len(1)] = ("*",)
    """Models that it may use; `*` and `?` stand for any characters."""
    classes: Annotated[tuple[SlaClass, ...], Len(1)] = CLASSES
    """Classes that it may ask for."""
    highest_class: SlaClass = SlaClass.INTERACTIVE
    """The highest among them."""
    requests_per_minute: Amount = None
    """None: as many as there is room for; so for the next three."""
    tokens_per_minute: Amount = None
    """Prompt and answer together."""
    tokens_per_day: Amount = None
    """The same, for a day of UTC."""
    concurrent: Amount = None
    """Requests at once."""
    weight: Annotated[float, Gt(0)] = 1.0
    """What it may use beside other tenants while there is not enough, relative to theirs."""
    expires_at_s: Annotated[float, Ge(0)] | None = None
    """Since 1970; None: never."""
    labels: Mapping[Text, Annotated[str, Len(0, 512)]] = field(default_factory=dict)
    """Anything that helps people; at most what a header could hold."""


DOCUMENT: Final = Document(KeyDocument)


def key_schema() -> dict[str, Any]:
    """Return what a key's document looks like, as JSON Schema."""
    return TypeAdapter(KeyDocument).json_schema()


def read_key(document: Mapping[str, Any], key: Key) -> Key:
    """Return a key with what a document says of it; raises `ConfigError`."""
    said = DOCUMENT.read("", document)
    return replace(
        key,
        tenant=said.tenant,
        entitlement=Entitlement(said.models, said.classes, said.highest_class),
        allowance=Allowance(
            said.requests_per_minute, said.tokens_per_minute, said.tokens_per_day, said.concurrent
        ),
        weight=said.weight,
        expires_at_s=said.expires_at_s,
        labels=said.labels,
    )


def write_key(key: Key) -> dict[str, Any]:
    """Return the document that says the same of a key."""
    entitlement, allowance = key.entitlement, key.allowance
    return DOCUMENT.write(
        KeyDocument(
            tenant=key.tenant,
            models=entitlement.models,
            classes=entitlement.classes,
            highest_class=entitlement.highest_class,
            requests_per_minute=allowance.requests_per_minute,
            tokens_per_minute=allowance.tokens_per_minute,
            tokens_per_day=allowance.tokens_per_day,
            concurrent=allowance.concurrent,
            weight=key.weight,
            expires_at_s=key.expires_at_s,
            labels=key.labels,
        )
    )


def state_of(key: Key, now_s: float) -> str:
    """Return how a key stands."""
    if key.revoked_at_s is not None:
        return "revoked"
    if key.expires_at_s is not None and key.expires_at_s <= now_s:
        return "expired"
    return "active"
