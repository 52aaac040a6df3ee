"""The keys that are known in this process, and who it is that presents one.

A wrong key costs one digest and no more, whatever it looks like; that its id exists, or that it
was revoked, is told to nobody who does not hold the secret.
All state is changed here, in methods that never await.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import inf
from typing import Final

from policies.facts import SlaClass
from policies.keys import Allowance, Key, may_use
from policies.quotas import Quota
from router.access.secret import digest_of, id_in, is_same

FIRST_ANSWER_TOKENS: Final = 256.0
"""What an answer is thought to take before any was seen."""
LEARNING: Final = 0.1
"""Weight of the newest answer."""
MOST_MODELS: Final = 256
"""Names remembered of one holder, right and wrong ones."""


class Failure(StrEnum):
    """Why nobody is let in."""

    MISSING = "missing"
    MALFORMED = "malformed"
    """It does not look like a key."""
    WRONG = "wrong"
    """No such key, or another secret."""
    EXPIRED = "expired"
    REVOKED = "revoked"
    TOKEN = "token"  # noqa: S105 # the kind of credential
    """A token of an identity provider that does not hold."""


class Holder:
    """Who holds a key, and what was used of it by way of this router."""

    __slots__ = ("_models", "answer_tokens", "ceiling", "has_gaps", "key", "quotas")

    def __init__(self, key: Key, quotas: tuple[Quota, ...]) -> None:
        self.key = key
        self.quotas = quotas
        """Those that limit anything: the key's own, its tenant's."""
        self.ceiling: SlaClass | None = key.entitlement.ceiling
        self.has_gaps = key.entitlement.has_gaps
        self.answer_tokens = FIRST_ANSWER_TOKENS
        """What an answer took lately."""
        self._models: dict[str, bool] = {}

    def may_use(self, model: str) -> bool:
        """Tell whether it may ask for a model."""
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= MOST_MODELS:
                self._models.clear()
            known = self._models[model] = may_use(model, self.key.entitlement)
        return known

    def saw_answer(self, tokens: int) -> None:
        """Learn how long answers are."""
        self.answer_tokens += LEARNING * (tokens - self.answer_tokens)


class Pass:
    """What one secret opens. Kept by those who saw it, so that it is made void in its place."""

    __slots__ = ("digest", "holder", "until")

    def __init__(self, digest: bytes, until: float, holder: Holder) -> None:
        self.digest = digest
        self.until = until
        """Since 1970; a pass that is void ended before all time."""
        self.holder = holder


NOBODY: Final = bytes(32)
"""What the digest of an unknown key is compared with."""


class Keyring:
    """All keys by id."""

    def __init__(self, pepper: bytes, tenants: Mapping[str, Allowance], count: int = 1) -> None:
        self._pepper = pepper
        self._tenants = tenants
        self._count = count
        self._passes: dict[str, list[Pass]] = {}
        self._quotas: dict[str, Quota] = {}
        """By name: of keys and of tenants."""
        self.keys: dict[str, Key] = {}

    @property
    def quotas(self) -> Iterable[Quota]:
        """All limits that are kept."""
        return self._quotas.values()

    def adopt(self, key: Key) -> None:
        """Take up a key as it is from here on; what was used of it stays used."""
        before = self._passes.get(key.id, [])
        holder = self.holder_of(key)
        if before:
            holder.answer_tokens = before[0].holder.answer_tokens
        passes = []
        for proof in key.proofs:
            until = key.good_until_s(proof)
            digest = bytes.fromhex(proof.digest)
            passes.append(Pass(digest, inf if until is None else until, holder))
        for each in before:
            each.until = -inf
        self._passes[key.id] = passes
        self.keys[key.id] = key

    def holder_of(self, key: Key) -> Holder:
        """Return who holds a key, with the limits that are kept for it and for its tenant."""
        quotas = []
        own = self._quota(f"key:{key.id}", f"key {key.id!r}", key.allowance)
        theirs = self._tenants.get(key.tenant)
        if own is not None:
            quotas.append(own)
        if theirs is not None:
            tenant = self._quota(f"tenant:{key.tenant}", f"tenant {key.tenant!r}", theirs)
            if tenant is not None:
                quotas.append(tenant)
        return Holder(key, tuple(quotas))

    def _quota(self, name: str, whose: str, allowance: Allowance) -> Quota | None:
        if allowance.is_unlimited:
            self._quotas.pop(name, None)
            return None
        known = self._quotas.get(name)
        if known is None or not known.is_for(allowance):
            known = self._quotas[name] = Quota(name, whose, allowance, self._count)
        return known

    def find(self, text: bytes, now: float) -> Pass | Failure:
        """Return what a key opens; `now` is since 1970."""
        id_ = id_in(text)
        if id_ is None:
            return Failure.MALFORMED
        digest = digest_of(text, self._pepper)
        passes = self._passes.get(id_)
        if not passes:
            is_same(digest, NOBODY)
            return Failure.WRONG
        for each in passes:
            if is_same(digest, each.digest):
                if now < each.until:
                    return each
                revoked = each.holder.key.revoked_at_s
                return Failure.EXPIRED if revoked is None else Failure.REVOKED
        return Failure.WRONG

    def share_among(self, count: int) -> None:
        """Reckon with so many routers that share every limit."""
        self._count = max(1, count)
        for quota in self._quotas.values():
            quota.share_among(self._count)
