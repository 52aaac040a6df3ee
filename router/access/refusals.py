"""What a caller is told that is not let in, or not any further: OpenAI's shapes and codes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from policies.facts import SlaClass
from policies.keys import Key
from policies.quotas import Kind, Limited
from router.access.keyring import Failure
from router.errors import TYPES, Problem, listed, problem, shown

_INVALID: Final = problem(
    401, "incorrect API key provided; ask whoever runs this router for another", "invalid_api_key"
)
_CHALLENGE: Final = b'www-authenticate: Bearer error="invalid_token"\r\n'
"""Source: RFC 6750, section 3."""


def _token_refused(message: str, code: str = "invalid_token") -> Problem:
    return replace(problem(401, message, code), lines=_CHALLENGE)


REFUSALS: Final[Mapping[Failure, Problem]] = {
    Failure.MISSING: problem(
        401,
        "no API key was sent; send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'",
        "missing_api_key",
    ),
    Failure.MALFORMED: _INVALID,
    Failure.WRONG: _INVALID,
    Failure.EXPIRED: problem(401, "the API key has expired", "expired_api_key"),
    Failure.REVOKED: problem(401, "the API key was revoked", "revoked_api_key"),
    Failure.MALFORMED_TOKEN: _token_refused(
        "the token is not a signed JSON Web Token that can be read, with an expiry ('exp'), of 8 KB"
        " at most; send what the issuer gave out, unchanged"
    ),
    Failure.WRONG_TOKEN: _token_refused(
        "the token's signature does not hold, or is of a kind that is not taken here; get another"
        " token from the issuer"
    ),
    Failure.STRANGE_TOKEN: _token_refused(
        "the token is from another issuer ('iss') or for another audience ('aud') than this"
        " router's; get one that is for this router"
    ),
    Failure.EARLY_TOKEN: _token_refused(
        "the token is not good yet ('nbf' or 'iat' is ahead); wait, or set the issuer's clock right"
    ),
    Failure.EXPIRED_TOKEN: _token_refused(
        "the token has expired; get another one from the issuer", "expired_token"
    ),
    Failure.UNUSABLE_TOKEN: _token_refused(
        "the token is good, but what it says of its holder is not understood; ask whoever runs this"
        " router, whose log names the claim"
    ),
    Failure.UNKNOWN_SIGNER: replace(
        _token_refused(
            "the token names a signing key ('kid') that the issuer had not published when it was"
            " last asked; if it has by now, come back in a second, else get another token"
        ),
        retry_after_s=1.0,
        should_retry=True,
    ),
    Failure.CROWDED_OUT: replace(
        problem(
            503,
            "too many tokens that were not seen before are to be verified; come back in a second",
            "too_many_new_tokens",
        ),
        retry_after_s=1.0,
        should_retry=True,
    ),
}
_WHAT: Final[Mapping[Kind, str]] = {
    Kind.REQUESTS: "requests per minute",
    Kind.TOKENS: "tokens per minute",
    Kind.DAY: "tokens per day",
    Kind.CONCURRENT: "requests at once",
}


def model_refused(model: str, key: Key) -> Problem:
    """Answer a model that a key is not good for; whether it exists is not told."""
    message = (
        f"{_named(key)} may not use model {shown(model)}; it may use"
        f" {listed(key.entitlement.models)}"
    )
    return problem(403, message, "model_not_allowed", "model")


def class_refused(asked: SlaClass, key: Key) -> Problem:
    """Answer a class that a key is not good for."""
    allowed = ", ".join(key.entitlement.granted) or "none"
    message = f"{_named(key)} may not ask for class {asked.value!r}; it may ask for {allowed}"
    return problem(403, message, "class_not_allowed", "x-sla-class")


def _named(key: Key) -> str:
    """Return what its holder knows it by: what no secret of the router's proves is a token's."""
    return f"key {key.id!r}" if key.proofs else f"a token of tenant {key.tenant!r}"


def limited(over: Limited, lines: bytes) -> Problem:
    """Answer a request over a limit; `lines` tell of all limits.

    A day's budget is not worth waiting for in a client library, and what is more than the limit
    itself never fits.
    """
    is_quota = over.kind is Kind.DAY
    waits = "" if over.wait_s is None else f"; try again in {over.wait_s:.1f} s"
    message = (
        f"limit reached for {over.whose} on {_WHAT[over.kind]}: limit {over.limit},"
        f" left {over.left}, asked for {over.asked}{waits}"
    )
    if over.wait_s is None:
        message += "; it is more than the limit itself: ask for less, with a smaller max_tokens"
    return Problem(
        status=429,
        type="insufficient_quota" if is_quota else _TYPES.get(over.kind, TYPES[429][0]),
        message=message,
        code="insufficient_quota" if is_quota else "rate_limit_exceeded",
        retry_after_s=over.wait_s,
        should_retry=not is_quota and over.wait_s is not None,
        lines=lines,
    )


_TYPES: Final[Mapping[Kind, str]] = {Kind.REQUESTS: "requests", Kind.TOKENS: "tokens"}
"""OpenAI's words."""
