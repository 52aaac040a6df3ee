"""Who used how much lately, so that one tenant's flood is not paid for by the others.

Use is counted in weighted tokens, prompt plus twice the output, as in virtual token counters
(Sheng et al., Fairness in Serving Large Language Models, 2024), and forgotten exponentially: what
was used while there was enough for all is not held against anybody for long.
"""

from collections import OrderedDict
from math import exp
from typing import Final

from policies.policy import FairnessPolicy

OUTPUT_WEIGHT: Final = 2.0
"""What an output token costs beside a prompt token."""
MOST_TENANTS: Final = 4096
"""Tenants remembered; those heard of longest ago are forgotten first."""
IDLE_TOKENS: Final = 1.0
"""Use below which a tenant counts as gone."""
REBASE_AFTER: Final = 3.0
"""Time constants after which all is brought up to date and those who are gone are dropped."""


class Shares:
    """Use by tenant. All uses fade alike, so they are kept as of one moment, in growing units."""

    def __init__(self, policy: FairnessPolicy) -> None:
        self.policy = policy
        self._used: OrderedDict[str, float] = OrderedDict()
        self._total = 0.0
        self._since = 0.0
        """The moment as of which uses are given; later ones count for more by `_growth`."""

    def used(self, tenant: str, tokens: float, now: float) -> None:
        """Count weighted tokens; negative ones give back what was estimated too high."""
        growth = self._growth(now)
        used, before = self._used, self._used.get(tenant, 0.0)
        after = max(0.0, before + tokens * growth)
        used[tenant] = after
        used.move_to_end(tenant)
        self._total += after - before
        if len(used) > MOST_TENANTS:
            self._total -= used.popitem(last=False)[1]

    def of(self, tenant: str) -> float:
        """Return a tenant's use in units that all tenants share at any one moment."""
        return self._used.get(tenant, 0.0)

    def over(self, tenant: str, now: float) -> bool:
        """Return whether a tenant used more than its share lately; never where it is alone."""
        most = self.policy.most_share
        if most is None or len(self._used) < 2:  # noqa: PLR2004 - one tenant has no others
            return False
        # Brings it up to date, so that those who are gone no longer count as sharing.
        self._growth(now)
        return self.of(tenant) * len(self._used) > most * self._total

    def _growth(self, now: float) -> float:
        passed = (now - self._since) / self.policy.tau_s
        if passed > REBASE_AFTER or passed < 0.0:
            fade = exp(-max(0.0, passed))
            kept = ((tenant, use * fade) for tenant, use in self._used.items())
            self._used = OrderedDict((t, use) for t, use in kept if use > IDLE_TOKENS)
            self._total = sum(self._used.values())
            self._since, passed = now, 0.0
        return exp(passed)
