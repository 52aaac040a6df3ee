"""An explanation foretells what the dispatcher then does, whatever state it is in."""

from random import Random

import pytest

from policies.commands import Send, Wait
from policies.dispatcher import Dispatcher
from policies.explaining import CHOSEN, Goes, Waits
from policies.facts import (
    Ending,
    EndpointPlan,
    FailureKind,
    Profile,
    RefusalReason,
    Refuse,
    RequestFacts,
    SlaClass,
    Targets,
    Wish,
)
from policies.flight import Flight
from policies.policy import (
    EndpointPolicyName,
    ModelPolicy,
    Policy,
    ProfilePolicy,
    Profiles,
    Sticky,
    Variant,
)

STATES = 1000


def plans(rng: Random) -> list[EndpointPlan]:
    return [
        EndpointPlan(
            id=f"{profile}-{number}",
            pool=profile,
            profile=profile,
            models=frozenset({"m", "n"} if rng.random() < 0.5 else {"m"}),
            offers=frozenset(),
            weight=rng.choice([0.5, 1.0, 2.0]),
            max_in_flight=rng.randint(1, 4),
            max_context_tokens=rng.choice([None, 4096]),
        )
        for profile in Profile
        for number in range(rng.randint(1, 3))
    ]


def policy(rng: Random) -> Policy:
    name = rng.choice([*EndpointPolicyName])
    profile = ProfilePolicy(endpoint_policy=name)
    profiles = Profiles() if rng.random() < 0.5 else Profiles(profile, profile)
    variant = Variant(rng.choice([0.0, 0.3, 1.0]), endpoints=(f"{Profile.THROUGHPUT}-0",))
    split = ModelPolicy(variants={"v": variant}, sticky=rng.choice([*Sticky]))
    return Policy(profiles=profiles, models={"m": split} if rng.random() < 0.3 else {})


def facts(rng: Random, number: int) -> RequestFacts:
    targets = Targets(first_token_s=rng.choice([None, 0.05, 0.5]))
    return RequestFacts(
        id=f"r{number}",
        model=rng.choice(["m", "m", "n", "unknown"]),
        needs=frozenset(),
        prompt_bytes=rng.choice([10, 1000, 40_000]),
        max_tokens=rng.choice([None, 16, 2000]),
        wish=Wish(
            sla_class=rng.choice([None, *SlaClass]), targets=targets, may_wait=rng.random() < 0.9
        ),
        tenant=rng.choice(["", "a", "b"]),
        session=rng.choice([None, "s1", "s2"]),
    )


class Life:
    """A dispatcher to which things happen."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.dispatcher = Dispatcher(plans(rng), policy(rng), rng)
        self.flights: list[Flight] = []
        self.number = 0

    def step(self) -> None:
        """Let something happen."""
        rng, dispatcher = self.rng, self.dispatcher
        self.now += rng.expovariate(20.0)
        kind = rng.random()
        if kind < 0.6 or not self.flights:
            self.number += 1
            self.answer(dispatcher.arrive(facts(rng, self.number), self.now))
        else:
            flight = self.flights.pop(rng.randrange(len(self.flights)))
            if kind < 0.75:
                dispatcher.first_token(flight, self.now)
                dispatcher.ended(flight, Ending.COMPLETED, self.now, output_tokens=9)
            elif kind < 0.85:
                dispatcher.ended(flight, rng.choice([*Ending]), self.now)
            else:
                self.answer(dispatcher.failed(flight, FailureKind.BROKEN, self.now))
        if rng.random() < 0.05:
            id_ = rng.choice([*dispatcher.endpoints])
            dispatcher.drain(id_, rng.random() < 0.5)
        self.pump()

    def answer(self, decision) -> None:
        if isinstance(decision, Send):
            self.flights.append(decision.flight)

    def pump(self) -> None:
        for command in self.dispatcher.due(self.now):
            self.answer(command)


@pytest.mark.timeout(120)
def test_in_a_thousand_random_states_the_explanation_is_what_then_happens():
    seen = set()
    for seed in range(STATES // 10):
        life = Life(Random(seed))
        for _ in range(10):
            for _ in range(life.rng.randint(1, 12)):
                life.step()
            life.now += life.rng.expovariate(2.0)
            asked = facts(life.rng, 0)
            told = life.dispatcher.explain(asked, life.now)
            happens = life.dispatcher.arrive(asked, life.now)
            seen.add(type(told.decision).__name__)
            match happens:
                case Send():
                    flight = happens.flight
                    assert told.decision == Goes(flight.endpoint.id, flight.reason), seed
                    assert told.candidates[0].verdict == CHOSEN
                    assert told.candidates[0].endpoint.id == flight.endpoint.id
                    assert told.ask is not None
                    assert told.ask.part == flight.ask.part
                case Wait():
                    assert isinstance(told.decision, Waits), seed
                case Refuse():
                    assert isinstance(told.decision, Refuse), (seed, told.decision, happens)
                    assert told.decision.reason == happens.reason
            life.answer(happens)
            life.pump()
    assert seen == {"Goes", "Waits", "Refuse"}


def test_explaining_takes_nothing_and_draws_nothing():
    life = Life(Random(7))
    for _ in range(30):
        life.step()
    chance = life.rng.getstate()
    before = {id_: each.sent for id_, each in life.dispatcher.endpoints.items()}

    life.dispatcher.explain(facts(Random(1), 0), life.now)

    assert life.rng.getstate() == chance
    assert {id_: each.sent for id_, each in life.dispatcher.endpoints.items()} == before


def test_a_router_that_stops_says_so():
    life = Life(Random(1))
    life.dispatcher.stop(0.0)

    decision = life.dispatcher.explain(facts(Random(1), 0), 0.0).decision

    assert isinstance(decision, Refuse)
    assert decision.reason is RefusalReason.SHUTTING_DOWN
