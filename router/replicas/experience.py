"""What replicas know of traffic and engines, rather than what they have in flight: it changes slowly.

Tenants' use is added up over all replicas, so that a tenant is held to one share of the fleet
however its requests are spread. What a latency model has learned is told by whoever saw most of a
pool, and is where a replica starts from that has seen next to nothing of it.
"""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from policies.dispatcher import Dispatcher
from policies.latency import Lesson
from router.replicas.word import Said

USE_S: Final = 0.5
"""Between two looks at what tenants used."""
LESSON_S: Final = 5.0
"""Between two looks at what has been learned."""
MOST_TENANTS: Final = 64
"""Tenants that are told of: those who used most here."""
LEAST_SAMPLES: Final = 100
"""What has been learned from fewer is not told."""


class Experience:
    """One replica's; `say` and `hear` are cheap where nothing is due."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.used: Mapping[str, int] = {}
        """Weighted tokens by tenant, of this replica's own requests."""
        self.lessons: Mapping[str, Lesson] = {}
        """By pool and weight, those that this replica tells."""
        self._dispatcher = dispatcher
        self._told: dict[str, int] = {}
        """The most samples that another's lesson rests on, by the same."""
        self._use_at = self._lesson_at = self._hear_at = -inf

    def say(self, now: float) -> None:
        """Bring `used` and `lessons` up to date where that is due."""
        if now >= self._use_at:
            self._use_at = now + USE_S
            used = self._dispatcher.used_by_tenant(MOST_TENANTS, now)
            self.used = {tenant: round(tokens) for tenant, tokens in used.items()}
        if now >= self._lesson_at:
            self._lesson_at = now + LESSON_S
            self.lessons = self._worth_telling()

    def hear(self, others: Iterable[Said], now: float, *, at_once: bool) -> None:
        """Take over what the others know; `at_once`: others have come or gone."""
        if now < self._hear_at and not at_once:
            return
        self._hear_at = now + USE_S
        theirs: dict[str, float] = {}
        best: dict[str, Lesson] = {}
        for said in others:
            for tenant, tokens in said.used.items():
                theirs[tenant] = theirs.get(tenant, 0.0) + tokens
            for name, lesson in said.lessons.items():
                if name not in best or best[name].samples < lesson.samples:
                    best[name] = lesson
        self._dispatcher.heard_use(theirs, now)
        self._told = {name: lesson.samples for name, lesson in best.items()}
        for name, lesson in best.items():
            model = self._dispatcher.models.get(name)
            if model is not None:
                model.taught(lesson)

    def _worth_telling(self) -> dict[str, Lesson]:
        return {
            name: model.lesson
            for name, model in self._dispatcher.models.items()
            if model.samples >= max(LEAST_SAMPLES, self._told.get(name, 0))
        }
