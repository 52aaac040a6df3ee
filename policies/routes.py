"""Which endpoints could take a request, worked out once for each model and set of needs."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from policies.admission import too_long, unknown_model, unsupported
from policies.backlog import Backlog
from policies.classify import NO_LIMIT, Ask, standard_of
from policies.endpoints.policy import EndpointPolicy
from policies.endpoints.registry import POLICIES
from policies.facts import Profile, Refuse, SlaClass
from policies.fleet import EndpointState
from policies.ordering import Lane
from policies.policy import Policy
from policies.pools import tiers

MOST_ROUTES: Final = 1024
"""Sets of needs remembered for a model."""
SURE_SHARE: Final = 0.5
"""Part of an estimated prompt length that it has at the very least; a guess."""


class Route:
    """Where requests for one model with the same needs may go: lanes by rank and length."""

    def __init__(self, model: "Model", endpoints: Sequence[EndpointState]) -> None:
        self.model = model
        self.limits = sorted({each.plan.max_context_tokens or NO_LIMIT for each in endpoints})
        """Context lengths that the endpoints have, tokens, ascending."""
        self.longest_answer_tokens = min(
            (
                each.plan.max_output_tokens or NO_LIMIT
                for each in endpoints
                if each.plan.profile is Profile.PREDICTABLE
            ),
            default=NO_LIMIT,
        )
        """Answers that no predictable endpoint stalls in."""
        self._lanes = [
            [
                Lane(
                    rank,
                    tiers(
                        [e for e in endpoints if (e.plan.max_context_tokens or NO_LIMIT) >= limit],
                        sla_class,
                        model.policy.spill,
                        model.choosers,
                        fits_predictable=fits,
                    ),
                    model.backlog,
                )
                for rank, sla_class in enumerate(SlaClass)
                for fits in (False, True)
            ]
            for limit in self.limits
        ]
        for lanes in self._lanes:
            for long, short in zip(lanes[::2], lanes[1::2], strict=True):
                long.wide = short

    def lane(self, ask: Ask) -> Lane | Refuse:
        """Return the lane of one request, or a refusal where no context is long enough.

        An estimate may send a request to a longer context than it needs; only a length that is
        sure refuses it, for the engine knows better.
        """
        facts, limits = ask.facts, self.limits
        need_tokens = ask.prompt_tokens + (facts.max_tokens or 1)
        at = 0
        if need_tokens > limits[0]:
            exact = facts.known_prompt_tokens is not None
            sure_tokens = ask.prompt_tokens if exact else int(SURE_SHARE * ask.prompt_tokens)
            if sure_tokens >= limits[-1]:
                return too_long(facts.model, ask.prompt_tokens, limits[-1], exact=exact)
            at = min(bisect_left(limits, need_tokens), len(limits) - 1)
        fits = ask.fits_predictable and ask.answer_tokens <= self.longest_answer_tokens
        return self._lanes[at][2 * ask.rank + fits]


class Model:
    """One public model name: who serves it, and what the policy says of it."""

    def __init__(
        self,
        name: str,
        endpoints: Sequence[EndpointState],
        policy: Policy,
        choosers: Mapping[Profile, EndpointPolicy],
    ) -> None:
        self.name = name
        self.endpoints = endpoints
        self.policy = policy
        self.choosers = choosers
        self.standard = standard_of(policy, name)
        self.backlog = Backlog()
        self._routes: dict[frozenset[Enum], Route] = {}

    def route(self, needs: frozenset[Enum]) -> Route | Refuse:
        """Return the route for a set of needs, or a refusal that names what is not offered."""
        route = self._routes.get(needs)
        if route is not None:
            return route
        able = [each for each in self.endpoints if needs <= each.plan.offers]
        if not able:
            missing = needs - frozenset[Enum]().union(*(e.plan.offers for e in self.endpoints))
            return unsupported(self.name, missing or needs, anywhere=not missing)
        if len(self._routes) >= MOST_ROUTES:
            # Waiting requests keep their lanes; only the way to them is forgotten.
            self._routes.clear()
        route = self._routes[needs] = Route(self, able)
        return route


class Catalogue:
    """All models."""

    def __init__(
        self,
        endpoints: Sequence[EndpointState],
        policy: Policy,
        before: "Catalogue | None" = None,
    ) -> None:
        choosers = {
            profile: POLICIES[policy.of_profile(profile).endpoint_policy]() for profile in Profile
        }
        names = sorted({name for endpoint in endpoints for name in endpoint.plan.models})
        self.models = {
            name: Model(name, [e for e in endpoints if name in e.plan.models], policy, choosers)
            for name in names
        }
        for name, model in before.models.items() if before else ():
            if name in self.models:
                self.models[name].backlog = model.backlog

    def route(self, model: str, needs: frozenset[Enum]) -> Route | Refuse:
        """Return where requests for a model with these needs may go, or why nowhere."""
        known = self.models.get(model)
        return unknown_model(model, self.models) if known is None else known.route(needs)
