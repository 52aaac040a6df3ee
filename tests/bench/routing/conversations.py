"""Conversations whose prompts grow: each turn's prompt begins with all that was said before.

After Mooncake's conversation trace: prompts in blocks of 512 tokens, which are known by ids that
tell what is shared. A system prompt is shared by all conversations of one assistant, a history by
the turns of one conversation.
"""

from collections.abc import Iterator
from dataclasses import replace
from heapq import heappop, heappush
from random import Random
from typing import Final

from policies.facts import SlaClass
from router.simulation.fleet import Fleet
from router.workload.arrivals import arrivals
from router.workload.offers import Offer
from router.workload.settings import Workload
from router.workload.stream import targets_of

BLOCK_TOKENS: Final = 512
ASSISTANTS: Final = 8
SYSTEM_BLOCKS: Final = 1
MEAN_TURNS: Final = 6.0
MEAN_QUESTION_TOKENS: Final = 700.0
"""A pasted file or page now and then."""
MEAN_ANSWER_TOKENS: Final = 200.0
MEAN_PAUSE_S: Final = 12.0
"""Between two turns: reading the answer and thinking of the next question."""
MOST_TOKENS: Final = 14_000
"""A conversation ends before its prompt is longer."""
BEFORE_S: Final = 100.0
"""So long before the first request conversations have begun: most are under way by then."""


def conversations(workload: Workload, seed: int) -> Iterator[Offer]:
    """Yield the turns of conversations, in order of time.

    The workload's one traffic says how many turns a second come, and whose class they are.
    """
    (traffic,) = workload.traffic
    rng = Random(f"{seed}/conversations")
    begins = arrivals(
        Random(f"{seed}/begins"),
        traffic.cv,
        [(0.0, (traffic.rate or 0.0) / MEAN_TURNS)],
        BEFORE_S + workload.duration_s,
    )
    targets = targets_of(traffic, traffic.sla_class)
    coming: list[tuple[float, int, Offer]] = []
    number = order = 0
    begin_s = next(begins, None)
    while coming or begin_s is not None:
        if begin_s is not None and (not coming or begin_s <= coming[0][0]):
            for turn in _turns(f"conversation-{order}", begin_s, traffic.sla_class, rng):
                order += 1
                heappush(coming, (turn.at_s, order, replace(turn, targets=targets)))
            begin_s = next(begins, None)
            continue
        _, _, offer = heappop(coming)
        at_s = offer.at_s - BEFORE_S
        if 0.0 <= at_s < workload.duration_s:
            yield replace(offer, number=number, at_s=at_s)
            number += 1


def _turns(name: str, at_s: float, sla_class: SlaClass, rng: Random) -> Iterator[Offer]:
    """Yield the turns of one conversation."""
    assistant = int(rng.random() * ASSISTANTS)
    system = tuple(-1 - assistant * SYSTEM_BLOCKS - block for block in range(SYSTEM_BLOCKS))
    own = int(rng.random() * (1 << 50)) << 8
    prompt_tokens = SYSTEM_BLOCKS * BLOCK_TOKENS
    while True:
        prompt_tokens += 1 + round(rng.expovariate(1.0 / MEAN_QUESTION_TOKENS))
        output_tokens = 1 + round(rng.expovariate(1.0 / MEAN_ANSWER_TOKENS))
        if prompt_tokens > MOST_TOKENS:
            return
        history = prompt_tokens // BLOCK_TOKENS - SYSTEM_BLOCKS
        yield Offer(
            0,
            at_s,
            "conversations",
            sla_class,
            prompt_tokens,
            output_tokens,
            max_tokens=max(256, 2 * output_tokens),
            session=name,
            prefix=system + tuple(own + block for block in range(history)),
        )
        if rng.random() < 1.0 / MEAN_TURNS:
            return
        prompt_tokens += output_tokens
        at_s += 0.02 * output_tokens + rng.expovariate(1.0 / MEAN_PAUSE_S)


def caching(fleet: Fleet) -> Fleet:
    """Return a fleet whose engines keep prefixes by blocks of the conversations' size."""
    members = tuple(
        replace(
            member,
            spec=replace(
                member.spec, memory=replace(member.spec.memory, prefix_block_tokens=BLOCK_TOKENS)
            ),
        )
        for member in fleet.members
    )
    return replace(fleet, members=members)
