"""Shares of a model's requests that nobody takes at present: worth a word after a change."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policies.policy import REST
from router.cli.admin_client import Client

_IDLE: Final = frozenset({"down", "draining"})


def warn_of_idle_shares(client: Client) -> None:
    """Write a line for each share whose every endpoint is down or drained."""
    policy = client.get("/policy")
    for each in idle_shares(policy["models"], client.get("/pools")):
        sys.stderr.write(f"headway: {each}\n")


def idle_shares(
    models: Mapping[str, Mapping[str, Any]], pools: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a sentence for each; `models` as in a policy, `pools` as the router shows them."""
    for model, own in models.items():
        variants = own.get("variants") or {}
        serving = {
            each["id"]: each for pool in pools if model in pool["models"] for each in _of(pool)
        }
        claimed: set[str] = set()
        for name, variant in variants.items():
            there = set(variant.get("endpoints") or ()) | {
                each["id"]
                for pool in pools
                if pool["name"] in (variant.get("pools") or ())
                for each in _of(pool)
            }
            claimed |= there
            # A variant that is another model is served wherever that one is.
            if there:
                yield from _told(model, name, variant["share"], [serving.get(id_) for id_ in there])
        rest = round(1 - sum(each["share"] for each in variants.values()), 9)
        if variants:
            left = [each for id_, each in serving.items() if id_ not in claimed]
            yield from _told(model, REST, rest, left)


def _told(
    model: str, name: str, share: float, endpoints: Sequence[Mapping[str, Any] | None]
) -> Iterator[str]:
    if share > 0 and not any(_takes_requests(each) for each in endpoints):
        yield (
            f"{100 * share:g} % of {model} are for {name}, of which no endpoint takes requests:"
            " the others serve them"
        )


def _of(pool: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    endpoints: Sequence[Mapping[str, Any]] = pool["endpoints"]
    return endpoints


def _takes_requests(endpoint: Mapping[str, Any] | None) -> bool:
    return endpoint is not None and (endpoint["now"] or {}).get("state") not in _IDLE
