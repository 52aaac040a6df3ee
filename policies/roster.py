"""All endpoints there are, and when the next of them is to be tried again."""

from collections.abc import Iterable
from math import inf

from policies.facts import EndpointPlan
from policies.fleet import EndpointState
from policies.health import State
from policies.latency import LatencyModel
from policies.policy import Policy
from policies.watchdog import is_alone, watch


class Roster:
    """The endpoints by id, those on their way out apart."""

    def __init__(self) -> None:
        self.endpoints: dict[str, EndpointState] = {}
        self.wake_at = inf
        """When the next endpoint that is down gets its trial."""
        self.busy_until = -inf
        """Until then some endpoint is said to have no room."""
        self._leaving: dict[str, EndpointState] = {}
        self.models: dict[str, LatencyModel] = {}
        """What is known of the speed of engines, by pool and weight."""

    def plan(self, plans: Iterable[EndpointPlan], policy: Policy) -> None:
        """Follow other plans; an endpoint that stays keeps all that is known of it."""
        before = {**self._leaving, **self.endpoints}
        self.endpoints = {}
        for plan in plans:
            endpoint = before.pop(plan.id, None)
            if endpoint is None:
                endpoint = EndpointState(plan, policy)
            else:
                endpoint.planned(plan, policy)
            # Engines of one pool and weight are alike: what one shows holds for all.
            endpoint.model = self.models.setdefault(f"{plan.pool} {plan.weight:g}", endpoint.model)
            endpoint.model.learns = policy.latency.learns
            self.endpoints[plan.id] = endpoint
        # Kept as long as something runs there: should it come back, its slots are still taken.
        self._leaving = {each.id: each for each in before.values() if each.own_in_flight}

    def watched(self) -> None:
        """Try endpoints by canaries from here on; for those that are new, call it again."""
        for endpoint in self.endpoints.values():
            endpoint.health.by_canary = True

    def was_busy(self, endpoint: EndpointState, now: float, retry_after_s: float | None) -> None:
        """Note that an engine refused for want of room."""
        endpoint.was_busy(now, retry_after_s)
        if endpoint.health.by_canary:
            # It has room for about what it holds: more is tried little by little.
            endpoint.allow(endpoint.own_in_flight, now)
        self.busy_until = max(self.busy_until, endpoint.health.busy_until)

    def sickened(self, endpoint: EndpointState, now: float, *, trial: bool) -> None:
        """Count a failure against an endpoint; `trial`: of its trial request."""
        alone = is_alone(endpoint, self.endpoints.values())
        endpoint.sickened(now, trial=trial, alone=alone)
        self.wake_at = min(self.wake_at, endpoint.health.retry_at)

    def wake(self, now: float) -> None:
        """Give a trial to every endpoint whose time of being down is over."""
        for endpoint in self.endpoints.values():
            if now >= endpoint.health.retry_at:
                endpoint.try_again()
        self._next_wake()

    def watch(self, now: float) -> bool:
        """Judge every endpoint by what moves; return whether anything changed."""
        changed = watch(self.endpoints.values(), now)
        if changed:
            self._next_wake()
        return changed

    def _next_wake(self) -> None:
        self.wake_at = min(
            (endpoint.health.retry_at for endpoint in self.endpoints.values()), default=inf
        )


def revive(endpoints: Iterable[EndpointState]) -> bool:
    """Give an early trial to those down by failed requests alone; return whether there was one."""
    revived = False
    for endpoint in endpoints:
        health = endpoint.health
        if health.state is State.DOWN and not health.probed_down:
            endpoint.try_again()
            revived = True
    return revived
