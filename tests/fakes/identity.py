"""An identity provider: keys of every kind, the JWKS that tells of them, and the tokens it signs."""

import json
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from router.settings import Jwt, Signing

ISSUER = "https://id.example"
AUDIENCE = "headway"


class _AnyAlgorithm(JWSRegistry):
    """Signs with whatever it is told to, as an attacker would."""

    def get_alg(self, name):
        return self.algorithms[name]

    def check_header(self, header):
        """Find nothing wrong."""


ANY = _AnyAlgorithm(strict_check_header=False)


@cache
def made(algorithm: str, number: int = 0) -> Key:
    """Return a private key for an algorithm: the same one for the same number."""
    if algorithm[:2] in {"RS", "PS"}:
        return RSAKey.generate_key(2048)
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    if algorithm in curves:
        return ECKey.generate_key(curves[algorithm])
    return OKPKey.generate_key("Ed25519")


def public(key: Key, **members: object) -> dict[str, object]:
    """Return a key's public half as a JWKS tells it."""
    return {**key.as_dict(private=False), **members}


def jwks(*members: object) -> bytes:
    """Return a JWKS."""
    return json.dumps({"keys": members}).encode()


def settings(**more: Any) -> Jwt:
    """Return what a router is told of this provider."""
    usual: dict[str, Any] = {"issuer": ISSUER, "audience": (AUDIENCE,), "jwks": "jwks.json"}
    return Jwt(**{"algorithms": tuple(Signing), **usual, **more})


class Identity:
    """Signs tokens; keys may come and go at any time."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "first") -> None:
        self.keys: dict[str | None, tuple[str, Key]] = {}
        self.publish(kid, algorithm)

    def publish(self, kid: str | None, algorithm: str = "ES256", number: int = 0) -> None:
        """Have another key."""
        self.keys[kid] = algorithm, made(algorithm, number)

    @property
    def jwks(self) -> bytes:
        """What is published of the keys."""
        named = [
            (key, {"alg": algorithm, "use": "sig", **({} if kid is None else {"kid": kid})})
            for kid, (algorithm, key) in self.keys.items()
        ]
        return jwks(*(public(key, **members) for key, members in named))

    def token(
        self, now: float, kid: str | None = None, head: Any = None,
        **claims: object,
    ) -> str:  # fmt: skip
        """Return a token that is good for an hour, with other claims; one that is ... is left out."""
        kid = kid or next(iter(self.keys))
        algorithm, key = self.keys[kid]
        named: dict[str, object] = {} if kid is None else {"kid": kid}
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": int(now),
                 "exp": int(now) + 3600}  # fmt: skip
        said = {name: value for name, value in (usual | claims).items() if value is not ...}
        return signed({"alg": algorithm, **named, **(head or {})}, said, key)


def signed(head: dict[str, object], claims: object, key: Key) -> str:
    """Return whatever it is, signed."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jws.serialize_compact(head, payload, key, registry=ANY)
