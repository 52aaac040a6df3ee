"""What is taken of a JWKS, and what is left out, and said of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey

from router.access.jwks import MOST_KEYS, NotAJwks, read_keys
from router.settings import Jwt, Signing
from tests.fakes.identity import jwks, made, public

ALL = tuple(Signing)


@pytest.mark.parametrize(
    ("algorithm", "good_for"),
    [
        ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("ES512", {"ES512"}),
        ("EdDSA", {"EdDSA", "Ed25519"}),
    ],
)
def test_a_key_is_for_the_algorithms_of_its_kind_and_no_others(algorithm, good_for):
    keys = read_keys(jwks(public(made(algorithm), kid="a")), ALL)

    assert {each for kid, each in keys.signers if kid == "a"} == good_for
    assert keys.left_out == ()


def test_a_key_that_names_its_algorithm_is_for_that_alone():
    keys = read_keys(jwks(public(made("RS256"), kid="a", alg="PS256")), ALL)

    assert set(keys.signers) == {("a", "PS256"), (None, "PS256")}


@pytest.mark.parametrize("told", ["EdDSA", "Ed25519"])
def test_an_edwards_key_goes_by_both_of_its_names(told):
    keys = read_keys(jwks(public(made("EdDSA"), kid="a", alg=told)), ALL)

    assert {each for _, each in keys.signers} == {"EdDSA", "Ed25519"}


def test_only_allowed_algorithms_are_taken():
    text = jwks(public(made("RS256"), kid="a"), public(made("ES384"), kid="b"))
    keys = read_keys(text, [Signing.RS256])

    assert {kid for kid, _ in keys.signers} == {"a", None}
    assert keys.left_out == ("keys[1]: is for no algorithm of access.jwt.algorithms",)


EC = public(made("ES256"), kid="a")
RSA: dict[str, Any] = public(made("RS256"), kid="a")
UNUSABLE = {
    "shared secret": (OctKey.generate_key(256).as_dict(kid="a"), "kty"),
    "private": (made("ES256").as_dict(private=True), "private key"),
    "for encryption": ({**EC, "use": "enc"}, "'use'"),
    "for signing": ({**EC, "key_ops": ["sign"]}, "'key_ops'"),
    "operations of no kind": ({**EC, "key_ops": "verify"}, "'key_ops'"),
    "no point of the curve": ({**EC, "x": EC["y"]}, "cannot be read"),
    "half": ({"kty": "EC", "crv": "P-256", "x": EC["x"]}, "cannot be read"),
    "x of another type": ({**EC, "x": 7}, "cannot be read"),
    "another curve": (ECKey.generate_key("secp256k1").as_dict(private=False), "no algorithm"),
    "for agreement": (OKPKey.generate_key("X25519").as_dict(private=False), "no algorithm"),
    "short": ({**RSA, "n": RSA["n"][:171]}, "fewer than 2048 bits"),
    "short and told long": ({**RSA, "n": "A" * 176 + RSA["n"][:168]}, "fewer than 2048 bits"),
    "long": ({**RSA, "n": "_" * 1400}, "has 8400 bits"),
    "alg of another kind": ({**EC, "alg": "RS256"}, "no algorithm"),
    "alg of HMAC": ({**EC, "alg": "HS256"}, "no algorithm"),
    "alg of no type": ({**EC, "alg": ["ES256"]}, "'alg'"),
    "kid of no type": ({**EC, "kid": 7}, "'kid'"),
    "kty of no type": ({**EC, "kty": ["EC"]}, "'kty'"),
    "no object": ("key", "no object"),
}


@pytest.mark.parametrize(("member", "said"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_left_out_and_the_others_are_taken(member, said):
    keys = read_keys(jwks(member, public(made("RS256"), kid="good")), ALL)

    assert {kid for kid, _ in keys.signers} == {"good", None}
    (sentence,) = keys.left_out
    assert sentence.startswith("keys[0]: ")
    assert said in sentence


def test_one_id_for_two_keys_names_neither():
    text = jwks(public(made("ES256"), kid="a"), public(made("ES256", 1), kid="a"))
    keys = read_keys(text, ALL)

    assert keys.signers == {}
    assert keys.left_out == ("kid 'a' names 2 keys for ES256",)


def test_one_id_for_keys_of_two_kinds_names_both():
    text = jwks(public(made("ES256"), kid="a"), public(made("RS256"), kid="a"))
    signers = read_keys(text, ALL).signers

    assert signers["a", "ES256"].thumbprint != signers["a", "RS256"].thumbprint


def test_a_key_that_is_told_twice_is_one():
    twice = public(made("ES256"), kid="a")
    keys = read_keys(jwks(twice, twice), ALL)

    assert len(keys.thumbprints) == 1
    assert set(keys.signers) == {("a", "ES256"), (None, "ES256")}


def test_without_an_id_a_key_is_found_only_where_there_is_no_other():
    one = read_keys(jwks(public(made("ES256"))), ALL)
    two = read_keys(jwks(public(made("ES256")), public(made("ES256", 1), kid="b")), ALL)

    assert set(one.signers) == {(None, "ES256")}
    assert set(two.signers) == {("b", "ES256")}


@pytest.mark.parametrize(
    "text", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', jwks(*[{}] * (MOST_KEYS + 1))],
    ids=["empty", "a page", "a list", "an object", "keys that are no list", "too many"],
)  # fmt: skip
def test_what_is_no_jwks_is_told(text):
    with pytest.raises(NotAJwks):
        read_keys(text, ALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kty", "kid", "alg", "use", "crv", "x", "y", "n", "e", "key_ops"]),
            each,
        )
    ),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3))
def test_no_members_break_the_reading(members):
    assert read_keys(json.dumps({"keys": members}).encode(), ALL).signers == {}


def test_by_default_nothing_but_signatures_of_public_keys_is_taken():
    default = Jwt("i", ("a",), "j").algorithms

    assert set(default) == {"RS256", "ES256", "EdDSA", "Ed25519"}
    assert not [each for each in Signing if each.startswith("HS") or each == "none"]
