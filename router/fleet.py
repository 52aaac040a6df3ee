"""What the configuration says of the fleet, joined with what its engines say of themselves."""

from engines.engine import Dialect, Discovery, Engine, Kind, Route
from policies.facts import EndpointPlan
from router.settings import Endpoint, Pool

_KNOWS_ITS_MODELS = frozenset({Kind.VLLM, Kind.SGLANG})
"""Kinds that refuse a model which they do not list; the others serve any name."""


def plan(pool: Pool, endpoint: Endpoint, engine: Engine) -> EndpointPlan:
    """Return what is known of an endpoint before it was asked."""
    traits = engine.traits
    return EndpointPlan(
        id=endpoint.id,
        pool=pool.name,
        profile=pool.profile,
        models=frozenset(pool.models),
        offers=traits.offers,
        weight=endpoint.weight,
        max_in_flight=endpoint.max_in_flight,
        max_context_tokens=endpoint.max_context_tokens,
        max_output_tokens=traits.max_output_tokens,
    )


def discovered(
    pool: Pool, endpoint: Endpoint, engine: Engine, discovery: Discovery
) -> EndpointPlan:
    """Return what is known of an endpoint that was asked; the configuration's word goes first."""
    first = plan(pool, endpoint, engine)
    slots = [first.max_in_flight, discovery.max_in_flight or first.max_in_flight]
    offers = first.offers
    if discovery.features is not None:
        routes = {need for need in offers if isinstance(need, Route)}
        offers = frozenset({*routes, *discovery.features})
    return EndpointPlan(
        id=first.id,
        pool=first.pool,
        profile=first.profile,
        models=_served(first.models, endpoint, discovery),
        offers=offers,
        weight=first.weight,
        max_in_flight=min(slots),
        max_context_tokens=first.max_context_tokens or discovery.max_context_tokens,
        max_output_tokens=first.max_output_tokens,
    )


def _served(models: frozenset[str], endpoint: Endpoint, discovery: Discovery) -> frozenset[str]:
    """Return the public names that the endpoint serves: a LoRA adapter may not be loaded there.

    Where the engine lists none of them it is taken to know them by other names.
    """
    if endpoint.model is not None or endpoint.engine not in _KNOWS_ITS_MODELS:
        return models
    return models & frozenset(discovery.models) or models


def dialect(endpoint: Endpoint, engine: Engine) -> Dialect:
    """Return how an endpoint wants to be spoken to."""
    return Dialect(
        upstream_model=endpoint.model,
        honours_priority=endpoint.honours_priority,
        max_output_tokens=engine.traits.max_output_tokens,
    )
