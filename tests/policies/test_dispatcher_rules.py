"""What holds of the dispatcher whatever happens, held against a count kept by hand."""

from collections import Counter
from dataclasses import replace
from math import inf
from random import Random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies.commands import Expire, Send, Wait
from policies.dispatcher import Dispatcher
from policies.facts import Ending, FailureKind, OnMiss, Reason, Refuse, SlaClass
from policies.flight import Flight
from policies.ordering import Ticket
from policies.others import Others
from policies.policy import (
    Classes,
    ClassPolicy,
    EndpointPolicyName,
    LatencyPolicy,
    Policy,
    Profiles,
)
from tests.policies.builders import FAST, WIDE, facts, plan

USUAL = Policy()
BOTH_MODELS = frozenset({"m", "o"})
PLANS = {
    "fast": plan("fast", FAST, max_in_flight=4, models=BOTH_MODELS),
    "lone": plan("lone", FAST, max_in_flight=2, models=frozenset({"p"})),
    "wide": plan("wide", WIDE, max_in_flight=3),
    "next": plan("next", WIDE, max_in_flight=2, models=BOTH_MODELS),
}
RETRIED = [kind for kind in FailureKind if kind is not FailureKind.REJECTED]


arrivals = st.builds(
    facts,
    st.none() | st.sampled_from(SlaClass),
    model=st.sampled_from(["m", "m", "o", "p"]),
    known_prompt_tokens=st.sampled_from([10, 3000, 5000]),
    patience_s=st.none() | st.sampled_from([0.5, 3.0]),
    on_miss=st.none() | st.sampled_from(OnMiss),
    may_wait=st.sampled_from([True, True, True, False]),
    streams=st.booleans(),
    tenant=st.sampled_from(["", "", "t"]),
    session=st.sampled_from([None, None, "s"]),
)


def due_at(asked):
    if asked.first_token_by is not None:
        return asked.first_token_by
    return asked.wait_until if asked.finish_by is None else asked.finish_by


class Rules(RuleBasedStateMachine):
    """Plays the router: it does what it is told and remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.now = 100.0
        self.requests = 0
        self.plans = dict(PLANS)
        self.open: list[Flight] = []
        self.waiting: dict[int, Ticket] = {}
        self.answered: Counter[str] = Counter()
        self.others: dict[str, Others] = {}

    @initialize(
        name=st.sampled_from(EndpointPolicyName),
        seed=st.integers(0, 99),
        few=st.booleans(),
        slow=st.booleans(),
    )
    def start(self, name, seed, few, slow):
        profiles = USUAL.profiles
        self.policy = replace(
            USUAL,
            profiles=Profiles(
                replace(profiles.predictable, endpoint_policy=name),
                replace(profiles.throughput, endpoint_policy=name),
            ),
        )
        if slow:
            # So slow that bulk beside an interactive request is kept waiting.
            latency = LatencyPolicy(learns=False, step_s=0.0399, s_per_sequence=1e-4)
            self.policy = replace(self.policy, latency=latency)
        if few:
            bulk = ClassPolicy(USUAL.classes.bulk.targets, max_waiting=1)
            self.policy = replace(self.policy, classes=Classes(bulk=bulk))
        self.dispatcher = Dispatcher(self.plans.values(), self.policy, Random(seed))

    # What happens

    @rule(asked=arrivals)
    def arrives(self, asked):
        self.requests += 1
        asked = replace(asked, id=str(self.requests))
        answer = self.dispatcher.arrive(asked, self.now)
        self.take(answer, asked.id)
        assert asked.wish.may_wait or not isinstance(answer, Wait)
        self.follow_up()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def begins(self, data):
        self.dispatcher.first_token(self.some_flight(data), self.now)
        self.follow_up()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), tokens=st.integers(1, 50))
    def grows(self, data, tokens):
        self.dispatcher.progressed(self.some_flight(data), tokens, self.now)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), ending=st.sampled_from(Ending), twice=st.booleans())
    def ends(self, data, ending, twice):
        flight = self.some_flight(data)
        self.open.remove(flight)
        for _ in range(1 + twice):
            self.dispatcher.ended(
                flight, ending, self.now, prompt_tokens=99, output_tokens=flight.output_tokens
            )
        self.answered[flight.ask.facts.id] += 1
        self.follow_up()

    @precondition(lambda self: any(flight.first_token_at is None for flight in self.open))
    @rule(
        data=st.data(),
        kind=st.sampled_from(RETRIED),
        retry_after_s=st.none() | st.floats(0.0, 40.0),
    )
    def fails(self, data, kind, retry_after_s):
        unborn = [flight for flight in self.open if flight.first_token_at is None]
        flight = data.draw(st.sampled_from(unborn))
        self.open.remove(flight)
        answer = self.dispatcher.failed(flight, kind, self.now, retry_after_s=retry_after_s)
        self.take(answer, flight.ask.facts.id)
        if isinstance(answer, Send):
            again = answer.flight
            assert again.attempt == flight.attempt + 1
            assert again.ask.facts is flight.ask.facts
            if kind is not FailureKind.STALE_CONNECTION:
                assert again.endpoint is not flight.endpoint
        self.follow_up()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def hangs_up(self, data):
        ticket = self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting))))
        self.dispatcher.left(ticket, self.now)
        self.answered[ticket.ask.facts.id] += 1
        self.follow_up()

    @precondition(lambda self: self.waiting and self.open)
    @rule(data=st.data())
    def hangs_up_just_as_it_is_sent(self, data):
        flight = self.some_flight(data)
        self.open.remove(flight)
        self.dispatcher.ended(flight, Ending.COMPLETED, self.now)
        self.answered[flight.ask.facts.id] += 1
        self.dispatcher._settle(self.now)

        ticket = self.waiting.pop(data.draw(st.sampled_from(sorted(self.waiting))))
        self.dispatcher.left(ticket, self.now)
        self.answered[ticket.ask.facts.id] += 1
        self.follow_up()

    @rule(elapsed_s=st.sampled_from([0.01, 0.3, 1.0, 5.0, 61.0]))
    def time_passes(self, elapsed_s):
        end = self.now + elapsed_s
        while (wake := self.dispatcher.next_wake()) is not None and wake <= end:
            assert self.now < wake
            self.now = wake
            self.follow_up()
        self.now = end
        self.follow_up()

    @rule(name=st.sampled_from(sorted(PLANS)), ok=st.booleans())
    def is_probed(self, name, ok):
        self.dispatcher.probed(name, ok, self.now)
        self.follow_up()

    @rule(data=st.data(), on=st.booleans())
    def is_drained(self, data, on):
        self.dispatcher.drain(data.draw(st.sampled_from(sorted(self.plans))), on)
        self.follow_up()

    @rule(
        data=st.data(),
        in_flight=st.tuples(*[st.integers(0, 2)] * 3),
        pending=st.sampled_from([0, 9000]),
    )
    def hears_of_others(self, data, in_flight, pending):
        name = data.draw(st.sampled_from(sorted(self.plans)))
        self.others[name] = Others(in_flight, pending, pending)
        self.dispatcher.heard(name, self.others[name], self.now)
        self.follow_up()

    @rule(
        gone=st.none() | st.sampled_from(sorted(PLANS)),
        slots=st.sampled_from([1, 3, 6]),
    )
    def is_reconfigured(self, gone, slots):
        busy = {flight.endpoint.id for flight in self.open}
        if gone not in busy:
            self.others.pop(gone, None)
        self.plans = {
            name: replace(each, max_in_flight=slots) if name == "wide" else each
            for name, each in PLANS.items()
            if name != gone
        }
        self.dispatcher.reconfigure(self.plans.values(), self.policy, self.now)
        self.follow_up()

    # What the router does of itself

    def some_flight(self, data):
        return data.draw(st.sampled_from(self.open))

    def take(self, answer, request_id) -> None:
        match answer:
            case Send(flight, None):
                self.sends(flight)
            case Wait(ticket):
                assert ticket.number not in self.waiting
                self.waiting[ticket.number] = ticket
            case Refuse():
                self.answered[request_id] += 1
                assert answer.detail
            case _:
                raise AssertionError(answer)

    def follow_up(self) -> None:
        """Ask for what is due, as after every event."""
        if not self.dispatcher.waiting:
            return
        for answer in self.dispatcher.due(self.now):
            assert answer.ticket is not None
            ticket = self.waiting.pop(answer.ticket.number)
            assert ticket is answer.ticket
            if isinstance(answer, Expire):
                self.answered[ticket.ask.facts.id] += 1
            else:
                assert self.now < ticket.ask.wait_until
                self.sends(answer.flight)
                self.none_was_passed_over(answer.flight)

    def sends(self, flight: Flight) -> None:
        asked, endpoint = flight.ask, flight.endpoint
        assert flight.held
        assert flight not in self.open
        assert asked.finish_by is None or self.now < asked.finish_by
        assert endpoint.id in self.plans
        assert self.may_go(asked, endpoint.id, flight.tried) or (
            # What is left to read of a long prompt may be short.
            flight.reason is Reason.AFFINITY and asked.prompt_tokens - flight.hit_tokens <= 4096
        )
        self.open.append(flight)
        held = self.held(endpoint.id)
        endpoint_plan = self.plans[endpoint.id]
        assert sum(held) <= endpoint_plan.max_in_flight
        if endpoint_plan.profile is FAST:
            if asked.rank >= 1:
                assert held[1] + held[2] <= max(1, endpoint_plan.max_in_flight // 2)
            if asked.rank == 2:
                assert held[2] <= max(1, endpoint_plan.max_in_flight // 4)
        assert [each.trial for each in self.at(endpoint.id)].count(True) <= 1

    # The count kept by hand

    def at(self, name) -> list[Flight]:
        return [flight for flight in self.open if flight.endpoint.id == name]

    def held(self, name) -> list[int]:
        ranks = Counter(flight.ask.rank for flight in self.at(name))
        others = self.others.get(name, Others()).in_flight
        return [ranks[rank] + others[rank] for rank in range(3)]

    def pending(self, name) -> int:
        return self.others.get(name, Others()).pending_prompt_tokens + sum(
            flight.ask.prompt_tokens - flight.hit_tokens
            for flight in self.at(name)
            if flight.first_token_at is None and flight.ask.facts.streams
        )

    def may_go(self, asked, name, tried) -> bool:
        serves = {
            each.id: each.profile
            for each in self.plans.values()
            if asked.facts.model in each.models
        }
        if name not in serves or name in tried:
            return False
        short = asked.fits_predictable
        return serves[name] is WIDE or short or WIDE not in serves.values()

    def has_room(self, name, rank) -> bool:
        endpoint_plan, held = self.plans[name], self.held(name)
        if sum(held) >= endpoint_plan.max_in_flight:
            return False
        if not self.dispatcher.endpoints[name].health.takes_requests:
            return False
        pending, slots = self.pending(name), endpoint_plan.max_in_flight
        if endpoint_plan.profile is WIDE:
            return rank < 2 or pending < 8192
        if rank >= 1 and held[1] + held[2] >= max(1, slots // 2):
            return False
        return rank < 2 or (held[2] < max(1, slots // 4) and pending < 2048)

    def none_was_passed_over(self, flight: Flight) -> None:
        for ticket in self.waiting.values():
            higher = ticket.ask.rank < flight.ask.rank
            due, its_due = due_at(ticket.ask), due_at(flight.ask)
            earlier = (
                ticket.ask.rank == flight.ask.rank
                and ticket.ask.facts.tenant == flight.ask.facts.tenant
                and self.now < due
                and (due < its_due or its_due <= self.now)
            )
            assert not (
                (higher or earlier)
                and self.may_go(ticket.ask, flight.endpoint.id, ticket.tried)
                and not self.is_held_back(flight.endpoint.id, ticket.ask)
            )

    # What always holds

    @invariant()
    def every_count_is_right(self):
        for name, endpoint in self.dispatcher.endpoints.items():
            own = self.at(name)
            assert endpoint.own_in_flight == len(own)
            assert endpoint.held == self.held(name)
            assert endpoint.in_flight == sum(self.held(name))
            assert endpoint.pending_prompt_tokens == self.pending(name)
            assert endpoint.kv_tokens == self.others.get(name, Others()).kv_tokens + sum(
                flight.ask.prompt_tokens + flight.output_tokens for flight in own
            )
            for rank in range(3):
                assert endpoint.rooms[rank] == self.has_room(name, rank)

    @invariant()
    def nobody_waits_while_a_fitting_slot_is_free(self):
        for ticket in self.waiting.values():
            for name in self.plans:
                free = self.may_go(ticket.ask, name, ticket.tried) and self.has_room(
                    name, ticket.ask.rank
                )
                assert not free or self.is_guarded(name, ticket.ask)

    def is_guarded(self, name, asked) -> bool:
        """Whether somebody interactive there would suffer; then the router looks again soon."""
        endpoint, tokens = self.dispatcher.endpoints[name], asked.prompt_tokens
        target_s = USUAL.classes.interactive.targets.per_token_s
        assert target_s is not None
        wake = self.dispatcher.next_wake()
        assert wake is not None
        return self.is_held_back(name, asked) or (
            asked.rank == 2
            and self.held(name)[0] > 0
            and (endpoint.forecast(tokens, self.now)[1] > 0.8 * target_s or wake <= self.now + 0.1)
        )

    def is_held_back(self, name, asked) -> bool:
        """Whether its tenant took more than its share where nobody has time to spare."""
        endpoint, targets = self.dispatcher.endpoints[name], asked.targets
        if asked.rank == 2 or not endpoint.in_flight:
            return False
        first_s, next_s = endpoint.forecast(asked.prompt_tokens, self.now)
        scarce = first_s > 0.8 * (targets.first_token_s or inf) or next_s > 0.8 * (
            targets.per_token_s or inf
        )
        return scarce and self.dispatcher._shares.over(asked.facts.tenant, self.now)

    @invariant()
    def nobody_waits_past_its_time_and_somebody_wakes_the_router(self):
        for ticket in self.waiting.values():
            assert self.now < ticket.ask.wait_until
        if self.waiting:
            wake = self.dispatcher.next_wake()
            assert wake is not None
            assert self.now < wake

    @invariant()
    def nobody_is_lost_or_answered_twice(self):
        if self.requests:
            assert self.dispatcher.waiting == len(self.waiting)
        unanswered = [flight.ask.facts.id for flight in self.open]
        unanswered += [ticket.ask.facts.id for ticket in self.waiting.values()]
        assert len(unanswered) == len(set(unanswered))
        assert set(self.answered.values()) <= {1}
        assert len(unanswered) + len(self.answered) == self.requests

    def teardown(self):
        for name in self.plans:
            self.dispatcher.drain(name, on=True)
        for flight in self.open:
            self.dispatcher.ended(flight, Ending.COMPLETED, self.now)
        self.open = []
        self.now += 1000.0
        self.follow_up()
        assert not self.waiting
        assert not self.open
        self.every_count_is_right()


Rules.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRules = Rules.TestCase
