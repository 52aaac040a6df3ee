"""Replays recorded requests in virtual time, in a process of its own: `python -m router.admin.replaying`.

Asked over its standard input, for as long as that is open: requests in parts, each pickled and
behind its length in four bytes; a part of no length; then the job. It answers on its standard
output with one document in JSON, behind its length likewise.
"""

import contextlib
import os
import pickle  # nosec B403 # of what the router itself wrote, for its own child
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import IO, Any, Final

import orjson

from policies.facts import RequestFacts
from policies.policy import Policy
from router.measure.tally import Tally
from router.report.summary import Entry, row
from router.simulation.conditions import Conditions
from router.simulation.contenders import Contender
from router.simulation.fleet import Fleet, FleetDocument, Member
from router.simulation.world import World
from router.workload.offers import Offer

LENGTH_BYTES: Final = 4
Replayed = tuple[Offer, RequestFacts]
"""A request as it came and as the router saw it, its time on any clock."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of the requests."""

    members: tuple[Member, ...]
    policies: tuple[tuple[str, Policy], ...]
    seed: int = 1


@dataclass(frozen=True, slots=True)
class _Recorded(Conditions):
    """The router sees what it saw then."""

    recorded: Sequence[RequestFacts] = field(default=())

    def facts(self, offer: Offer, rng: Random) -> RequestFacts:
        """Return the facts of a recorded request."""
        return self.recorded[offer.number]


def replay(job: Job, requests: Sequence[Replayed]) -> dict[str, Any]:
    """Return what each policy made of the requests, as plain values."""
    in_order = sorted(requests, key=lambda pair: pair[0].at_s)
    began_s = in_order[0][0].at_s
    offers = [
        replace(offer, number=number, at_s=offer.at_s - began_s)
        for number, (offer, _) in enumerate(in_order)
    ]
    facts = [facts for _, facts in in_order]
    duration_s = offers[-1].at_s + 1.0
    fleet = Fleet(FleetDocument(pools=()), job.members)
    outcomes = {}
    for name, policy in job.policies:
        tally = Tally(duration_s, 0.0)
        world = World(
            fleet,
            Contender(name, policy),
            seed=job.seed,
            conditions=_Recorded(recorded=facts),
        )
        for outcome in world.run(iter(offers)):
            tally.add(outcome)
        cost = fleet.usd_per_hour or None
        outcomes[name] = row(Entry(name, len(offers) / duration_s, [tally]), cost)
    return {"requests": len(offers), "duration_s": duration_s, "outcomes": outcomes}


def part(value: object) -> bytes:
    """Return one part of what is asked."""
    return framed(pickle.dumps(value))


def framed(payload: bytes) -> bytes:
    """Return bytes behind their length."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def _parts(asked: IO[bytes]) -> Iterator[bytes]:
    """Yield parts until one that has no length; raises EOFError where nothing more is asked."""
    while size := _length(asked):
        yield asked.read(size)


def _length(asked: IO[bytes]) -> int:
    head = asked.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        raise EOFError
    return int.from_bytes(head, "big")


def _step_back() -> None:
    """Let live traffic go first: of an idle core it is given all, of a busy one next to nothing.

    Where that is forbidden, as in some sandboxes, it is a process like any other.
    """
    with contextlib.suppress(OSError):
        os.nice(19)
        if sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    """Answer until the router goes."""
    _step_back()
    asked, told = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            requests = [pair for each in _parts(asked) for pair in pickle.loads(each)]  # noqa: S301 # nosec B301 # ours
            job = pickle.loads(asked.read(_length(asked)))  # noqa: S301 # nosec B301 # ours
        except EOFError:
            return
        told.write(framed(orjson.dumps(replay(job, requests), option=orjson.OPT_NON_STR_KEYS)))
        told.flush()


if __name__ == "__main__":
    main()
