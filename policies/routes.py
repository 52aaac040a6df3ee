"""Which endpoints could take a request, worked out once for each model and set of needs."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from policies.admission import too_long, unknown_model, unsupported
from policies.backlog import Backlog
from policies.classify import NO_LIMIT, Ask, Part, standard_of
from policies.endpoints.policy import EndpointPolicy
from policies.endpoints.registry import POLICIES
from policies.facts import Profile, Refuse, SlaClass
from policies.fleet import EndpointState
from policies.ordering import Lane
from policies.policy import REST, ModelPolicy, Policy
from policies.pools import tiers
from policies.variants import Copies, Split, is_of, named

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
        self.variants: Variants | None = None
        """Where its requests are divided; None where they are not."""
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


class Variants:
    """The variants of one model, each with what serves it."""

    def __init__(
        self,
        model: Model,
        split: Split,
        endpoints: Sequence[EndpointState],
        before: "Variants | None",
    ) -> None:
        """`endpoints` are all there are: a variant may be another model's."""
        self.split = split
        kinds = split.policy.variants
        serving = {
            name: [
                each
                for each in (endpoints if variant.model else model.endpoints)
                if (variant.model or model.name) in each.plan.models and is_of(variant, each.plan)
            ]
            for name, variant in kinds.items()
        }
        serving[REST] = [e for e in model.endpoints if not named(kinds.values(), e.plan)]
        shut = [each for each in kinds.values() if not each.share]
        open_ = [each for each in model.endpoints if not named(shut, each.plan)]
        self.endpoints = list({e.id: e for each in serving.values() for e in each}.values())
        """Of all variants together."""
        self._own = {name: self._like(model, those) for name, those in serving.items() if those}
        self._others = self._like(model, open_ or model.endpoints)
        asked_for = {name: kinds[name].model if name in kinds else None for name in serving}
        self._parts = {name: Part(name, asked) for name, asked in asked_for.items()}
        self._elsewhere = {name: Part(name, elsewhere=True) for name in serving}
        for name, own in self._own.items() if before else ():
            if before is not None and name in before._own:  # noqa: SLF001 # its predecessor
                own.backlog = before._own[name].backlog  # noqa: SLF001 # likewise

    @staticmethod
    def _like(model: Model, endpoints: Sequence[EndpointState]) -> Model:
        return Model(model.name, endpoints, model.policy, model.choosers)

    def take(self, ask: Ask, *, counted: bool = True) -> Lane | Refuse:
        """Give a request its variant, and return its lane; not `counted`: it is only foreseen."""
        facts = ask.facts
        ask.part = self._parts[self.split.choose(facts) if counted else self.split.foresee(facts)]
        return self.lane(ask)

    def lane(self, ask: Ask, tried: frozenset[str] = frozenset()) -> Lane | Refuse:
        """Return the lane of a request past some endpoints: its variant's, else the others'."""
        part, needs = ask.part, ask.facts.needs
        own = self.of(part)
        if own is not self._others:
            route = own.route(needs)
            lane = route if isinstance(route, Refuse) else route.lane(ask)
            if not isinstance(lane, Refuse):
                lane = lane.without(tried)
                if any(endpoint.health.hopeful for endpoint in lane.endpoints):
                    return lane
        if part is not None and part.name in self._elsewhere:
            ask.part = self._elsewhere[part.name]
        route = self._others.route(needs)
        lane = route if isinstance(route, Refuse) else route.lane(ask)
        return lane if isinstance(lane, Refuse) else lane.without(tried)

    def of(self, part: Part | None) -> Model:
        """Return what serves a part: the others where the variant cannot, or is gone."""
        if part is None or part.elsewhere:
            return self._others
        return self._own.get(part.name, self._others)


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
        self.copies: dict[str, Copies] = {}
        """Of models that have a shadow."""
        self.models = {
            name: Model(name, _callers(name, endpoints, policy.models.get(name)), policy, choosers)
            for name in names
        }
        for name, model in self.models.items():
            previous = before.models.get(name) if before else None
            if previous is not None:
                model.backlog = previous.backlog
            own = policy.models.get(name)
            if own is None:
                continue
            if own.variants:
                earlier = previous.variants if previous is not None else None
                kept = earlier.split if earlier is not None else None
                split = kept if kept is not None and kept.policy == own else Split(name, own)
                model.variants = Variants(model, split, endpoints, earlier)
            if own.shadow is not None:
                shadow = [e for e in endpoints if named((own.shadow,), e.plan)]
                kept_copies = before.copies.get(name) if before else None
                self.copies[name] = Copies(own.shadow, shadow, kept_copies)

    def route(self, model: str, needs: frozenset[Enum]) -> Route | Refuse:
        """Return where requests for a model with these needs may go, or why nowhere."""
        known = self.models.get(model)
        return unknown_model(model, self.models) if known is None else known.route(needs)

    def model_of(self, ask: Ask) -> Model | None:
        """Return the model, or the variant of one, that a request is served by."""
        model = self.models.get(ask.facts.model)
        if ask.part is None or model is None or model.variants is None:
            return model
        return model.variants.of(ask.part)


def _callers(
    name: str, endpoints: Sequence[EndpointState], own: ModelPolicy | None
) -> list[EndpointState]:
    """Return the endpoints that serve a model's callers: its shadow does not, if there are others."""
    serving = [each for each in endpoints if name in each.plan.models]
    if own is None or own.shadow is None:
        return serving
    return [each for each in serving if not named((own.shadow,), each.plan)] or serving
