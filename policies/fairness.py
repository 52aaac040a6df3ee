"""Who used how much lately, so that one tenant's flood is not paid for by the others.

Use is counted in weighted tokens, prompt plus twice the output, as in virtual token counters
(Sheng et al., Fairness in Serving Large Language Models, 2024), and forgotten exponentially: what
was used while there was enough for all is not held against anybody for long.
"""

from collections import OrderedDict
from collections.abc import Mapping
from heapq import nlargest
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
    """Use by tenant, other routers' included, as last heard.

    All uses fade alike, so they are kept as of one moment, in growing units.
    """

    def __init__(self, policy: FairnessPolicy) -> None:
        self.policy = policy
        self._used: OrderedDict[str, float] = OrderedDict()
        self._theirs: dict[str, float] = {}
        """What of it was at other routers."""
        self._total = 0.0
        self._since = 0.0
        """The moment as of which uses are given; later ones count for more by `_growth`."""

    def used(self, tenant: str, tokens: float, now: float) -> None:
        """Count weighted tokens; negative ones give back what was estimated too high."""
        self._add(tenant, tokens * self._growth(now))

    def own(self, most: int, now: float) -> dict[str, float]:
        """Return the weighted tokens used here as of `now`, of those who used most."""
        growth, theirs = self._growth(now), self._theirs
        own = {name: (use - theirs.get(name, 0.0)) / growth for name, use in self._used.items()}
        heavy = own if len(own) <= most else nlargest(most, own, key=own.__getitem__)
        return {tenant: own[tenant] for tenant in heavy if own[tenant] > IDLE_TOKENS}

    def heard(self, theirs: Mapping[str, float], now: float) -> None:
        """Replace what was used at other routers, weighted tokens as of `now`."""
        growth = self._growth(now)
        before, self._theirs = self._theirs, {name: use * growth for name, use in theirs.items()}
        for tenant in {**before, **self._theirs}:
            self._add(tenant, self._theirs.get(tenant, 0.0) - before.get(tenant, 0.0))

    def _add(self, tenant: str, use: float) -> None:
        used, before = self._used, self._used.get(tenant, 0.0)
        after = max(0.0, before + use)
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
            self._theirs = {tenant: use * fade for tenant, use in self._theirs.items()}
            self._total = sum(self._used.values())
            self._since, passed = now, 0.0
        return exp(passed)
