"""The keys that are known in this process, and who it is that presents one.

A wrong key costs one digest and no more, whatever it looks like; that its id exists, or that it
was revoked, is told to nobody who does not hold the secret.
All state is changed here, in methods that never await.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import inf
from typing import Final

from policies.facts import RequestFacts, SlaClass
from policies.keys import CLASSES, Allowance, Key, may_use
from policies.quotas import Quota
from router.access.secret import digest_of, id_in, is_same
from router.access.told import Telling

TOKENS_PER_BYTE: Final = 0.27
"""Before anything is known of a text: see `policies.lengths`."""
FIRST_ANSWER_TOKENS: Final = 256
"""What an answer is thought to take before any was seen."""
LEARNING_SHIFT: Final = 3
"""One part in 2 to the power of this is the weight of the newest answer."""
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
    MALFORMED_TOKEN = "malformed_token"  # noqa: S105 # a reason
    WRONG_TOKEN = "wrong_token"  # noqa: S105 # a reason
    """Not signed by the key that it names, or in a way that is not allowed."""
    STRANGE_TOKEN = "strange_token"  # noqa: S105 # a reason
    """From another issuer, or for somebody else."""
    EARLY_TOKEN = "early_token"  # noqa: S105 # a reason
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 # a reason
    UNUSABLE_TOKEN = "unusable_token"  # noqa: S105 # a reason
    """What it says of its holder is not understood."""
    UNKNOWN_SIGNER = "unknown_signer"
    """Signed by a key that the issuer had not published when it was last asked."""
    CROWDED_OUT = "crowded_out"
    """There were too many tokens that were not seen before."""


class Use:
    """What one tenant used of this router."""

    __slots__ = ("requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0


class Holder:
    """Who holds a key, and what was used of it by way of this router."""

    __slots__ = (
        "_models",
        "answer_tokens",
        "ceiling",
        "counts_tokens",
        "is_held",
        "key",
        "learned",
        "quotas",
        "telling",
        "use",
    )

    def __init__(self, key: Key, quotas: tuple[Quota, ...]) -> None:
        self.key = key
        self.quotas = quotas
        """Those that limit anything: the key's own, its tenant's."""
        self.ceiling: SlaClass | None = key.entitlement.ceiling
        self.is_held = key.entitlement.granted != CLASSES
        """Whether there is a class that it may not ask for."""
        self.counts_tokens = any(each.counts_tokens for each in quotas)
        self.use: Use | None = None
        """Its tenant's; None before the first request."""
        self.answer_tokens = FIRST_ANSWER_TOKENS
        """What an answer took lately."""
        self.learned = FIRST_ANSWER_TOKENS << LEARNING_SHIFT
        """The same, in smaller parts."""
        self.telling = Telling(quotas)
        """What its answers tell of its limits."""
        self._models: dict[str, bool] = {}

    def may_use(self, model: str) -> bool:
        """Tell whether it may ask for a model."""
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= MOST_MODELS:
                self._models.clear()
            known = self._models[model] = may_use(model, self.key.entitlement)
        return known

    def estimate(self, facts: RequestFacts) -> int:
        """Return the tokens that a request is thought to take, prompt and answer; at least 1."""
        prompt = facts.known_prompt_tokens
        if prompt is None:
            prompt = 1 + int(facts.prompt_bytes * TOKENS_PER_BYTE)
        answer, most = self.answer_tokens, facts.max_tokens
        if most is not None and most < answer:
            answer = most
        return prompt + answer * facts.choices

    def saw_answer(self, tokens: int) -> None:
        """Learn how long answers are."""
        self.learned += tokens - self.answer_tokens
        self.answer_tokens = self.learned >> LEARNING_SHIFT

    def saw_as_much_as(self, before: "Holder") -> None:
        """Go on from what the holder of the key before its change has seen."""
        self.learned, self.answer_tokens = before.learned, before.answer_tokens


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
            holder.saw_as_much_as(before[0].holder)
        passes = []
        for proof in key.proofs:
            until = key.good_until_s(proof)
            digest = bytes.fromhex(proof.digest)
            passes.append(Pass(digest, inf if until is None else until, holder))
        for each in before:
            each.until = -inf
        if key.revoked_at_s is not None:
            # Nobody comes in by it any more; who is in settles with what it holds.
            self._quotas.pop(_name(key), None)
        self._passes[key.id] = passes
        self.keys[key.id] = key

    def holder_of(self, key: Key) -> Holder:
        """Return who holds a key, with the limits that are kept for it and for its tenant."""
        quotas = []
        own = self._quota(_name(key), f"key {key.id!r}", key.allowance)
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


def _name(key: Key) -> str:
    """Return the name of a key's own limits."""
    return f"key:{key.id}"
