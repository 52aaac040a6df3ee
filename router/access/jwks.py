"""An issuer's public keys as its JWKS tells them, each for the algorithms that it is for.

A token says which key and which algorithm it was signed with; both together name a key here or
none, so that no key is ever used in another way than its own. What cannot be used is left out and
told of, for an issuer may publish keys that are not for tokens.
Sources: RFC 7517 (JWK), sections 4 and 5; RFC 8725 (best practices), section 3.1.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key, RSAKey

from router.settings import Signing

MOST_KEYS: Final = 64
LEAST_RSA_BITS: Final = 2048
"""Source: NIST SP 800-131A."""
MOST_RSA_BITS: Final = 8192
"""What is far longer takes milliseconds for each token."""
_BITS_A_CHARACTER: Final = 6
"""Of base64."""
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_OF_CURVE: Final[Mapping[object, frozenset[str]]] = {
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"EdDSA", "Ed25519"}),
}


class NotAJwks(Exception):
    """What was read is no JWKS; the text says why."""


class _Unusable(Exception):
    """One key cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A public key that tokens are verified with."""

    key: Key
    thumbprint: str
    """The same wherever the key is the same. Source: RFC 7638."""


@dataclass(frozen=True, slots=True)
class SignersKeys:
    """All keys of an issuer that can be used."""

    signers: Mapping[tuple[str | None, str], Signer] = field(default_factory=dict)
    """By id and algorithm; without an id where there is but one for the algorithm."""
    left_out: tuple[str, ...] = ()
    """Why others were not taken, a sentence each."""

    @property
    def thumbprints(self) -> frozenset[str]:
        """The keys, each once."""
        return frozenset(each.thumbprint for each in self.signers.values())


def read_keys(text: bytes, allowed: Collection[Signing]) -> SignersKeys:
    """Return the keys in a JWKS that are for an allowed algorithm; raises `NotAJwks`."""
    found: dict[tuple[str | None, str], dict[str, Signer]] = {}
    left_out = []
    for number, member in enumerate(_members(text)):
        try:
            signer, algorithms = _signer(member, allowed)
        except _Unusable as why:
            left_out.append(f"keys[{number}]: {why}")
            continue
        kid = member.get("kid")
        for algorithm in algorithms:
            for name in {kid, None}:
                found.setdefault((name, algorithm), {})[signer.thumbprint] = signer
    signers = {}
    for (name, algorithm), those in found.items():
        if len(those) == 1:
            (signers[name, algorithm],) = those.values()
        elif name is not None:
            # Whichever of them was taken, it might be the one that the issuer took for replaced.
            left_out.append(f"kid {name!r} names {len(those)} keys for {algorithm}")
    return SignersKeys(signers, tuple(left_out))


def _members(text: bytes) -> list[Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotAJwks(f"it is not JSON: {error}") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise NotAJwks("it is no JWKS, which is an object with a list of 'keys'")
    if len(members) > MOST_KEYS:
        raise NotAJwks(f"it holds {len(members)} keys; at most {MOST_KEYS} are taken")
    return members


def _signer(member: Any, allowed: Collection[Signing]) -> tuple[Signer, frozenset[str]]:
    """Return a key and the algorithms that it is for; raises `_Unusable`."""
    if not isinstance(member, dict):
        raise _Unusable("is no object")
    for flaw in _flaws(member):
        raise _Unusable(flaw)
    try:
        key = JWKRegistry.import_key(member)
        algorithms = _algorithms(key)
        thumbprint = key.thumbprint()
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _Unusable(f"cannot be read ({type(error).__name__})") from None
    if "alg" in member:
        same = {"EdDSA", "Ed25519"}
        told = same if member["alg"] in same else {member["alg"]}
        algorithms &= told
    usable = algorithms & set(allowed)
    if not usable:
        raise _Unusable("is for no algorithm of access.jwt.algorithms")
    return Signer(key, thumbprint), usable


def _flaws(member: Mapping[str, Any]) -> Iterator[str]:
    """Yield what can be said of a key before it is read."""
    if not isinstance(member.get("kid", ""), str):
        yield "has a 'kid' that is no text"
    if not isinstance(member.get("alg", ""), str):
        yield "has an 'alg' that is no text"
    if member.get("kty") not in ("RSA", "EC", "OKP"):
        yield "is no public key for signatures ('kty' RSA, EC or OKP)"
    if "d" in member:
        yield "is a private key, and good for nobody any more"
    modulus = member.get("n")
    # An A is six zeros, and at the beginning they make no number longer.
    if isinstance(modulus, str) and len(modulus.lstrip("A")) * _BITS_A_CHARACTER < LEAST_RSA_BITS:
        yield f"has fewer than {LEAST_RSA_BITS} bits"
    if member.get("use", "sig") != "sig":
        yield "is not for signatures ('use')"
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        yield "is not for verifying ('key_ops')"


def _algorithms(key: Key) -> frozenset[str]:
    """Return the algorithms that a key can be for; raises `_Unusable` where it is too long."""
    if isinstance(key, RSAKey):
        bits = key.public_key.key_size
        if bits > MOST_RSA_BITS:
            raise _Unusable(f"has {bits} bits, more than {MOST_RSA_BITS}")
        return _RSA
    return _OF_CURVE.get(key.as_dict(private=False).get("crv"), frozenset())
