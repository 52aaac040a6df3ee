"""Who calls during the demonstration: three kinds of callers, and what each asks for.

Sized for two CPU cores that hold both engines, the router and the callers: the bulk callers alone
keep more requests in hand than the throughput engine has slots, and the chats come a little faster
than one slot of the predictable engine could answer them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from policies.facts import SlaClass, Targets


@dataclass(frozen=True, slots=True)
class Callers:
    """Callers who want the same thing."""

    sla_class: SlaClass
    targets: Targets
    max_tokens: int
    questions: Sequence[str]
    """Sentences with a `{}` for the topic."""
    arrivals_per_s: float = 0.0
    """Independent arrivals, whether or not earlier ones were answered; 0 for a closed loop."""
    loops: int = 0
    """Callers who ask again as soon as they were answered."""
    headers: Mapping[str, str] = field(init=False)
    """What tells the router of all this."""

    def __post_init__(self) -> None:
        """Write the targets as the headers that carry them."""
        wanted = {
            "X-SLA-TTFT-Ms": self.targets.first_token_s,
            "X-SLA-TPOT-Ms": self.targets.per_token_s,
            "X-SLA-Deadline-Ms": self.targets.deadline_s,
        }
        headers = {"X-SLA-Class": self.sla_class.value} | {
            name: f"{seconds * 1000:.0f}" for name, seconds in wanted.items() if seconds is not None
        }
        object.__setattr__(self, "headers", headers)

    def question(self, rng: Random) -> str:
        """Draw what one caller asks."""
        return rng.choice(self.questions).format(rng.choice(TOPICS))


TOPICS = (
    "a lighthouse",
    "the tides",
    "bread",
    "a compass",
    "glaciers",
    "the printing press",
    "a violin",
    "coffee",
    "honey bees",
    "the Silk Road",
    "a telescope",
    "rain",
    "chess",
    "a bicycle",
    "volcanoes",
    "paper",
)

CROWD = (
    Callers(
        SlaClass.INTERACTIVE,
        Targets(first_token_s=1.5, per_token_s=0.15),
        max_tokens=20,
        questions=("In one short sentence: what is {}?", "Give me one surprising fact about {}."),
        arrivals_per_s=0.5,
    ),
    Callers(
        SlaClass.STANDARD,
        Targets(first_token_s=10.0, per_token_s=0.5),
        max_tokens=24,
        questions=("Explain {} to a child.",),
        arrivals_per_s=0.2,
    ),
    Callers(
        SlaClass.BULK,
        Targets(deadline_s=120.0),
        max_tokens=64,
        questions=("Write a long, detailed article about {}.", "Write a long story about {}."),
        loops=10,
    ),
)
