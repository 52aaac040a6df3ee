"""Small values to test with; what a test does not name has an ordinary value."""

from random import Random
from typing import Any

from policies.classify import Ask, classify, standard_of
from policies.commands import Send, Wait
from policies.dispatcher import Dispatcher
from policies.facts import EndpointPlan, Profile, Reason, Refuse, RequestFacts, SlaClass, Wish
from policies.fleet import EndpointState
from policies.flight import Flight
from policies.lengths import Lengths
from policies.policy import Policy

FAST = Profile.PREDICTABLE
WIDE = Profile.THROUGHPUT
INTERACTIVE = SlaClass.INTERACTIVE
STANDARD = SlaClass.STANDARD
BULK = SlaClass.BULK


def plan(name: str = "wide", profile: Profile = WIDE, **changes: Any) -> EndpointPlan:
    usual: dict[str, Any] = {
        "pool": profile.value,
        "models": frozenset({"m"}),
        "offers": frozenset(),
        "max_in_flight": 4,
    }
    return EndpointPlan(id=name, profile=profile, **(usual | changes))


def facts(sla_class: SlaClass | None = None, **changes: Any) -> RequestFacts:
    usual: dict[str, Any] = {"id": "r", "model": "m", "needs": frozenset(), "prompt_bytes": 400}
    wish = {name: changes.pop(name) for name in WISH & changes.keys()}
    return RequestFacts(**(usual | {"wish": Wish(sla_class, **wish)} | changes))


WISH = {"targets", "patience_s", "on_miss", "may_wait", "urgency"}


def ask(
    sla_class: SlaClass | None = None,
    policy: Policy | None = None,
    now: float = 0.0,
    **changes: Any,
) -> Ask:
    asked = facts(sla_class, **changes)
    return classify(asked, standard_of(policy or Policy(), asked.model), Lengths(), now)


def state(name: str = "wide", profile: Profile = WIDE, **changes: Any) -> EndpointState:
    policy = changes.pop("policy", Policy())
    return EndpointState(plan(name, profile, **changes), policy)


def flight(
    endpoint: EndpointState, sla_class: SlaClass = STANDARD, now: float = 0.0, **changes: Any
) -> Flight:
    taken = Flight(1, ask(sla_class, now=now, **changes), endpoint, Reason.HOME, now)
    endpoint.take(taken)
    return taken


def dispatcher(*plans: EndpointPlan, policy: Policy | None = None, seed: int = 1) -> Dispatcher:
    return Dispatcher(plans, policy or Policy(), Random(seed))


def sent(answer: object) -> Flight:
    assert isinstance(answer, Send), answer
    return answer.flight


def waits(answer: object) -> Wait:
    assert isinstance(answer, Wait), answer
    return answer


def refused(answer: object) -> Refuse:
    assert isinstance(answer, Refuse), answer
    return answer
