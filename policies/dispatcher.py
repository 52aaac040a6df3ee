"""The routing state machine: events in, commands out, the time an argument.

All routing state is changed here, in methods that never await. What must hold: every slot is given
back exactly once; nobody waits while a slot that fits is free; nobody is answered twice or lost.

After any event, while `waiting` is not 0, the caller asks `due` for what follows from it, and again
at `next_wake`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from random import Random
from typing import Final

from policies import admission
from policies.affinity import Affinity, Favourite
from policies.backlog import LEAST_RETRY_S, MOST_RETRY_S, RANKS, UNKNOWN_RETRY_S
from policies.classify import Ask, Part, classify, standard_of
from policies.commands import Expire, Send, Wait
from policies.explaining import Explanation, Goes, Waits, candidates, revived, unbound
from policies.facts import (
    Ending,
    EndpointPlan,
    FailureKind,
    Load,
    Reason,
    Refuse,
    RequestFacts,
    SlaClass,
)
from policies.fairness import OUTPUT_WEIGHT, Shares
from policies.fleet import EndpointState
from policies.flight import Flight
from policies.health import SICK, Cause, State
from policies.latency import LatencyModel
from policies.lengths import Lengths
from policies.ordering import Lane, Queue, Ticket, due_at, foremost
from policies.others import Others
from policies.placing import BULK, Placed, follow, open_tiers, place
from policies.policy import Policy
from policies.retry import RetryBudget, may_retry
from policies.roster import Roster, revive
from policies.routes import Catalogue
from policies.variants import Copies

RECHECK_S: Final = 1.0
"""After a canary that failed, the next is sent so soon, s."""
LOOK_AGAIN_S: Final = 0.1
"""How soon those are tried again who wait although there is room."""
SECOND: Final = 2
"""Number of the attempt that an answer which broke off goes on with, however many there were: the
one that broke had not failed before it gave tokens."""
MOST_FLOOR_TOKENS: Final = 16384.0
"""Most that bulk may save up for passing its guard: two full prompts."""
SHADOWED: Final = Part("shadow")
"""What a copy of a request belongs to."""


class Dispatcher:
    """Decides for each request where it goes, or that it waits, or that it is refused."""

    def __init__(
        self, plans: Iterable[EndpointPlan], policy: Policy, rng: Random, *, watched: bool = False
    ) -> None:
        """`watched`: the caller calls `watch` a few times a second, and sends canaries."""
        self.policy = policy
        self._watched = watched
        self.lengths = Lengths()
        self.waiting = 0
        """Requests that wait, and answers that `due` has ready; 0: `due` need not be asked."""
        self._rng = rng
        self._roster = Roster()
        self._queue = Queue()
        self._ready: list[Send | Expire] = []
        self._ready_since = 0.0
        self._budget = RetryBudget(policy.retry)
        self._shares = Shares(policy.fairness)
        self._affinity = Affinity()
        self._floor_tokens = 0.0
        """Prompt tokens of bulk that may pass its guard."""
        self._flights = 0
        self._tickets = 0
        self._stopped = False
        self._stirred = False
        """Something happened that may let a waiting request go."""
        self._look_again_at = inf
        """When to try again for those who wait although there is room: predictions change with
        time alone."""
        self._others_wait: set[str] = set()
        """Endpoints where bulk of other routers may come first."""
        self._roster.plan(plans, policy)
        self._catalogue = Catalogue(list(self.endpoints.values()), policy)
        if watched:
            self._roster.watched()

    @property
    def endpoints(self) -> Mapping[str, EndpointState]:
        """All that is known of each endpoint, by id; to be read only."""
        return self._roster.endpoints

    @property
    def models(self) -> Mapping[str, LatencyModel]:
        """What is known of the speed of engines, by pool and weight."""
        return self._roster.models

    @property
    def copies(self) -> Mapping[str, Copies]:
        """Copies under way, by model; empty where no model has a shadow."""
        return self._catalogue.copies

    @property
    def waiting_by_rank(self) -> Sequence[int]:
        """Requests that wait, by rank of class."""
        return self._queue.by_rank

    def waiting_bulk(self) -> dict[str, tuple[float, int]]:
        """Return when the first bulk that waits for each endpoint is due, and how many wait for it.

        Endpoints that take no requests are left out: nobody's bulk is kept back for them.
        """
        found: dict[str, tuple[float, int]] = {}
        for lane in self._queue.lanes(BULK):
            first = lane.soonest
            for endpoint in lane.endpoints:
                if endpoint.health.takes_requests:
                    before, count = found.get(endpoint.id, (first, 0))
                    found[endpoint.id] = min(before, first), count + lane.waiting
        return found

    # Requests

    def arrive(self, facts: RequestFacts, now: float) -> Send | Wait | Refuse:
        """Answer a request that has just come."""
        if self._stopped:
            return admission.shutting_down()
        route = self._catalogue.route(facts.model, facts.needs)
        if isinstance(route, Refuse):
            return route
        self._budget.arrived()
        ask = classify(facts, route.model.standard, self.lengths, now)
        lane = route.lane(ask)
        if isinstance(lane, Refuse):
            return lane
        if self.waiting or now >= self._roster.wake_at:
            self._settle(now, ask.rank + 1)
        if route.model.variants is not None:
            lane = route.model.variants.take(ask)
            if isinstance(lane, Refuse):
                return lane
        flight = self._place(lane, ask, now)
        if flight is not None:
            return Send(flight)
        return self._wait(Ticket(0, ask, lane, now), now)

    def first_token(self, flight: Flight, now: float) -> None:
        """Note that the answer has begun."""
        if flight.held and flight.first_token_at is None:
            flight.endpoint.began(flight, now)
            self._stirred = True

    def progressed(self, flight: Flight, tokens: int, now: float) -> None:
        """Note `tokens` more output tokens."""
        if flight.held:
            flight.endpoint.grew(flight, tokens)
            flight.endpoint.progress.tokens(tokens, now - flight.moved_at, now)
            flight.moved_at = now

    def unread(self, flight: Flight, on: bool, now: float) -> None:
        """Note that the caller of a begun stream reads no more of it, or does again."""
        if flight.held and flight.unread is not on and flight.first_token_at is not None:
            flight.unread = on
            flight.moved_at = now
            progress = flight.endpoint.progress
            if on:
                progress.unread()
            else:
                progress.read_on(now)

    def ended(
        self,
        flight: Flight,
        ending: Ending,
        now: float,
        *,
        prompt_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_tokens: int | None = None,
    ) -> None:
        """Give the slot back, for good; nothing happens where that was done already.

        Token counts are the engine's own, None where it does not tell.
        """
        ask, endpoint, trial = flight.ask, flight.endpoint, flight.trial
        if ending is Ending.COMPLETED:
            endpoint.learn_pace(flight, output_tokens, now)
        if not endpoint.give(flight):
            return
        self._stirred = True
        model = self._catalogue.model_of(ask)
        if model is not None:
            model.backlog.drains[ask.rank].ended(now, now - flight.sent_at)
        match ending:
            case Ending.COMPLETED:
                endpoint.progress.moved(now)
                self._completed(flight, prompt_tokens, output_tokens, cached_tokens, trial=trial)
            case Ending.FAILED:
                self._roster.sickened(endpoint, now, trial=trial)
            case Ending.REJECTED:
                endpoint.rejected += 1
            case Ending.ABANDONED:
                endpoint.abandoned += 1

    def _completed(
        self,
        flight: Flight,
        prompt_tokens: int | None,
        output_tokens: int | None,
        cached_tokens: int | None,
        *,
        trial: bool,
    ) -> None:
        """Learn from an answer that came whole."""
        ask, endpoint = flight.ask, flight.endpoint
        endpoint.completed += 1
        if not endpoint.health.spotless:
            endpoint.worked(trial=trial)
        self.lengths.learn(
            ask.facts,
            ask.rank,
            ask.prompt_tokens,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
        )
        if flight.hit_tokens and cached_tokens is not None:
            self._affinity.learn(flight.hit_tokens, cached_tokens)

    def copied(self, flight: Flight, now: float) -> Flight | None:
        """Take a slot for a copy of a request just sent; None where none is due, or has room.

        `copy_ended` gives it back. A copy ranks with bulk, and none is made while anybody waits.
        """
        copies = self._catalogue.copies.get(flight.ask.facts.model)
        if copies is None or not copies.is_due():
            return None
        endpoint = None if self.waiting else copies.place(flight.ask.facts)
        if endpoint is None:
            return None
        copies.in_flight += 1
        self._flights += 1
        ask = replace(flight.ask, sla_class=SlaClass.BULK, rank=BULK, part=SHADOWED)
        copy = Flight(self._flights, ask, endpoint, Reason.SHADOW, now)
        endpoint.take(copy)
        return copy

    def copy_ended(
        self, flight: Flight, ending: Ending, now: float, *, output_tokens: int | None = None
    ) -> None:
        """Give the slot of a copy back, for good; it tells of its endpoint and of nothing else."""
        endpoint, trial = flight.endpoint, flight.trial
        if ending is Ending.COMPLETED:
            endpoint.learn_pace(flight, output_tokens, now)
        if not endpoint.give(flight):
            return
        self._stirred = True
        copies = self._catalogue.copies.get(flight.ask.facts.model)
        if copies is not None:
            copies.in_flight = max(0, copies.in_flight - 1)
        if ending is Ending.COMPLETED:
            endpoint.progress.moved(now)
            endpoint.worked(trial=trial)
        elif ending is Ending.FAILED:
            self._roster.sickened(endpoint, now, trial=trial)

    def failed(
        self, flight: Flight, kind: FailureKind, now: float, *, retry_after_s: float | None = None
    ) -> Send | Wait | Refuse:
        """Give the slot back after a failure before the first byte, and answer the request again.

        `retry_after_s`: what a busy engine asked for. Raises ValueError where the slot was given
        back before: the request has been answered.
        """
        endpoint, trial = flight.endpoint, flight.trial
        self._take_back(flight)
        tried = flight.tried | {endpoint.id}
        spared = flight.spared
        if kind in SICK and (trial or kind is not FailureKind.BROKEN or flight.attempt == 1):
            # An answer that is broken at one endpoint after another may be the request's doing.
            self._roster.sickened(endpoint, now, trial=trial)
        elif kind is FailureKind.BUSY:
            self._roster.was_busy(endpoint, now, retry_after_s)
        elif kind is FailureKind.STALE_CONNECTION:
            # Once may be chance; where it happens again, others had better be tried as well.
            if not spared or self._is_last(flight, tried):
                tried = flight.tried
            spared = True
        return self._again(flight, kind, now, tried=tried, spared=spared)

    def _is_last(self, flight: Flight, tried: frozenset[str]) -> bool:
        """Return whether none is left that a request could be sent to."""
        lane = self._lane_of(flight.ask, tried)
        return isinstance(lane, Refuse) or not lane.endpoints

    def broke(self, flight: Flight, now: float, barred: frozenset[str]) -> Send | Wait | Refuse:
        """Give the slot back of an answer that broke off, and find another for the rest of it.

        `barred`: endpoints that cannot go on from the middle. Raises ValueError where the slot was
        given back before.
        """
        endpoint = flight.endpoint
        self._take_back(flight)
        self._roster.sickened(endpoint, now, trial=False)
        ask = self._granted(flight.ask, now)
        if not self._budget.has_one(now):
            return self._given_up(flight, FailureKind.BROKEN, now)
        # Where it failed before says nothing any more: that was a part of the answer ago.
        tried = frozenset((endpoint.id,))
        lane = self._lane_of(ask, tried | barred)
        if isinstance(lane, Refuse):
            return lane
        if not lane.endpoints:
            return self._given_up(flight, FailureKind.BROKEN, now)
        self._budget.spend()
        ticket = Ticket(0, ask, lane, now, SECOND, flight.queued_s, tried=tried)
        return self._resend(ticket, now)

    def stands_still(self, flight: Flight) -> bool:
        """Return whether the endpoint of a request was put down because nothing moves there."""
        health = flight.endpoint.health
        return health.state is State.DOWN and health.cause is Cause.STILL

    def had_better_move(self, flight: Flight, now: float) -> bool:
        """Return whether a request without a byte is better tried elsewhere, which has room.

        So it is where nothing moves any more.
        """
        if not self.stands_still(flight):
            return False
        if flight.attempt >= self.policy.retry.max_attempts or not self._budget.has_one(now):
            return False
        lane = self._lane_of(flight.ask, flight.tried | {flight.endpoint.id})
        if isinstance(lane, Refuse):
            return False
        rank = flight.ask.rank
        return any(endpoint.rooms[rank] for endpoint in lane.endpoints)

    def _granted(self, ask: Ask, now: float) -> Ask:
        """Let a request whose engine took all its time wait again as long as its class waits."""
        if now < ask.wait_until or not ask.facts.wish.may_wait:
            return ask
        wait_until = now + self.policy.of_class(ask.sla_class).max_wait_s
        if ask.finish_by is not None:
            wait_until = min(wait_until, ask.finish_by)
        return replace(ask, wait_until=wait_until)

    def class_of(self, facts: RequestFacts) -> SlaClass:
        """Return the class that a request would be served as."""
        model = self._catalogue.models.get(facts.model)
        standard = model.standard if model is not None else standard_of(self.policy, facts.model)
        return classify(facts, standard, self.lengths, 0.0).sla_class

    def explain(self, facts: RequestFacts, now: float) -> Explanation:
        """Return what `arrive` would answer, and why; nothing is taken, learned or drawn.

        As any event does, it brings the state up to `now`: ask `due` afterwards.
        """
        if self._stopped:
            return Explanation(admission.shutting_down())
        route = self._catalogue.route(facts.model, facts.needs)
        if isinstance(route, Refuse):
            return Explanation(route)
        ask = classify(facts, route.model.standard, self.lengths, now)
        lane = route.lane(ask)
        if isinstance(lane, Refuse):
            return Explanation(lane, ask)
        if self.waiting or now >= self._roster.wake_at:
            self._settle(now, ask.rank + 1)
        variants = route.model.variants
        if variants is not None:
            lane = variants.take(ask, counted=False)
            if isinstance(lane, Refuse):
                return Explanation(lane, ask)
        chance = self._rng.getstate()
        decision = self._foreseen(lane, ask, now)
        self._rng.setstate(chance)
        chosen = decision.endpoint_id if isinstance(decision, Goes) else None
        known = route.model.endpoints if variants is None else variants.endpoints
        rows = candidates(known, facts, ask, lane, chosen, now)
        return Explanation(decision, ask, rows)

    def _foreseen(self, lane: Lane, ask: Ask, now: float) -> Goes | Waits | Refuse:
        """Return what `_place` and `_wait` would come to."""
        floor = self._has_floor(ask)
        placed = self._find(unbound(lane), ask, now, floor=floor)
        if placed is None and not any(each.health.hopeful for each in lane.endpoints):
            with revived(lane) as dreamt:
                if dreamt is None:
                    return self._nobody(ask, lane)
                placed = self._find(dreamt, ask, now, floor=floor)
        if placed is not None:
            return Goes(placed.endpoint.id, placed.reason)
        refusal = self._unwelcome(Ticket(0, ask, lane, now), now)
        if refusal is not None:
            return refusal
        return Waits(sum(self._queue.by_rank[: ask.rank + 1]), ask.wait_until - now)

    def left(self, ticket: Ticket, now: float) -> None:
        """Forget a waiting request whose caller hung up, also if it was sent just before."""
        if ticket in self._queue:
            self._queue.remove(ticket)
        elif ticket.flight is not None:
            self.ended(ticket.flight, Ending.ABANDONED, now)
        self._ready = [each for each in self._ready if each.ticket is not ticket]
        self._count()

    # Time

    def due(self, now: float) -> list[Send | Expire]:
        """Return the answers to waiting requests that are due by `now`, each exactly once."""
        self._settle(now)
        ready, self._ready = self._ready, []
        self._count()
        return ready

    def next_wake(self) -> float | None:
        """Return when `due` has an answer without any event before; None: not by itself."""
        if self._ready:
            return self._ready_since
        expiry = self._queue.next_expiry()
        return None if expiry is None else min(expiry, self._roster.wake_at, self._look_again_at)

    # Endpoints

    def observed(self, endpoint_id: str, load: Load, now: float) -> None:
        """Keep what an engine's gauges said; an endpoint that is gone is passed over."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None:
            endpoint.load = load
            endpoint.progress.counted(load.progress, now)

    def probed(self, endpoint_id: str, ok: bool, now: float) -> None:
        """Count a health probe; an endpoint that is gone is passed over."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None:
            if (
                self._watched
                and not ok
                and now - endpoint.progress.moved_at < self.policy.health.stall_s
            ):
                # It computes, whatever it says: what it refuses or fails will tell.
                return
            endpoint.probed(ok=ok)
            self._stirred = True

    def watch(self, now: float) -> None:
        """Judge every endpoint by what moves there; to be called a few times a second."""
        if now >= self._roster.wake_at:
            self._roster.wake(now)
            self._stirred = True
        if self._roster.watch(now):
            self._stirred = True

    def canaries(self, now: float, idle_s: float) -> list[str]:
        """Return the endpoints that a one-token request is to be sent to; each is tried by it.

        Those whose trial is due, and those of which nothing was seen for `idle_s`. Each must be
        answered by `canary_ended`.
        """
        due = []
        for endpoint in self.endpoints.values():
            health = endpoint.health
            if health.trying:
                continue
            idle = not endpoint.own_in_flight and health.takes_requests
            quiet_s = min(idle_s, RECHECK_S) if health.failures else idle_s
            if idle and endpoint.progress.moved_at == -inf:
                # Of one that is new, the time of being idle counts from here.
                endpoint.progress.moved(now)
            if health.awaits_canary or (idle and now - endpoint.progress.moved_at >= quiet_s):
                endpoint.canary_sent()
                due.append(endpoint.id)
        return due

    def canary_ended(self, endpoint_id: str, well: bool | None, now: float) -> None:
        """Take in how a canary went; `well` None: the endpoint does not take such requests."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            return
        if well is None:
            endpoint.canary_undecided()
        elif well:
            endpoint.canary_passed(now)
        else:
            on_trial = endpoint.health.state is State.TRIAL
            endpoint.health.trying = False
            endpoint.progress.moved(now)
            self._roster.sickened(endpoint, now, trial=on_trial)
        self._stirred = True

    def heard(self, endpoint_id: str, others: Others, now: float) -> None:
        """Replace what other routers have at an endpoint; one that is gone is passed over."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is not None:
            endpoint.heard(others)
            if others.bulk_before < inf:
                self._others_wait.add(endpoint_id)
            else:
                self._others_wait.discard(endpoint_id)
            self._stirred = True

    def used_by_tenant(self, most: int, now: float) -> dict[str, float]:
        """Return weighted tokens that own requests used lately, of the tenants who used most."""
        return self._shares.own(most, now)

    def heard_use(self, theirs: Mapping[str, float], now: float) -> None:
        """Replace what tenants used at other routers, weighted tokens as of `now`."""
        self._shares.heard(theirs, now)
        self._stirred = True

    def drain(self, endpoint_id: str, on: bool) -> None:
        """Send an endpoint nothing more, or again. Raises KeyError for one that is unknown."""
        self.endpoints[endpoint_id].drain(on=on)
        self._stirred = True

    def stop(self, now: float) -> None:
        """Refuse all that arrives from here on; who waits or is in flight is still served."""
        self._stopped = True

    def reconfigure(self, plans: Iterable[EndpointPlan], policy: Policy, now: float) -> None:
        """Follow other plans and another policy.

        Endpoints that stay keep all that is known of them; those that go let their requests end.
        Waiting requests keep their class, deadline and place. Who can no longer be served is
        refused by the next `due`.
        """
        self.policy = policy
        self._budget.policy = policy.retry
        self._shares.policy = policy.fairness
        self._roster.plan(plans, policy)
        self._catalogue = Catalogue(list(self.endpoints.values()), policy, self._catalogue)
        if self._watched:
            self._roster.watched()
        for ticket in self._queue.clear():
            lane = self._lane_of(ticket.ask, ticket.tried)
            if isinstance(lane, Refuse):
                self._answer(Expire(ticket, lane), now)
            elif not lane.endpoints:
                self._answer(Expire(ticket, self._nobody(ticket.ask, lane)), now)
            else:
                ticket.lane = lane
                self._queue.push(ticket)
        self._stirred = True
        self._count()

    # Placing

    def _place(
        self, lane: Lane, ask: Ask, now: float, reason: Reason | None = None
    ) -> Flight | None:
        """Take a slot for one request; None where none is free. `reason` replaces the tier's."""
        floor = self._has_floor(ask)
        placed = self._find(lane, ask, now, floor=floor)
        if placed is None:
            return None
        if floor:
            self._floor_tokens -= ask.prompt_tokens
        elif ask.rank != BULK and self._queue.by_rank[BULK]:
            earned = self.policy.guard.bulk_floor_share * ask.prompt_tokens
            self._floor_tokens = min(MOST_FLOOR_TOKENS, self._floor_tokens + earned)
        self._flights += 1
        flight = Flight(self._flights, ask, placed.endpoint, reason or placed.reason, now)
        flight.hit_tokens = placed.hit_tokens
        placed.endpoint.take(flight)
        self._affinity.went(ask.facts, placed.endpoint.id)
        self._shares.used(ask.facts.tenant, _cost(ask) / ask.facts.weight, now)
        return flight

    def _has_floor(self, ask: Ask) -> bool:
        """Return whether a request is bulk that may pass its guard."""
        return ask.rank == BULK and self._floor_tokens >= ask.prompt_tokens

    def _find(self, lane: Lane, ask: Ask, now: float, *, floor: bool) -> Placed | None:
        """Return where a request is sent; None where it had better wait. Takes nothing."""
        if ask.rank == BULK and self._others_wait:
            lane = self._past_others(lane, ask)
        tiers = open_tiers(lane, ask.rank, now, self._roster.busy_until)
        favourite = self._favourite(ask) if tiers else None
        placed = (
            None if favourite is None else follow(lane, tiers, ask, self.policy, favourite, now)
        )
        if placed is None:
            placed = place(tiers, ask, self.policy, self._rng, now, floor=floor)
        if placed is None or not (placed.in_time or self._may_be_late(ask, placed.endpoint, now)):
            return None
        return placed

    def _favourite(self, ask: Ask) -> Favourite | None:
        """Return where the prompt's beginning was read before, where that is worth following."""
        facts, wanted = ask.facts, self.policy.affinity
        if wanted.most_delay_share is None or not (facts.beginnings or facts.session):
            return None
        found = self._affinity.favourite(facts, ask.prompt_tokens)
        if found is None or found.hit_tokens < wanted.least_hit_share * ask.prompt_tokens:
            return None
        return None if self._rng.random() < wanted.explore_share else found

    def _may_be_late(self, ask: Ask, endpoint: EndpointState, now: float) -> bool:
        """Return whether a request that will miss its targets is sent to an endpoint all the same.

        To an idle one, always: nothing would happen there that it could wait for.
        """
        return not endpoint.in_flight or not self._shares.over(ask.facts.tenant, now)

    def _past_others(self, lane: Lane, ask: Ask) -> Lane:
        """Return a lane past endpoints for which bulk of other routers comes first."""
        due = due_at(ask)
        later = [each.id for each in lane.endpoints if due > each.others.bulk_before]
        return lane.without(frozenset(later)) if later else lane

    def _wait(self, ticket: Ticket, now: float) -> Send | Wait | Refuse:
        """Let a request wait that found no slot, or refuse it."""
        ask, lane = ticket.ask, ticket.lane
        if not any(endpoint.health.hopeful for endpoint in lane.endpoints):
            if not revive(lane.endpoints):
                return self._nobody(ask, lane)
            self._stirred = True
            flight = self._place(lane, ask, now, ticket.reason)
            if flight is not None:
                return self._sent(ticket, flight)
        refusal = self._unwelcome(ticket, now)
        if refusal is not None:
            return refusal
        self._tickets += 1
        ticket.number = self._tickets
        self._queue.push(ticket)
        self._look_again(lane, now)
        self._count()
        return Wait(ticket)

    def _unwelcome(self, ticket: Ticket, now: float) -> Refuse | None:
        """Return why a request had better not wait; None where it may."""
        ask, backlog = ticket.ask, ticket.lane.backlog
        limits = self.policy.of_class(ask.sla_class)
        waiting = self._queue.by_rank[ask.rank]
        if not ask.facts.wish.may_wait:
            return admission.would_queue(ask, self._back_s(ask, now, patience_s=0.0))
        if now >= ask.wait_until:
            return admission.late(ask, now, self._back_s(ask, now))
        if waiting >= limits.max_waiting:
            return admission.queue_full(ask, waiting, self._back_s(ask, now))
        wait_s = backlog.wait_s(ask.rank, now) if ticket.attempt == 1 else None
        if wait_s is not None and ask.finish_by is not None and now + wait_s > ask.finish_by:
            left_s = ask.finish_by - now
            patience_s = max(0.0, left_s - backlog.drains[ask.rank].service_s)
            back_s = self._back_s(ask, now, patience_s)
            return admission.overloaded(ask, wait_s, left_s, back_s)
        return None

    def _look_again(self, lane: Lane, now: float) -> None:
        """See to it that a lane is tried again whose requests wait although there is room."""
        if any(endpoint.rooms[lane.rank] for endpoint in lane.endpoints):
            self._look_again_at = min(self._look_again_at, now + LOOK_AGAIN_S)

    def _again(
        self, flight: Flight, kind: FailureKind, now: float, *, tried: frozenset[str], spared: bool
    ) -> Send | Wait | Refuse:
        """Answer a request again whose attempt failed."""
        ask = self._granted(flight.ask, now)
        if flight.first_token_at is not None or not may_retry(
            kind, flight.attempt, self._budget, now, spared=flight.spared
        ):
            return self._given_up(flight, kind, now)
        if admission.pointless(ask, now):
            return admission.late(ask, now, self._back_s(ask, now))
        lane = self._lane_of(ask, tried)
        if kind in SICK and isinstance(lane, Lane) and not lane.endpoints:
            # All have failed at it; those that have served others since are worth another try.
            tried = frozenset(filter(self._is_sick, tried)) | {flight.endpoint.id}
            lane = self._lane_of(ask, tried)
        if isinstance(lane, Refuse):
            return lane
        if not lane.endpoints:
            return self._given_up(flight, kind, now)
        if kind is not FailureKind.BUSY and (
            kind is not FailureKind.STALE_CONNECTION or flight.spared
        ):
            self._budget.spend()
        ticket = Ticket(
            0, ask, lane, now, flight.attempt + 1, flight.queued_s, tried=tried, spared=spared
        )
        return self._resend(ticket, now)

    def _take_back(self, flight: Flight) -> None:
        """Take back the slot of an attempt that failed; ValueError where that was done before."""
        if not flight.endpoint.give(flight):
            raise ValueError(f"flight {flight.id} to {flight.endpoint.id!r} has ended already")
        self._stirred = True

    def _resend(self, ticket: Ticket, now: float) -> Send | Wait | Refuse:
        """Send a request again, or let it wait: it came before all of its own class that wait."""
        self._settle(now, ticket.ask.rank)
        again = self._place(ticket.lane, ticket.ask, now, ticket.reason)
        return self._wait(ticket, now) if again is None else self._sent(ticket, again)

    def _is_sick(self, endpoint_id: str) -> bool:
        """Return whether an endpoint has failed and not served since, or is gone."""
        endpoint = self.endpoints.get(endpoint_id)
        return endpoint is None or not endpoint.health.spotless

    def _given_up(self, flight: Flight, kind: FailureKind, now: float) -> Refuse:
        if kind is FailureKind.BUSY:
            asked = flight.endpoint.health.busy_until - now
            back_s = min(MOST_RETRY_S, max(LEAST_RETRY_S, asked))
            return admission.busy(flight.ask.facts.model, flight.attempt, back_s)
        return admission.gave_up(flight.endpoint.id, kind, flight.attempt)

    # Waiting

    def _settle(self, now: float, ranks: int = RANKS) -> None:
        """Bring everything up to `now`: trials that are due, waits that are over, free slots.

        Free slots are given to the first `ranks` ranks; what is left over is for whoever asked.
        """
        if now >= self._roster.wake_at:
            self._roster.wake(now)
            self._stirred = True
        if now >= self._look_again_at:
            self._stirred = True
        for ticket in self._queue.expire(now):
            self._answer(Expire(ticket, self._overdue(ticket.ask, ticket.lane, now)), now)
        if self._stirred and self._queue.waiting:
            self._serve(now, ranks)
        self._stirred = self._stirred and ranks < RANKS

    def _serve(self, now: float, ranks: int) -> None:
        """Send those who wait, in order, as long as slots are free for them."""
        self._look_again_at = inf
        for rank in range(ranks):
            lanes = self._queue.lanes(rank)
            while lanes:
                lane = foremost(lanes, now, self._shares.of)
                ticket = lane.first(now, self._shares.of)
                flight = self._place(lane, ticket.ask, now, ticket.reason)
                if flight is None:
                    self._look_again(lane, now)
                    lanes.remove(lane)
                    continue
                self._queue.remove(ticket)
                self._answer(self._sent(ticket, flight), now)
                if not lane.waiting:
                    lanes.remove(lane)

    def _sent(self, ticket: Ticket, flight: Flight) -> Send:
        """Let a flight carry on where the ticket, or the attempt before it, left off."""
        flight.attempt = ticket.attempt
        flight.queued_s = ticket.queued_s + flight.sent_at - ticket.queued_at
        flight.tried, flight.spared = ticket.tried, ticket.spared
        if not ticket.number:
            return Send(flight)
        ticket.flight = flight
        return Send(flight, ticket)

    def _answer(self, answer: Send | Expire, now: float) -> None:
        self._ready.append(answer)
        self._ready_since = now
        self._count()

    def _count(self) -> None:
        self.waiting = self._queue.waiting + len(self._ready)

    def _overdue(self, ask: Ask, lane: Lane, now: float) -> Refuse:
        if any(endpoint.health.hopeful for endpoint in lane.endpoints):
            return admission.late(ask, now, self._back_s(ask, now))
        return self._nobody(ask, lane)

    def _lane_of(self, ask: Ask, tried: frozenset[str]) -> Lane | Refuse:
        route = self._catalogue.route(ask.facts.model, ask.facts.needs)
        if isinstance(route, Refuse):
            return route
        if ask.part is not None and route.model.variants is not None:
            return route.model.variants.lane(ask, tried)
        lane = route.lane(ask)
        return lane if isinstance(lane, Refuse) else lane.without(tried)

    def _nobody(self, ask: Ask, lane: Lane) -> Refuse:
        return admission.no_endpoints(ask.facts.model, len(lane.endpoints))

    def _back_s(self, ask: Ask, now: float, patience_s: float | None = None) -> float:
        """Return when it is worth coming back, s."""
        if patience_s is None:
            patience_s = self.policy.of_class(ask.sla_class).max_wait_s
        model = self._catalogue.model_of(ask)
        if model is None:
            return UNKNOWN_RETRY_S
        return model.backlog.retry_after_s(ask.rank, patience_s, now, self._rng)


def _cost(ask: Ask) -> float:
    """Return what a request is expected to use, weighted tokens."""
    return ask.prompt_tokens + OUTPUT_WEIGHT * ask.output_p50_tokens
