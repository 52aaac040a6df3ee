"""Addresses that a person typed: what may stand in them, and why else they are refused."""

from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

_ENGINE: Final = "an engine's url is like 'http://10.0.0.1:8000'"


def engine_url(url: str) -> str:
    """Return an engine's URL without a slash at its end; raises ValueError with a sentence."""
    parts = _web(url, _ENGINE, "name a key with api_key_env instead")
    _ends_with_its_path(url, parts, _ENGINE)
    if parts.path.rstrip("/").endswith("/v1"):
        raise ValueError(f"{url!r} ends in '/v1', which every route adds itself; leave it out")
    return url.rstrip("/")


def is_web(text: str) -> bool:
    """Tell whether somebody typed a URL of the web where a path could stand as well."""
    return text.lower().startswith(("http:", "https:"))


def jwks_url(url: str) -> str:
    """Return the URL of a JWKS; raises ValueError with a sentence."""
    like = "a JWKS is at a URL like 'https://id.example.com/.well-known/jwks.json'"
    parts = _web(url, like, "public keys are not asked for with one")
    if parts.fragment:
        raise ValueError(f"{url!r} has something after '#'; {like}")
    return url


def collector_url(url: str) -> str:
    """Return where a collector takes traces; raises ValueError with a sentence.

    A URL without a path gets the usual one. Source: OTLP 1.9, section OTLP/HTTP request.
    """
    like = "a collector's url is like 'http://127.0.0.1:4318'"
    parts = _web(url, like, "name a header with headers_env instead")
    _ends_with_its_path(url, parts, like)
    return url if parts.path.strip("/") else f"{url.rstrip('/')}/v1/traces"


def redis_url(url: str) -> str:
    """Return a Redis URL; raises ValueError with a sentence.

    Behind `+sentinel` and `+cluster` come several hosts, and for sentinels the service's name.
    """
    like = "it is like 'redis://127.0.0.1:6379/0'"
    scheme, _, kind = url.partition("://")[0].partition("+")
    if kind:
        return _redis_of_many(url, scheme, kind)
    parts = _split(url, like)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"starts with {parts.scheme!r}, not redis, rediss or unix; {like}")
    if parts.password is not None:
        raise ValueError("holds a password; name it with password_env or password_file instead")
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError(f"{url!r} names no host; {like}")
    return url


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _redis_of_many(url: str, scheme: str, kind: str) -> str:
    like = (
        "it is like 'redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster'"
        if kind == "sentinel"
        else "it is like 'redis+cluster://10.0.0.1:6379,10.0.0.2:6379'"
    )
    if scheme not in {"redis", "rediss"} or kind not in {"sentinel", "cluster"}:
        raise ValueError(
            f"starts with '{scheme}+{kind}', not redis or rediss with +sentinel or +cluster; {like}"
        )
    hosts, _, path = url.partition("://")[2].partition("/")
    for host in hosts.rpartition("@")[2].split(","):
        redis_url(f"{scheme}://{host}")
    redis_url(f"{scheme}://{hosts.rpartition('@')[0]}@host" if "@" in hosts else "redis://host")
    if kind == "sentinel" and not path:
        raise ValueError(f"{url!r} names no service after the hosts; {like}")
    return url


def _web(url: str, like: str, instead: str) -> SplitResult:
    """Return the parts of a URL of the web; `instead` tells what to do where it holds a secret."""
    parts = _split(url, like)
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"{url!r} is neither http nor https; {like}")
    if not parts.hostname:
        raise ValueError(f"{url!r} names no host; {like}")
    if parts.username is not None:
        raise ValueError(f"holds a user name or password; {instead}")
    return parts


def _ends_with_its_path(url: str, parts: SplitResult, like: str) -> None:
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError(f"{url!r} has something after the path; {like}")


def _split(url: str, like: str) -> SplitResult:
    """Return a URL's parts, none of which a stricter reader would understand otherwise."""
    if not url.isascii() or not url.isprintable() or set(' \\"<>^`{|}') & set(url):
        raise ValueError(f"{url!r} holds a character that no url may; {like}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r}: {str(error).lower()}; {like}") from None
    return parts
