"""Every endpoint policy by name."""

from typing import Final

from policies.endpoints.consistent_hash import ConsistentHash
from policies.endpoints.least_busy import LeastBusy
from policies.endpoints.least_scraped import LeastScraped
from policies.endpoints.least_tokens import LeastTokens
from policies.endpoints.peak_ewma import LowestPeakEwma
from policies.endpoints.policy import EndpointPolicy
from policies.endpoints.random import RandomChoice
from policies.endpoints.round_robin import RoundRobin
from policies.endpoints.two_choices import TwoChoices
from policies.endpoints.two_choices_tokens import TwoChoicesTokens
from policies.policy import EndpointPolicyName

POLICIES: Final[dict[EndpointPolicyName, type[EndpointPolicy]]] = {
    EndpointPolicyName.LEAST_TOKENS: LeastTokens,
    EndpointPolicyName.LEAST_BUSY: LeastBusy,
    EndpointPolicyName.ROUND_ROBIN: RoundRobin,
    EndpointPolicyName.RANDOM: RandomChoice,
    EndpointPolicyName.TWO_CHOICES: TwoChoices,
    EndpointPolicyName.TWO_CHOICES_TOKENS: TwoChoicesTokens,
    EndpointPolicyName.PEAK_EWMA: LowestPeakEwma,
    EndpointPolicyName.CONSISTENT_HASH: ConsistentHash,
    EndpointPolicyName.LEAST_SCRAPED: LeastScraped,
}
"""The name that an operator writes, and the class that it means."""
