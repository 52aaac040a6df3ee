"""Where endpoints may be that are registered at run time."""

import pytest

from router.networks import PRIVATE, Networks, NotAllowed, as_network

USUAL = Networks(PRIVATE)
ANYWHERE = Networks(("0.0.0.0/0", "::/0"))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "::1", "fd12::1",
                "::ffff:10.0.0.1"]
)  # fmt: skip
def test_private_networks_are_allowed(address):
    assert USUAL.refusal(address) is None
    assert USUAL.literal_refusal(address) is None


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8"])
def test_others_are_allowed_only_where_the_configuration_says_so(address):
    why = USUAL.refusal(address)

    assert why
    assert address in why
    assert "admin.allowed_networks (127.0.0.0/8, " in why
    assert ANYWHERE.refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0"),
        *("fd00:ec2::254", "100.100.100.200", "0.0.0.0", "0.1.2.3", "::"),  # noqa: S104 # refused
        *("224.0.0.1", "ff02::1", "255.255.255.255", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"),
    ],
)
def test_some_are_never_allowed(address):
    for networks in (USUAL, ANYWHERE):
        assert "no endpoint may have" in (networks.refusal(address) or "")


def test_a_name_is_not_judged_before_it_is_looked_up():
    assert USUAL.literal_refusal("metadata.google.internal") is None


async def test_a_name_is_judged_by_every_address_that_it_has():
    assert "127.0.0.1" in await USUAL.addresses("localhost", 80)
    with pytest.raises(NotAllowed, match=r"^'localhost' is .*: .* is in no network"):
        await Networks(("10.0.0.0/8",)).addresses("localhost", 80)
    with pytest.raises(NotAllowed, match=r"^127\.0\.0\.1 is in no network of .* \(none\)"):
        await Networks(()).addresses("127.0.0.1", 80)


def test_a_network_is_told_from_an_address_with_too_many_bits():
    assert as_network("10.0.0.0/8") == "10.0.0.0/8"
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8 .*host bits set.*one is like"):
        as_network("10.0.0.1/8")
