"""Why a request is refused, in words."""

from collections.abc import Collection, Iterable
from enum import Enum

from policies.backlog import LEAST_RETRY_S, UNKNOWN_RETRY_S
from policies.classify import Ask
from policies.facts import OnMiss, RefusalReason, Refuse


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


def overloaded(ask: Ask, wait_s: float, left_s: float, back_s: float) -> Refuse:
    """Refuse a request at once that would be served too late: it had better come back."""
    return Refuse(
        RefusalReason.SATURATED,
        f"the class {ask.sla_class} is served about {wait_s:.3g} s after it comes, "
        f"and this request is of use for {left_s:.3g} s",
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
