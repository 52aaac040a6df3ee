"""What a world takes for granted, and what is seen of it besides the requests' outcomes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from engines.engine import Route
from policies.facts import RequestFacts, Wish
from router.settings import Timeouts
from router.simulation.fleet import MODEL
from router.workload.offers import Offer

NEEDS: Final = frozenset({Route.CHAT})
BYTES_A_TOKEN: Final = 4.0
LEAST_BYTES_RATIO: Final = 0.5
"""Share of these that a prompt has at least."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a world takes for granted."""

    sweep_s: float = 0.25
    """How often the router looks for timeouts and progress, as `router.app` does."""
    scrape_s: float = 0.2
    """How often it looks at the engines' gauges."""
    probe_s: float = 2.0
    """How often it asks after the engines' health, as `router.settings.Probes` says."""
    replicas: int = 1
    """Routers that share the fleet, each with a part of the requests."""
    timeouts: Timeouts = field(default=Timeouts())
    """How long an engine may take."""
    bytes_sigma: float = 0.1
    """How much prompts differ in bytes a token: normal, as a share of the mean."""
    template_tokens: int = 12
    """What the chat template adds to a prompt before the engine counts it: no bytes that the
    router sees, so that it takes long prompts for longer than they are."""

    prompt_bytes: Callable[[Offer], int] | None = None
    """How long an offer's prompt is, bytes; None: about four bytes a token, as above."""

    def facts(self, offer: Offer, rng: Random) -> RequestFacts:
        """Return what a router sees of an offer: never a true length."""
        return RequestFacts(
            id=f"request-{offer.number}",
            model=MODEL,
            needs=NEEDS,
            prompt_bytes=self._size(offer, rng),
            max_tokens=offer.max_tokens,
            wish=Wish(
                sla_class=offer.sla_class, targets=offer.targets, patience_s=offer.patience_s
            ),
            tenant=offer.tenant,
            session=offer.session,
            beginnings=offer.prefix,
        )

    def _size(self, offer: Offer, rng: Random) -> int:
        if self.prompt_bytes is not None:
            return self.prompt_bytes(offer)
        ratio = max(LEAST_BYTES_RATIO, rng.gauss(1.0, self.bytes_sigma))
        text_tokens = offer.prompt_tokens - self.template_tokens
        return max(1, round(BYTES_A_TOKEN * ratio * text_tokens))


USUAL: Final = Conditions()


@dataclass(slots=True)
class Observed:
    """What was seen of the fleet."""

    sweeps: int = 0
    in_flight: dict[str, int] = field(default_factory=dict)
    """By endpoint: sum over all sweeps of requests in flight there."""
    waiting: int = 0
    """The same of requests that wait in the router."""
    ended_at: float = 0.0
    """When the last request was over, s."""
    steps: int = 0
    preemptions: int = 0
    cached_tokens: int = 0
