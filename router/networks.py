"""Where an endpoint may be that somebody registers while the router runs.

Whoever may register one could otherwise have the router ask whatever it reaches and they do not: a
cloud's metadata, a neighbour's database. What the configuration file names is its author's choice.
Source: OWASP, Server-Side Request Forgery Prevention.
"""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

PRIVATE: Final = (
    *("127.0.0.0/8", "::1/128"),
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
)
"""Loopback and private networks."""
_NEVER: Final = tuple(
    ip_network(each)
    for each in (
        *("0.0.0.0/8", "::/128"),  # this host, under another name
        *("169.254.0.0/16", "fe80::/10"),  # link-local: clouds' metadata
        *("fd00:ec2::254/128", "100.100.100.200/32", "192.0.0.192/32"),  # metadata elsewhere
        *("224.0.0.0/4", "ff00::/8", "255.255.255.255/32"),  # everybody at once
        *("64:ff9b::/96", "2002::/16", "2001::/32"),  # an address of IPv4 inside
    )
)


class NotAllowed(OSError):
    """An endpoint is where none may be; the text says where, and what would be right."""


def as_network(text: str) -> str:
    """Return a network as it is written by the book; raises ValueError with a sentence."""
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no network ({error}); one is like '10.0.0.0/8' or '192.0.2.7'"
        ) from None


class Networks:
    """The networks that are allowed; some addresses never are."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = tuple(ip_network(each) for each in allowed)

    def refusal(self, address: str) -> str | None:
        """Say why no endpoint may have an address; None where one may."""
        found = _plain(ip_address(address.partition("%")[0]))
        if any(found in each for each in _NEVER):
            return f"{address} is an address that no endpoint may have"
        if any(found in each for each in self._allowed):
            return None
        listed = ", ".join(map(str, self._allowed)) or "none"
        return (
            f"{address} is in no network of admin.allowed_networks ({listed}); allow its network"
            " there, or name the endpoint in the configuration file"
        )

    def literal_refusal(self, host: str) -> str | None:
        """Do the same for a host that may be a name, which is looked up only when it is asked."""
        try:
            ip_address(host)
        except ValueError:
            return None
        return self.refusal(host)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Look a host up; raises `NotAllowed` where one of its addresses is not allowed.

        Whoever connects must do so to these very addresses: the next answer may be another one.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for each in addresses:
            if (why := self.refusal(each)) is not None:
                raise NotAllowed(why if each == host else f"{host!r} is {each}: {why}")
        return addresses


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the address of IPv4 that one of IPv6 stands for, if it does."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
