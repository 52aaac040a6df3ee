"""What a token's claims entitle its holder to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.facts import SlaClass
from policies.keys import Entitlement
from router.access.claims import UnusableClaim, key_of, tenant_name
from router.settings import is_name
from tests.fakes.identity import settings

LEAST = Entitlement(("small",), (SlaClass.BULK,), SlaClass.BULK)


def key(claims=None, **more):
    return key_of({"sub": "ann", **(claims or {})}, settings(**more))


def test_a_token_that_says_nothing_is_good_for_what_is_configured():
    found = key(default=LEAST, weight=2.5)

    assert (found.tenant, found.entitlement, found.weight) == ("ann", LEAST, 2.5)
    assert found.proofs == ()


def test_what_a_token_says_takes_the_place_of_the_default():
    claims = {
        "headway_models": ["a", "b-*"],
        "headway_classes": "standard bulk",
        "headway_highest_class": "standard",
        "headway_weight": 3,
    }
    found = key(claims, default=LEAST)

    assert found.entitlement == Entitlement(
        ("a", "b-*"), (SlaClass.STANDARD, SlaClass.BULK), SlaClass.STANDARD
    )
    assert found.weight == 3.0


def test_a_token_that_names_no_models_or_classes_is_good_for_none():
    found = key({"headway_models": [], "headway_classes": ""})

    assert found.entitlement.models == ()
    assert found.entitlement.granted == ()


def test_claims_may_have_other_names():
    claims = {"https://example.com/models": ["a"], "team": "blue", "azp": "app"}
    found = key(claims, tenant_claims=("team",), models_claim="https://example.com/models")

    assert found.tenant == "blue"
    assert found.entitlement.models == ("a",)


@pytest.mark.parametrize(
    ("claims", "tenant"),
    [
        ({"headway_tenant": "acme", "azp": "app", "client_id": "c"}, "acme"),
        ({"azp": "app", "client_id": "c"}, "app"),
        ({"client_id": "c"}, "c"),
        ({}, "ann"),
    ],
)
def test_the_tenant_is_the_first_claim_that_is_there(claims, tenant):
    assert key(claims).tenant == tenant


BAD = {
    "models no list": {"headway_models": 7},
    "models null": {"headway_models": None},
    "a model no text": {"headway_models": ["a", 7]},
    "class unknown": {"headway_classes": ["urgent"]},
    "class no text": {"headway_classes": [["bulk"]]},
    "highest class unknown": {"headway_highest_class": "urgent"},
    "highest class null": {"headway_highest_class": None},
    "weight no number": {"headway_weight": "3"},
    "weight true": {"headway_weight": True},
    "weight 0": {"headway_weight": 0},
    "weight below": {"headway_weight": -1.0},
    "weight everything": {"headway_weight": 1e300},
    "tenant no text": {"headway_tenant": 7},
    "tenant null": {"headway_tenant": None},
    "tenant empty": {"headway_tenant": ""},
}


@pytest.mark.parametrize("claims", BAD.values(), ids=BAD)
def test_a_claim_that_is_not_understood_is_never_passed_over(claims):
    with pytest.raises(UnusableClaim) as told:
        key(claims)

    (name,) = claims
    assert repr(name) in str(told.value)
    assert "urgent" not in str(told.value)


def test_a_token_of_nobody_is_of_no_use():
    with pytest.raises(UnusableClaim, match="none of 'headway_tenant', 'azp', 'client_id', 'sub'"):
        key_of({}, settings())


@pytest.mark.parametrize("text", ["acme", "5f7c8ec7-c33c", "a.b_c"])
def test_a_name_is_the_tenants(text):
    assert tenant_name(text) == text


@pytest.mark.parametrize("text", ["auth0|5f7c", "ann@example.com", "-a", "é" * 99, "\ud800", "|"])
def test_what_is_no_name_becomes_one(text):
    assert is_name(tenant_name(text))
    assert tenant_name(text) != tenant_name(text + " ")


def test_nobody_becomes_another_by_taking_the_name_that_stands_for_it():
    stands = tenant_name("auth0|5f7c")

    assert tenant_name(stands) not in {stands, tenant_name(f"{stands}x")}


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_different_holders_are_different_tenants(one, other):
    assert is_name(tenant_name(one))
    assert (tenant_name(one) == tenant_name(other)) is (one == other)
