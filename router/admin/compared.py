"""The variants of a model side by side: who answers sooner, fails less, costs less.

Counted from the moment that the variants came to be what they are; a change of shares alone does
not start anew. Percentiles are of the last requests of each.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policies.classify import Part
from policies.facts import Ending
from policies.flight import Flight
from policies.policy import REST, ModelPolicy, Policy
from router.admin.recent import Seen
from router.shadow import CopyEnd

LAST: Final = 1000
"""Requests of a variant that percentiles are made of."""
SHADOW: Final = "shadow"


@dataclass(slots=True)
class Tally:
    """What one variant did."""

    requests: int = 0
    failed: int = 0
    abandoned: int = 0
    elsewhere: int = 0
    """Requests that were its own, and that others had to serve."""
    judged: int = 0
    """Requests that had targets."""
    met: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    slot_s: dict[str, float] = field(default_factory=dict)
    """Time that its requests held slots, by endpoint."""
    first_token_s: deque[float] = field(default_factory=lambda: deque(maxlen=LAST))
    per_token_s: deque[float] = field(default_factory=lambda: deque(maxlen=LAST))
    total_s: deque[float] = field(default_factory=lambda: deque(maxlen=LAST))

    def ended(self, ending: Ending | None, flight: Flight, held_s: float) -> None:
        """Count how one ended."""
        self.requests += 1
        self.failed += ending is Ending.FAILED
        self.abandoned += ending is Ending.ABANDONED
        place = flight.endpoint.id
        self.slot_s[place] = self.slot_s.get(place, 0.0) + held_s

    def took(self, times_s: tuple[float | None, float | None, float]) -> None:
        """Note the times of one that ended well: to first token, a token, the whole."""
        for kept, time_s in zip(
            (self.first_token_s, self.per_token_s, self.total_s), times_s, strict=True
        ):
            if time_s is not None:
                kept.append(time_s)


class _Model:
    """The variants of one model since they are what they are."""

    def __init__(self, policy: ModelPolicy, now: float, slot_s: Mapping[str, float]) -> None:
        self.policy = policy
        self.since = now
        self.slot_s_before = dict(slot_s)
        self.tallies: dict[str, Tally] = {
            name: Tally() for name in (*policy.variants, *([REST] if policy.variants else ()))
        }
        if policy.shadow is not None:
            self.tallies[SHADOW] = Tally()

    def of(self, part: Part) -> Tally:
        return self.tallies.setdefault(part.name, Tally())


class Compared:
    """Counts by variant, for every model that has any."""

    def __init__(
        self,
        policy: Callable[[], Policy],
        prices: Callable[[], Mapping[str, float]],
        clock: Callable[[], float],
    ) -> None:
        """`prices`: what endpoints cost an hour, $, by id; those of unknown price are left out."""
        self._policy = policy
        self._prices = prices
        self._clock = clock
        self._slot_s: dict[str, float] = {}
        """Time that all requests held slots, by endpoint."""
        self._models: dict[str, _Model] = {}
        self.follow()

    def follow(self) -> None:
        """Take up what the policy says; to be called whenever it has changed."""
        policy = self._policy()
        before, self._models = self._models, {}
        for name, own in policy.models.items():
            if not own.variants and own.shadow is None:
                continue
            known = before.get(name)
            if known is not None and _places(known.policy) == _places(own):
                known.policy = own
                self._models[name] = known
            else:
                self._models[name] = _Model(own, self._clock(), self._slot_s)

    def add(self, seen: Seen) -> None:
        """Count a request that ended."""
        flight = seen.flight
        if flight is None:
            return
        held_s = max(0.0, seen.ended_at - flight.sent_at)
        self._held(flight, held_s)
        part, model = flight.ask.part, self._models.get(seen.facts.model)
        if part is None or model is None or flight.sent_at < model.since:
            return
        tally = model.of(part)
        if part.elsewhere:
            tally.elsewhere += 1
            return
        tally.ended(seen.ending, flight, held_s)
        tally.judged += seen.met is not None
        tally.met += seen.met is True
        if seen.outcome is not None and seen.ending is Ending.COMPLETED:
            outcome = seen.outcome
            tally.prompt_tokens += outcome.prompt_tokens or 0
            tally.output_tokens += outcome.output_tokens or 0
            tally.took((outcome.first_token_s, outcome.per_token_s, outcome.total_s))

    def add_copy(self, end: CopyEnd) -> None:
        """Count a copy that ended."""
        self._held(end.flight, end.total_s)
        model = self._models.get(end.flight.ask.facts.model)
        if model is None:
            return
        tally = model.tallies.setdefault(SHADOW, Tally())
        tally.ended(end.ending, end.flight, end.total_s)
        if end.ending is Ending.COMPLETED:
            tally.prompt_tokens += end.usage.prompt_tokens or 0
            tally.output_tokens += end.usage.output_tokens or 0
            tally.took((end.first_token_s, end.per_token_s, end.total_s))

    def report(self) -> list[dict[str, Any]]:
        """Return every variant of every model that has any, as plain values."""
        now, prices = self._clock(), self._prices()
        return [
            {
                "model": name,
                "since_s": now - model.since,
                "sticky": model.policy.sticky,
                "variants": list(self._rows(model, now, prices)),
            }
            for name, model in self._models.items()
        ]

    def counts(self) -> Iterator[tuple[tuple[str, str, str], float]]:
        """Yield how many requests each variant served, by how they ended."""
        for name, model in list(self._models.items()):
            for variant, tally in list(model.tallies.items()):
                well = tally.requests - tally.failed - tally.abandoned
                yield (name, variant, "completed"), float(well)
                yield (name, variant, "failed"), float(tally.failed)
                yield (name, variant, "abandoned"), float(tally.abandoned)

    def _held(self, flight: Flight, held_s: float) -> None:
        place = flight.endpoint.id
        self._slot_s[place] = self._slot_s.get(place, 0.0) + held_s

    def _rows(
        self, model: _Model, now: float, prices: Mapping[str, float]
    ) -> Iterator[dict[str, Any]]:
        everything = sum(t.requests for name, t in model.tallies.items() if name != SHADOW)
        for name, tally in model.tallies.items():
            usd = self._usd(model, tally, now, prices)
            tokens = tally.output_tokens
            yield {
                "variant": name,
                "share": _share(model.policy, name),
                **_place(model.policy, name),
                "requests": tally.requests,
                "share_seen": tally.requests / everything
                if everything and name != SHADOW
                else None,
                "failed": tally.failed,
                "elsewhere": tally.elsewhere,
                "abandoned": tally.abandoned,
                "failed_share": tally.failed / tally.requests if tally.requests else None,
                "attainment": tally.met / tally.judged if tally.judged else None,
                "first_token_s": _percentiles(tally.first_token_s),
                "per_token_s": _percentiles(tally.per_token_s),
                "total_s": _percentiles(tally.total_s),
                "prompt_tokens": tally.prompt_tokens,
                "output_tokens": tokens,
                "usd_per_million_output_tokens": 1e6 * usd / tokens if usd and tokens else None,
            }

    def _usd(
        self, model: _Model, tally: Tally, now: float, prices: Mapping[str, float]
    ) -> float | None:
        """Return what a variant has cost: of each endpoint's price the part of its slots' time."""
        hours = (now - model.since) / 3600.0
        total = 0.0
        for place, held_s in tally.slot_s.items():
            price = prices.get(place)
            if price is None:
                return None
            all_s = self._slot_s.get(place, 0.0) - model.slot_s_before.get(place, 0.0)
            total += price * hours * (held_s / all_s if all_s > 0 else 0.0)
        return total


def _places(own: ModelPolicy) -> object:
    """Return what variants are, without their shares."""
    shadow = own.shadow
    return (
        {name: (v.endpoints, v.pools, v.model) for name, v in own.variants.items()},
        None if shadow is None else (shadow.endpoints, shadow.pools),
    )


def _share(own: ModelPolicy, name: str) -> float | None:
    if name == SHADOW and own.shadow is not None:
        return own.shadow.share
    if name == REST:
        return max(0.0, 1.0 - sum(each.share for each in own.variants.values()))
    variant = own.variants.get(name)
    return None if variant is None else variant.share


def _place(own: ModelPolicy, name: str) -> dict[str, Any]:
    place = own.shadow if name == SHADOW else own.variants.get(name)
    if place is None:
        return {"endpoints": (), "pools": (), "asked_for": None}
    asked_for = getattr(place, "model", None)
    return {"endpoints": place.endpoints, "pools": place.pools, "asked_for": asked_for}


def _percentiles(kept: deque[float]) -> dict[str, float | None]:
    if not kept:
        return {"p50": None, "p99": None}
    ordered = sorted(kept)
    last = len(ordered) - 1
    return {"p50": ordered[round(0.5 * last)], "p99": ordered[round(0.99 * last)]}
