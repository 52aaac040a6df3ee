"""What the holder of a key may ask for: models, classes, amounts. Facts in, decisions out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated

from annotated_types import Ge, Gt, Len

from policies.facts import SlaClass

CLASSES = tuple(SlaClass)
"""From the highest on."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a key or a tenant may use; None: as much as there is."""

    requests_per_minute: Annotated[int, Ge(1)] | None = None
    tokens_per_minute: Annotated[int, Ge(1)] | None = None
    """Prompt and answer together, as engines count them."""
    tokens_per_day: Annotated[int, Ge(1)] | None = None
    """The same, for a day of UTC."""
    concurrent: Annotated[int, Ge(1)] | None = None
    """Requests that run or wait at once."""

    @property
    def is_unlimited(self) -> bool:
        """Whether there is nothing to count."""
        return self == UNLIMITED


UNLIMITED = Allowance()


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What a caller may ask for."""

    models: Annotated[tuple[str, ...], Len(1)] = ("*",)
    """Names as in a shell: `*` and `?` stand for any."""
    classes: Annotated[tuple[SlaClass, ...], Len(1)] = CLASSES
    highest_class: SlaClass = SlaClass.INTERACTIVE
    """What is asked above it is lowered, or refused; see `entitled`."""

    @property
    def granted(self) -> tuple[SlaClass, ...]:
        """The classes that may be served, from the highest on."""
        top = CLASSES.index(self.highest_class)
        return tuple(each for each in CLASSES[top:] if each in self.classes)

    @property
    def ceiling(self) -> SlaClass | None:
        """The highest class; None where there is none at all."""
        return next(iter(self.granted), None)


def entitled(asked: SlaClass, entitlement: Entitlement) -> SlaClass | None:
    """Return the class to serve: the highest granted that is not above what was asked.

    None where every granted class is above: nobody is given more than was asked for.
    """
    below = CLASSES[CLASSES.index(asked) :]
    return next((each for each in below if each in entitlement.granted), None)


def may_use(model: str, entitlement: Entitlement) -> bool:
    """Tell whether a model is among those allowed."""
    return any(fnmatchcase(model, each) for each in entitlement.models)


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows that somebody holds a key: the digest of its secret, never the secret."""

    digest: str = field(repr=False)
    """Hexadecimal."""
    until_s: float | None = None
    """Since 1970; None: as long as the key."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept. Times are since 1970."""

    id: str
    tenant: str
    proofs: tuple[Proof, ...] = ()
    """The present one first; one that was rotated out may be good for a while."""
    entitlement: Entitlement = Entitlement()
    allowance: Allowance = UNLIMITED
    weight: Annotated[float, Gt(0)] = 1.0
    """What its tenant may use beside others, relative to theirs, while there is not enough."""
    created_at_s: float = 0.0
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1
    """Of this key, ascending: who changes it says which one it changed."""

    def good_until_s(self, proof: Proof) -> float | None:
        """Return until when a proof opens anything; None: for ever."""
        ends = [self.expires_at_s, self.revoked_at_s, proof.until_s]
        return min((each for each in ends if each is not None), default=None)
