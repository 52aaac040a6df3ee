"""Which pools a request belongs in, and where it may spill to.

Interactive requests are at home in predictable pools as long as they are short enough not to spoil
them; all others are at home in throughput pools. Who finds home full or down may go to the other
kind, where the policy lets it. Settled once for each kind of request, not for each request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.endpoints.policy import EndpointPolicy
from policies.facts import Profile, Reason, SlaClass
from policies.fleet import EndpointState
from policies.policy import Spill


@dataclass(frozen=True, slots=True, eq=False)
class Tier:
    """Endpoints that are equally right for a request; the next tier only if none has room."""

    endpoints: tuple[EndpointState, ...]
    policy: EndpointPolicy
    reason: Reason
    """Why a request is sent to this tier."""


def home_of(sla_class: SlaClass, *, fits_predictable: bool) -> Profile:
    """Return the profile that a request is at home in."""
    if sla_class is SlaClass.INTERACTIVE and fits_predictable:
        return Profile.PREDICTABLE
    return Profile.THROUGHPUT


def may_spill(home: Profile, spill: Spill, *, fits_predictable: bool) -> bool:
    """Return whether a request that finds home full may use the other profile."""
    match home:
        case Profile.PREDICTABLE:
            return spill.to_throughput
        case Profile.THROUGHPUT:
            return spill.to_predictable and fits_predictable


def tiers(
    endpoints: Sequence[EndpointState],
    sla_class: SlaClass,
    spill: Spill,
    choosers: Mapping[Profile, EndpointPolicy],
    *,
    fits_predictable: bool,
) -> tuple[Tier, ...]:
    """Return where a request may go, best first; empty only where `endpoints` is.

    A model that only one profile serves is served by that one, however long the request.
    """
    by_profile = {
        profile: tuple(each for each in endpoints if each.plan.profile is profile)
        for profile in Profile
    }
    home = home_of(sla_class, fits_predictable=fits_predictable)
    (away,) = set(Profile) - {home}
    if not by_profile[home]:
        order = [(away, Reason.ONLY)]
    elif may_spill(home, spill, fits_predictable=fits_predictable):
        order = [(home, Reason.HOME), (away, Reason.SPILL)]
    else:
        order = [(home, Reason.HOME)]
    return tuple(
        Tier(by_profile[profile], choosers[profile], reason)
        for profile, reason in order
        if by_profile[profile]
    )
