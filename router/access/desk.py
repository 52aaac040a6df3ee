"""Puts access together for one router: keyring, gate, store, leases."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from policies.facts import RequestFacts, SlaClass
from router.access.gate import Gate
from router.access.keyring import Failure, Keyring, Pass
from router.access.office import Office
from router.access.secret import pepper_of
from router.access.store import Journal, KeyStore
from router.metrics import (
    AUTH_FAILURES,
    JWKS_AGE,
    JWKS_KEYS,
    JWKS_READS,
    LIMITED,
    LOWERED,
    TENANT_REQUESTS,
    TENANT_TOKENS,
    TOKENS_KNOWN,
    Metrics,
)
from router.settings import Access, Redis, State

if TYPE_CHECKING:
    # Redis' client takes 7 MB: it is loaded where replicas share, and nowhere else.
    from router.access.issuer import Issuer
    from router.access.leases import Leases
    from router.access.redis_store import Client


@dataclass(frozen=True, slots=True)
class Shared:
    """The Redis that replicas share."""

    client: "Client"
    settings: Redis
    replica: str
    """This one's name."""
    count: Callable[[], int]
    """Replicas there are, as far as is known."""


class Desk:
    """Access of one router. `gate` is None where whoever comes is let in."""

    def __init__(  # noqa: PLR0913 # the place where access is put together
        self,
        settings: Access | None,
        pepper: str | None,
        *,
        state: State | None,
        shared: Shared | None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        class_of: Callable[[RequestFacts], SlaClass],
        metrics: Metrics,
    ) -> None:
        secret = pepper_of(pepper)
        self.settings = settings or Access(open=True)
        self.keyring = Keyring(secret, self.settings.tenants)
        self.office = Office(_store(state, shared), self.keyring, secret, wall_clock)
        self.gate: Gate | None = None
        self.leases: Leases | None = None
        self.issuer: Issuer | None = None
        """Who signs tokens; None where none are taken."""
        self._shared = shared
        self._proxies = [ip_network(each) for each in self.settings.trusted_proxies]
        if self.settings.open:
            return
        find_token: Callable[[bytes, float], Pass | Failure] | None = None
        if self.settings.jwt is not None:
            # Only here: what verifies tokens need not be installed where none are taken.
            from router.access.issuer import following  # noqa: PLC0415 # see above

            self.issuer = following(
                self.settings.jwt, self.keyring, clock=clock, wall_clock=wall_clock
            )
            find_token = self.issuer.tokens.find
            _tokens_at_scrape(metrics, self.issuer)
        self.gate = Gate(
            self.settings,
            self.keyring,
            since_1970_s=wall_clock() - clock(),
            class_of=class_of,
            find_token=find_token,
        )
        if shared is not None:
            from router.access import leases  # noqa: PLC0415 # see above

            self.leases = leases.Leases(
                shared.client,
                shared.settings.prefix,
                shared.replica,
                shared.count,
                self.gate,
                clock,
            )
        _read_at_scrape(metrics, self.gate)

    def trusts(self, address: str) -> bool:
        """Tell whether what an address says of whom it speaks for is believed."""
        if self.gate is None:
            return True
        try:
            peer = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(peer in network for network in self._proxies)

    async def start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Take up the keys that are kept, and begin to follow; raises `KeysNotKept`."""
        if self.gate is None:
            return []
        await self.office.follow()
        tasks = [group.create_task(self.office.run())] if self._shared is not None else []
        if self.leases is not None:
            tasks.append(group.create_task(self.leases.run()))
        if self.issuer is not None:
            await self.issuer.refresh()
            tasks.append(group.create_task(self.issuer.run()))
        return tasks

    async def stop(self) -> None:
        """Let go of connections."""
        if self._shared is not None:
            await self._shared.client.aclose()


def _store(state: State | None, shared: Shared | None) -> KeyStore:
    if shared is not None:
        from router.access.redis_store import RedisKeys  # noqa: PLC0415 # see above

        return RedisKeys(shared.client, shared.settings.prefix)
    return Journal(None if state is None else state.directory / "keys.jsonl")


def _read_at_scrape(metrics: Metrics, gate: Gate) -> None:
    def failures() -> list[tuple[tuple[str], int]]:
        return [((reason,), count) for reason, count in gate.failures.items()]

    def limited() -> list[tuple[tuple[str], int]]:
        return [((kind,), count) for kind, count in gate.limited.items()]

    metrics.read(AUTH_FAILURES, failures)
    metrics.read(LIMITED, limited)
    metrics.read(LOWERED, lambda: [((), gate.lowered)])
    metrics.read(TENANT_REQUESTS, lambda: [((t,), u.requests) for t, u in gate.uses.items()])
    metrics.read(TENANT_TOKENS, lambda: [((t,), u.tokens) for t, u in gate.uses.items()])


def _tokens_at_scrape(metrics: Metrics, issuer: "Issuer") -> None:
    tokens = issuer.tokens
    metrics.read(JWKS_READS, lambda: [(("read",), issuer.reads), (("failed",), issuer.failures)])
    metrics.read(JWKS_AGE, lambda: [((), issuer.age_s)])
    metrics.read(JWKS_KEYS, lambda: [((), len(tokens.keys.thumbprints))])
    metrics.read(TOKENS_KNOWN, lambda: [((), tokens.known)])
