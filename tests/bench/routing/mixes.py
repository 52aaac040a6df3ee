"""The workloads: chat that somebody watches beside summaries that nobody waits for."""

from typing import Any, Final

from policies.facts import SlaClass
from router.workload.settings import RateChange, Traffic, Workload

CHAT_SHARE: Final = 45 / 63
"""Interactive share of the requests, as in the built-in workload `mixed`."""
CV: Final = 2.0
WARM_UP_S: Final = 15.0
MOST_BULK_OUTPUT: Final = 1024


def chat(rate: float, *, cv: float = CV, **more: Any) -> Traffic:
    """Return interactive requests with the lengths of the Azure conversation trace."""
    fields = {"name": "chat", **more}
    return Traffic(
        sla_class=SlaClass.INTERACTIVE, rate=rate, cv=cv, lengths="azure_conv_lengths", **fields
    )


def summaries(rate: float, *, cv: float = CV, **more: Any) -> Traffic:
    """Return bulk requests with the lengths of arXiv papers."""
    fields = {"name": "summaries", **more}
    return Traffic(
        sla_class=SlaClass.BULK,
        rate=rate,
        cv=cv,
        lengths="arxiv_lengths",
        most_output_tokens=MOST_BULK_OUTPUT,
        **fields,
    )


def w1(rate: float, duration_s: float) -> Workload:
    """Return both, bursty, `rate` requests a second together."""
    traffic = (chat(CHAT_SHARE * rate), summaries((1 - CHAT_SHARE) * rate))
    return Workload(duration_s=duration_s, warm_up_s=WARM_UP_S, traffic=traffic)


def one_class(rate: float, duration_s: float, sla_class: SlaClass) -> Workload:
    """Return what one class has of W1 at `rate` requests a second of both."""
    kept = tuple(each for each in w1(rate, duration_s).traffic if each.sla_class is sla_class)
    return Workload(duration_s=duration_s, warm_up_s=WARM_UP_S, traffic=kept)


def overload(
    capacity: float, before: float, during: float, from_s: float, until_s: float, end_s: float
) -> Workload:
    """Return both at shares `before` and, for a while, `during` of a capacity."""
    rate = before * capacity
    changes = (RateChange(from_s, during / before), RateChange(until_s, 1.0))
    traffic = (
        chat(CHAT_SHARE * rate, cv=1.0, changes=changes),
        summaries((1 - CHAT_SHARE) * rate, cv=1.0, changes=changes),
    )
    return Workload(duration_s=end_s, warm_up_s=WARM_UP_S, traffic=traffic)


def mix_shift(rate: float, duration_s: float) -> Workload:
    """Return 70 % chat at first and 30 % from half-way on, at one total rate."""
    half_s = duration_s / 2
    traffic = (
        chat(0.7 * rate, cv=1.0, changes=(RateChange(half_s, 3 / 7),)),
        summaries(0.3 * rate, cv=1.0, changes=(RateChange(half_s, 7 / 3),)),
    )
    return Workload(duration_s=duration_s, warm_up_s=WARM_UP_S, traffic=traffic)


FLOODER: Final = "flooder"


def tenants(rate: float, duration_s: float, times: float) -> Workload:
    """Return W1 with the chat of ten tenants, one of which sends `times` its share."""
    chat_rate = CHAT_SHARE * rate
    others = {f"tenant-{number}": 1.0 for number in range(1, 10)}
    traffic = (
        chat(0.9 * chat_rate, cv=1.0, name="others", tenants=others),
        chat(0.1 * chat_rate * times, cv=1.0, name="flood", tenants={FLOODER: 1.0}),
        summaries((1 - CHAT_SHARE) * rate, cv=1.0, tenants={"archive": 1.0}),
    )
    return Workload(duration_s=duration_s, warm_up_s=WARM_UP_S, traffic=traffic)
