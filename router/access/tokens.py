"""Tokens of an identity provider, and who it is that presents one.

A token that was seen before is found by its digest; one that was not is read and verified, here and
now, for that takes a tenth of a millisecond. Anybody can send those, so together they have a small
share of the time, and are told to come back where it is used up: a flood of them costs the process
that share, and holders of tokens that are known nothing. What a token says is believed only once
its signature holds, and remembered no longer than the token is good.
All state is changed here, in methods that never await.
Sources: RFC 7519 (JWT), section 7.2; RFC 8725 (best practices), section 3; RFC 9068, section 2.1.
"""

import asyncio
import logging
from collections.abc import Callable
from hashlib import blake2b
from math import inf
from typing import Any, Final

import orjson
from joserfc import jws
from joserfc.errors import (
    ExpiredTokenError,
    InvalidClaimError,
    JoseError,
    UnsupportedAlgorithmError,
)
from joserfc.jws import CompactSignature, JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from policies.keys import Entitlement
from router.access.allotment import Allotment
from router.access.claims import UnusableClaim, key_of
from router.access.jwks import Signer, SignersKeys
from router.access.keyring import Failure, Holder, Keyring, Pass
from router.access.time_share import TimeShare
from router.settings import Jwt

logger = logging.getLogger("headway.access")

MOST_BYTES: Final = 8192
"""Of a token: what servers take as a header."""
MOST_LIFE_S: Final = 86_400.0
"""A token that is good for longer is verified again."""
MOST_PASSES: Final = 16_384
"""Tokens remembered as good; the oldest makes room, and is verified again where it comes again."""
MOST_REFUSED: Final = 4096
"""Tokens remembered as no good."""
MOST_HOLDERS: Final = 4096
NOTES_PER_S: Final = 1.0
"""Tokens whose claims are not understood, of which each is written down."""
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""What a token may say that it is: neither a logout nor another message of the issuer's."""
_PASSING: Final = frozenset({Failure.EARLY_TOKEN, Failure.UNKNOWN_SIGNER})
"""What the same token may not be refused for a moment later."""


class _Registry(JWSRegistry):
    """The library's algorithms; it warns of `EdDSA`, by which issuers call what RFC 9864 renamed."""

    max_header_length = 2048
    """Of the head, encoded: some issuers put a certificate's digests in."""

    def get_alg(self, name: str) -> Any:
        """Return an algorithm that is allowed."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


class Tokens:
    """Tokens of one issuer, as far as they were seen."""

    def __init__(self, settings: Jwt, keyring: Keyring, clock: Callable[[], float]) -> None:
        """`keyring` keeps the limits of tenants; `clock` is what time is measured with."""
        self._settings = settings
        self._keyring = keyring
        self._clock = clock
        self._algorithms = frozenset(map(str, settings.algorithms))
        self._registry = _Registry(algorithms=self._algorithms, strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            now=lambda: self._now,
            leeway=settings.leeway_s,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "values": list(settings.audience)},
            exp={"essential": True},
        )
        self._now = 0
        """For the claims that are being judged, since 1970."""
        self._share = TimeShare(settings.max_share)
        self._notes = Allotment(NOTES_PER_S)
        self._passes: dict[bytes, tuple[Pass, str]] = {}
        """By digest, the oldest first: what a token opens, and the thumbprint of its signer."""
        self._refused: dict[bytes, Failure] = {}
        self._holders: dict[tuple[str, Entitlement, float], Holder] = {}
        self.keys = SignersKeys()
        self.lacking = asyncio.Event()
        """Set when a token was signed by a key that is not known."""

    @property
    def known(self) -> int:
        """Tokens that are remembered as good."""
        return len(self._passes)

    def adopt(self, keys: SignersKeys) -> int:
        """Verify with these keys from here on.

        What others signed opens nothing any more; returns how many tokens that were.
        """
        self.keys = keys
        self._refused.clear()
        kept = keys.thumbprints
        void = [digest for digest, (_, signer) in self._passes.items() if signer not in kept]
        for digest in void:
            self._forget(digest)
        return len(void)

    def sweep(self, now: float) -> None:
        """Forget tokens that have expired; `now` is since 1970."""
        for digest in [digest for digest, (each, _) in self._passes.items() if now >= each.until]:
            self._forget(digest)

    def find(self, text: bytes, now: float) -> Pass | Failure:
        """Return what a token opens; `now` is since 1970."""
        if len(text) > MOST_BYTES:
            return Failure.MALFORMED_TOKEN
        digest = blake2b(text, digest_size=32).digest()
        known = self._passes.get(digest)
        if known is not None:
            if now < known[0].until:
                return known[0]
            self._forget(digest)
        refused = self._refused.get(digest)
        if refused is not None:
            return refused
        began = self._clock()
        if not self._share.has_any(began):
            return Failure.CROWDED_OUT
        found = self._read(text, digest, now)
        self._share.spent(self._clock() - began)
        if isinstance(found, Failure) and found not in _PASSING:
            if len(self._refused) >= MOST_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused[digest] = found
        return found

    def _read(self, text: bytes, digest: bytes, now: float) -> Pass | Failure:
        """Read and verify a token; what costs least comes first."""
        try:
            token = jws.extract_compact(text, registry=self._registry)
            claims = orjson.loads(token.payload)
            head: Any = token.protected
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            return Failure.MALFORMED_TOKEN
        if not isinstance(head, dict) or not isinstance(claims, dict):
            return Failure.MALFORMED_TOKEN
        signer = self._signer(head)
        if isinstance(signer, Failure):
            return signer
        failure = self._judge(claims, now)
        if failure is None:
            failure = self._verify(token, signer)
        if failure is not None:
            return failure
        try:
            holder = self._holder(claims)
        except UnusableClaim as why:
            if self._notes.has_one(now):
                logger.warning("token's claims are not understood", extra={"reason": str(why)})
            return Failure.UNUSABLE_TOKEN
        until = min(claims["exp"], now + MOST_LIFE_S) + self._settings.leeway_s
        return self._remember(Pass(digest, float(until), holder), signer)

    def _signer(self, head: dict[str, Any]) -> Signer | Failure:
        """Return whose signature a token's must be."""
        algorithm, kid, kind = head.get("alg"), head.get("kid"), head.get("typ", "")
        if "crit" in head or "b64" in head:  # extensions, none of which is understood here
            return Failure.WRONG_TOKEN
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            return Failure.WRONG_TOKEN
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            return Failure.WRONG_TOKEN
        if kid is not None and not isinstance(kid, str):
            return Failure.MALFORMED_TOKEN
        signer = self.keys.signers.get((kid, algorithm))
        if signer is None:
            self.lacking.set()
            return Failure.UNKNOWN_SIGNER
        return signer

    def _judge(self, claims: dict[str, Any], now: float) -> Failure | None:
        """Return why a token is not for here and now, if it is not."""
        self._now = int(now)
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            return Failure.EXPIRED_TOKEN
        except InvalidClaimError as error:
            return _OF_CLAIM.get(error.claim, Failure.MALFORMED_TOKEN)
        except JoseError:
            return Failure.MALFORMED_TOKEN
        return None

    def _verify(self, token: CompactSignature, signer: Signer) -> Failure | None:
        try:
            holds = jws.validate_compact(token, signer.key, registry=self._registry)
        except (JoseError, ValueError, TypeError):
            return Failure.WRONG_TOKEN
        return None if holds else Failure.WRONG_TOKEN

    def _holder(self, claims: dict[str, Any]) -> Holder:
        """Return who holds a token: the same for all that say the same; raises `UnusableClaim`."""
        key = key_of(claims, self._settings)
        same = key.tenant, key.entitlement, key.weight
        holder = self._holders.get(same)
        if holder is None:
            if len(self._holders) >= MOST_HOLDERS:
                self._holders.clear()
            holder = self._holders[same] = self._keyring.holder_of(key)
        return holder

    def _remember(self, opened: Pass, signer: Signer) -> Pass:
        if len(self._passes) >= MOST_PASSES:
            self._forget(next(iter(self._passes)))
        self._passes[opened.digest] = opened, signer.thumbprint
        return opened

    def _forget(self, digest: bytes) -> None:
        """Make a pass void wherever it is kept, for it cannot be taken back from here later."""
        self._passes.pop(digest)[0].until = -inf


_OF_CLAIM: Final = {
    **dict.fromkeys(("iss", "aud"), Failure.STRANGE_TOKEN),
    **dict.fromkeys(("nbf", "iat"), Failure.EARLY_TOKEN),
}
