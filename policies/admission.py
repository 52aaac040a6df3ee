"""Why a request is refused, in words, and when it is worth coming back."""

from collections.abc import Collection, Iterable
from enum import Enum
from math import ceil, exp
from random import Random
from typing import Final

from policies.classify import Ask
from policies.facts import OnMiss, RefusalReason, Refuse

LEAST_RETRY_S: Final = 1.0
MOST_RETRY_S: Final = 30.0
UNKNOWN_RETRY_S: Final = 5.0
"""Where nothing has ended yet that a rate could be told from; a guess."""
RATE_TAU_S: Final = 5.0
"""Time over which a rate forgets."""


class DrainRate:
    """Requests that end a second, lately: what a queue is served at."""

    __slots__ = ("_at", "_per_s")

    def __init__(self) -> None:
        self._per_s = 0.0
        self._at = 0.0

    def ended(self, now: float) -> None:
        """Count one."""
        self._per_s = self.per_s(now) + 1.0 / RATE_TAU_S
        self._at = now

    def per_s(self, now: float) -> float:
        """Return the rate as of `now`; 0 where nothing ended for long."""
        return self._per_s * exp((self._at - now) / RATE_TAU_S) if self._per_s else 0.0


def retry_after_s(ahead: int, per_s: float, patience_s: float, rng: Random) -> float:
    """Return when somebody who comes back would wait no longer than `patience_s`, s, 1..30.

    `ahead`: requests before it, at `per_s` ended a second. Spread by up to half as much again, so
    that those refused together do not come back together.
    """
    if per_s * MOST_RETRY_S < LEAST_RETRY_S:
        return UNKNOWN_RETRY_S
    wait_s = (ahead + 1) / per_s - patience_s
    spread_s = float(ceil(wait_s * (1.0 + 0.5 * rng.random())))
    return min(MOST_RETRY_S, max(LEAST_RETRY_S, spread_s))


def unknown_model(model: str, known: Iterable[str]) -> Refuse:
    """Refuse a model that no pool serves."""
    names = tuple(sorted(known))
    return Refuse(
        RefusalReason.UNKNOWN_MODEL,
        f"no pool serves model {model!r}",
        known=names,
    )


def unsupported(model: str, missing: Collection[Enum], *, anywhere: bool) -> Refuse:
    """Refuse what no endpoint of the model offers; `anywhere`: each by itself is offered."""
    in_order = tuple(sorted(missing, key=lambda need: str(need.value)))
    names = ", ".join(str(need.value) for need in in_order)
    together = " together" if anywhere else ""
    return Refuse(
        RefusalReason.UNSUPPORTED,
        f"no endpoint of model {model!r} offers{together}: {names}",
        missing=in_order,
    )


def too_long(model: str, prompt_tokens: int, limit_tokens: int, *, exact: bool) -> Refuse:
    """Refuse a prompt that no endpoint of the model has the context for."""
    about = "" if exact else "about "
    return Refuse(
        RefusalReason.TOO_LONG,
        f"the prompt has {about}{prompt_tokens} tokens; the longest context of model {model!r} "
        f"is {limit_tokens} tokens, prompt and answer together",
    )


def shutting_down() -> Refuse:
    """Refuse because this router stops."""
    return Refuse(
        RefusalReason.SHUTTING_DOWN, "this router is shutting down", retry_after_s=LEAST_RETRY_S
    )


def no_endpoints(model: str, count: int) -> Refuse:
    """Refuse because everything that could take the request is down or being drained."""
    are = "the only endpoint" if count == 1 else f"none of the {count} endpoints"
    what = "is down or draining" if count == 1 else "is up"
    return Refuse(
        RefusalReason.NO_ENDPOINTS,
        f"{are} of model {model!r} that can take this request {what}",
        retry_after_s=UNKNOWN_RETRY_S,
    )


def would_queue(ask: Ask, back_s: float) -> Refuse:
    """Refuse a caller that asked not to wait."""
    return Refuse(
        RefusalReason.NO_QUEUE,
        f"every slot that the class {ask.sla_class} may have is taken, and it asked not to wait",
        retry_after_s=back_s,
    )


def queue_full(ask: Ask, waiting: int, back_s: float) -> Refuse:
    """Refuse because too many wait already."""
    return Refuse(
        RefusalReason.QUEUE_FULL,
        f"{waiting} {ask.sla_class} requests wait already, as many as may",
        retry_after_s=back_s,
    )


def late(ask: Ask, now: float, back_s: float) -> Refuse:
    """Refuse a request whose time is over."""
    passed_s = now - ask.arrived_at
    if ask.finish_by is not None and now >= ask.finish_by:
        limit = f"its deadline of {ask.finish_by - ask.arrived_at:.3g} s"
        reason = RefusalReason.DEADLINE
    elif target_missed(ask, now) and ask.first_token_by is not None:
        limit = f"its first-token target of {ask.first_token_by - ask.arrived_at:.3g} s"
        reason = RefusalReason.DEADLINE
    else:
        limit = f"the {ask.wait_until - ask.arrived_at:.3g} s that the class {ask.sla_class} waits"
        reason = RefusalReason.EXPIRED
    return Refuse(reason, f"no slot within {passed_s:.3g} s, past {limit}", retry_after_s=back_s)


def busy(model: str, attempts: int, back_s: float) -> Refuse:
    """Refuse because every engine asked had no room."""
    return Refuse(
        RefusalReason.SATURATED,
        f"the engines of model {model!r} refused for want of room ({attempts} asked)",
        retry_after_s=back_s,
    )


def gave_up(endpoint_id: str, kind: str, attempts: int) -> Refuse:
    """Refuse because the request failed and may not be tried again."""
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return Refuse(
        RefusalReason.RETRIES_SPENT,
        f"endpoint {endpoint_id!r} failed ({kind}) after {tries}",
        retry_after_s=LEAST_RETRY_S,
    )


def target_missed(ask: Ask, now: float) -> bool:
    """Return whether a caller that wants no late answer can only get a late one."""
    return (
        ask.on_miss is OnMiss.REJECT
        and ask.first_token_by is not None
        and now >= ask.first_token_by
    )


def pointless(ask: Ask, now: float) -> bool:
    """Return whether sending the request at `now` can only give an answer that nobody wants."""
    return (ask.finish_by is not None and now >= ask.finish_by) or target_missed(ask, now)
