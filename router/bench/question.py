"""An offer as the bytes of an HTTP request."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from engines.engine import Route
from router.bench.prompts import Prompts
from router.workload.offers import Offer

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """An OpenAI endpoint: a router, an engine, a peer."""

    name: str
    """What reports call it."""
    url: str
    """`http://host:port`, with a base path where there is one."""
    model: str
    api_key: str | None = None

    @property
    def host(self) -> str:
        """The host's name."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port."""
        parts = urlsplit(self.url)
        return parts.port or DEFAULT_PORTS[parts.scheme]

    @property
    def secure(self) -> bool:
        """Whether it is https."""
        return urlsplit(self.url).scheme == "https"


def target(text: str, model: str, api_key: str | None = None) -> Target:
    """Read `name=url` or a URL, which then is its own name; raises ValueError."""
    name, separator, url = text.partition("=")
    if not separator or "/" in name:
        name, url = text, text
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is no target; http://host:port or name=http://host:port is")
    return Target(name, url.rstrip("/").removesuffix("/v1"), model, api_key)


class Writer:
    """Writes requests to one target."""

    def __init__(self, aim: Target, prompts: Prompts, *, exact: bool) -> None:
        """`exact`: the engine is made to say as many tokens as the offer does.

        It is told so as the bound that the caller sets, so that a router sees it as well.
        """
        self._target = aim
        self._prompts = prompts
        self._exact = exact
        path = urlsplit(aim.url).path + Route.CHAT
        lines = [f"POST {path} HTTP/1.1", f"host: {urlsplit(aim.url).netloc}"]
        lines += ["content-type: application/json", "accept: text/event-stream"]
        if aim.api_key is not None:
            lines.append(f"authorization: Bearer {aim.api_key}")
        self._head = "\r\n".join(lines) + "\r\n"

    def request(self, offer: Offer) -> bytes:
        """Return one request, head and body."""
        document: dict[str, Any] = {
            "model": self._target.model,
            "messages": [{"role": "user", "content": self._prompts.text(offer)}],
            "max_tokens": offer.length if self._exact else offer.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._exact:
            document |= {"ignore_eos": True, "temperature": 0}
        body = orjson.dumps(document)
        lines = [f"{name}: {value}" for name, value in headers(offer)]
        lines += [f"content-length: {len(body)}", "", ""]
        return (self._head + "\r\n".join(lines)).encode() + body


def headers(offer: Offer) -> list[tuple[str, str]]:
    """Return the headers that tell a router what the offer is held to."""
    targets = offer.targets
    found = [("x-sla-class", str(offer.sla_class))]
    for name, time_s in (
        ("x-sla-ttft-ms", targets.first_token_s),
        ("x-sla-tpot-ms", targets.per_token_s),
        ("x-sla-deadline-ms", targets.deadline_s),
    ):
        if time_s is not None:
            found.append((name, f"{1000 * time_s:.0f}"))
    if offer.tenant:
        found.append(("x-gateway-inference-fairness-id", offer.tenant))
    if offer.session is not None:
        found.append(("x-session-id", offer.session))
    return found
