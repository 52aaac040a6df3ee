"""What is compared: the router's policy, parts of it switched off, and what others do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import ConfigDict

from policies.facts import EndpointPlan, Profile
from policies.policy import (
    AffinityPolicy,
    EndpointPolicyName,
    FairnessPolicy,
    GuardPolicy,
    Holds,
    LatencyPolicy,
    Policy,
    ProfilePolicy,
    Profiles,
    Spill,
)
from router.document import FORBIDDING, ConfigError, Document, Flaw, merged, unknown
from router.simulation.fleet import Fleet
from router.toml import parsed

UNBOUNDED: Final = 1 << 30
"""More requests than are ever in flight."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy document, and how it sees the fleet."""

    name: str
    policy: Policy
    flat: bool = False
    """All engines are one pool, as for a load balancer that knows no classes."""
    eager: bool = False
    """Every request is sent at once, however many an engine has: nothing waits in the router."""
    tells_class: bool = True
    """Engines that order by priority are told the class; a plain load balancer tells nothing."""
    about: str = ""

    def plans(self, fleet: Fleet) -> list[EndpointPlan]:
        """Return the fleet as this one sees it."""
        changes: dict[str, Any] = {}
        if self.flat:
            changes["profile"] = Profile.THROUGHPUT
        if self.eager:
            changes["max_in_flight"] = UNBOUNDED
        return [replace(member.plan, **changes) for member in fleet.members]


def _plain(profiles: Profiles, spill: Spill) -> Policy:
    """Return a policy that predicts nothing, guards nobody and knows no tenants."""
    return Policy(
        profiles=profiles,
        spill=spill,
        guard=GuardPolicy(per_token_share=None),
        affinity=AffinityPolicy(most_delay_share=None),
        fairness=FairnessPolicy(most_share=None),
    )


def _whole_fleet(endpoint_policy: EndpointPolicyName) -> Policy:
    profile = ProfilePolicy(endpoint_policy=endpoint_policy)
    return _plain(Profiles(profile, profile), Spill(home_share=None))


def _ablated(**changes: Any) -> Policy:
    return replace(Policy(), **changes)


_USUAL: Final = Policy()
_NO_HOLDS: Final = Profiles(
    replace(_USUAL.profiles.predictable, holds=Holds()),
    replace(_USUAL.profiles.throughput, holds=Holds()),
)
_BY_REQUESTS: Final = Profiles(
    replace(_USUAL.profiles.predictable, endpoint_policy=EndpointPolicyName.LEAST_BUSY),
    replace(_USUAL.profiles.throughput, endpoint_policy=EndpointPolicyName.LEAST_BUSY),
)
_APART: Final = Spill(to_throughput=False, to_predictable=False)
_SPLIT: Final = Profiles(
    ProfilePolicy(endpoint_policy=EndpointPolicyName.LEAST_BUSY),
    ProfilePolicy(endpoint_policy=EndpointPolicyName.LEAST_BUSY),
)
_ABOUT: Final[Mapping[EndpointPolicyName, str]] = {
    EndpointPolicyName.ROUND_ROBIN: "each engine in turn",
    EndpointPolicyName.RANDOM: "any engine",
    EndpointPolicyName.LEAST_BUSY: "fewest requests in flight (nginx least_conn, Envoy)",
    EndpointPolicyName.LEAST_TOKENS: "least work in tokens in flight (llm-d token load)",
    EndpointPolicyName.TWO_CHOICES: "of two at random, the one with fewer requests",
    EndpointPolicyName.TWO_CHOICES_TOKENS: "of two at random, the one with less work in tokens",
    EndpointPolicyName.PEAK_EWMA: "lowest recent first-token time times requests (linkerd)",
    EndpointPolicyName.LEAST_SCRAPED: "best gauges at the last scrape (Gateway API extension)",
    EndpointPolicyName.CONSISTENT_HASH: "by session or tenant, with bounded load",
}
CONTENDERS: Final[Mapping[str, Contender]] = {
    each.name: each
    for each in (
        Contender("headway", _USUAL, about="the router's defaults"),
        *(
            Contender(
                name,
                _whole_fleet(name),
                flat=True,
                eager=True,
                tells_class=False,
                about=_ABOUT[name],
            )
            for name in EndpointPolicyName
        ),
        Contender(
            "hard_split",
            _plain(_SPLIT, replace(_APART, home_share=None)),
            eager=True,
            about="interactive to predictable engines, the rest to the others, no exchange",
        ),
        Contender(
            "no_spill",
            _ablated(spill=_APART),
            about="headway without spill",
        ),
        Contender(
            "no_holds", _ablated(profiles=_NO_HOLDS), about="headway that holds no bulk back"
        ),
        Contender(
            "by_requests", _ablated(profiles=_BY_REQUESTS), about="headway counting requests"
        ),
        Contender(
            "no_prediction",
            _ablated(spill=Spill(home_share=None)),
            about="headway that leaves home only when it is full",
        ),
        Contender(
            "no_guard",
            _ablated(guard=GuardPolicy(per_token_share=None)),
            about="headway that lets bulk go beside interactive requests",
        ),
        Contender(
            "no_learning",
            _ablated(latency=LatencyPolicy(learns=False)),
            about="headway whose predictions stay what they start from",
        ),
        Contender(
            "no_affinity",
            _ablated(affinity=AffinityPolicy(most_delay_share=None)),
            about="headway that does not think of caches",
        ),
        Contender(
            "no_fairness",
            _ablated(fairness=FairnessPolicy(most_share=None)),
            about="headway that knows no tenants",
        ),
    )
}
"""By name: headway, every endpoint policy over the whole fleet, and headway in parts."""


@dataclass(frozen=True, slots=True)
class _PolicyFile:
    __pydantic_config__: ClassVar[ConfigDict] = FORBIDDING

    policy: Policy


_FILE: Final = Document(_PolicyFile)


def contender(name: str) -> Contender:
    """Return a contender by name, or the `[policy]` of a TOML file; raises `ConfigError`.

    A whole configuration file of the router will do: the rest of it is passed over.
    """
    if name in CONTENDERS:
        return CONTENDERS[name]
    path = Path(name)
    if path.suffix != ".toml":
        message = unknown("policy", name, CONTENDERS) + ", or a .toml file"
        raise ConfigError(name, [Flaw("", message)])
    document = parsed(path)
    changes = document.get("policy")
    if not isinstance(changes, dict):
        raise ConfigError(path.name, [Flaw("policy", "is missing; it is a table")])
    full = merged(asdict(Policy()), changes)
    return Contender(path.stem, _FILE.read(path.name, {"policy": full}).policy, about=str(path))
