"""Lets callers in, or says why not: who it is, what it may ask for, whether it has had enough.

On the way of every request where keys are on, so it looks up rather than works out: a head that
was seen before has its pass with it (`RequestHead.memo`), and a limit is an addition.
All state is changed here, in methods that never await.
"""

from collections.abc import Callable, Sequence
from typing import Final

from policies.facts import Ending, RequestFacts, SlaClass
from policies.flight import Flight
from policies.keys import entitled
from policies.quotas import Kind, Limited, Quota
from router import errors
from router.access.keyring import Failure, Holder, Keyring, Pass, Use
from router.access.refusals import REFUSALS, class_refused, limited, model_refused
from router.answer import Outcome
from router.settings import AboveClass, Access
from router.wire.heads import RequestHead

OTHER: Final = "other"
LOWERED: Final = b"x-sla-class-lowered: 1\r\n"
"""Said to whoever asked for a class above its highest."""


class Stay:
    """What a request has taken, until it is settled."""

    __slots__ = ("at", "holder", "tokens")

    def __init__(self, holder: Holder, tokens: int, at: float) -> None:
        self.holder = holder
        self.tokens = tokens
        """As estimated."""
        self.at = at
        """When it was taken, since 1970."""


class Gate:
    """Where a request shows its key."""

    def __init__(
        self,
        settings: Access,
        keyring: Keyring,
        *,
        since_1970_s: float,
        class_of: Callable[[RequestFacts], SlaClass],
        find_token: Callable[[bytes, float], Pass | Failure] | None = None,
    ) -> None:
        """`since_1970_s`: what the router's clock lacks; `class_of`: what is being asked for.

        `find_token`: what a token opens; None: tokens are looked at as keys.
        """
        self.keyring = keyring
        self._find_token = find_token
        self.since_1970_s = since_1970_s
        self._refuses_above = settings.above_class is AboveClass.REFUSE
        self._max_tenants = settings.max_tenants
        self._class_of = class_of
        self.woken: list[Quota] = []
        """Limits that were used since they were last found idle, to be taken out by who shares them;
        each is in it once."""
        self.failures: dict[Failure, int] = dict.fromkeys(Failure, 0)
        """Callers not let in."""
        self.limited: dict[Kind, int] = dict.fromkeys(Kind, 0)
        """Requests that were over a limit."""
        self.lowered = 0
        """Requests that asked for more than their caller's highest class."""
        self.uses: dict[str, Use] = {}
        """By tenant, no more than so many and the others together."""

    def identify(self, head: RequestHead, now: float) -> Pass | Failure:
        """Return what the key in a head opens; `now` is the router's clock's."""
        now += self.since_1970_s
        known: Pass | None = head.memo.get("pass")
        if known is not None and now < known.until:
            return known
        text = presented(head.headers)
        found = Failure.MISSING if text is None else self._find(text, now)
        if isinstance(found, Pass):
            head.memo["pass"] = found
        else:
            self.failures[found] += 1
        return found

    def _find(self, text: bytes, now: float) -> Pass | Failure:
        if self._find_token is not None and is_token(text):
            return self._find_token(text, now)
        return self.keyring.find(text, now)

    def turns_away(self, text: bytes, now: float) -> Failure | None:
        """Return why a key opens nothing, and count it; None where it opens something.

        Likewise None where it is a token: whether that is good is not found by looking it up.
        """
        if self._find_token is not None and is_token(text):
            return None
        found = self.keyring.find(text, now + self.since_1970_s)
        if isinstance(found, Pass):
            return None
        self.failures[found] += 1
        return found

    def admit(self, holder: Holder, facts: RequestFacts, now: float) -> Stay | errors.Problem:
        """Take a request on, as its holder's; or say why not."""
        key = holder.key
        if not holder.may_use(facts.model):
            return model_refused(facts.model, key)
        facts.tenant = key.tenant
        facts.weight = key.weight
        if holder.is_held:
            refused = self._hold_to_class(holder, facts)
            if refused is not None:
                return refused
        now += self.since_1970_s
        tokens = holder.estimate(facts) if holder.counts_tokens else 0
        for quota in holder.quotas:
            self._wake(quota)
            over = quota.enter(tokens, now)
            if over is not None:
                return self._over(holder, over, tokens, now)
        return Stay(holder, tokens, now)

    def _wake(self, quota: Quota) -> None:
        """Note that a limit is used."""
        if not quota.is_busy:
            quota.is_busy = True
            self.woken.append(quota)

    def _hold_to_class(self, holder: Holder, facts: RequestFacts) -> errors.Problem | None:
        """Set the ceiling of a request; return why it is refused, if it is."""
        asked = self._class_of(facts)
        served = entitled(asked, holder.key.entitlement)
        if served is None or (self._refuses_above and served is not asked):
            return class_refused(asked, holder.key)
        if served is not asked:
            self.lowered += 1
            facts.ceiling = served
        elif holder.ceiling is not None:
            facts.ceiling = holder.ceiling
        return None

    def _over(self, holder: Holder, over: Limited, tokens: int, now: float) -> errors.Problem:
        for quota in holder.quotas:
            if quota.whose == over.whose:
                break
            quota.undo(tokens)
        self.limited[over.kind] += 1
        return limited(over, holder.telling.lines(now))

    def settle(
        self, stay: Stay, flight: Flight | None, ending: Ending | None, outcome: Outcome | None,
        now: float,
    ) -> None:  # fmt: skip
        """Let go of what a request has taken, once, however it ended."""
        holder = stay.holder
        answer = prompt = None
        if outcome is not None:
            prompt, answer = outcome.prompt_tokens, outcome.output_tokens
        if prompt is not None and answer is not None:
            used = prompt + answer
        else:
            used = _used(stay, flight, ending, prompt, answer)
        if answer:
            holder.saw_answer(answer)
        now += self.since_1970_s
        for quota in holder.quotas:
            self._wake(quota)
            quota.settle(stay.tokens, used, stay.at, now)
        use = holder.use
        if use is None:
            use = holder.use = self._use(holder.key.tenant)
        use.requests += 1
        use.tokens += used

    def told(self, stay: Stay, now: float) -> bytes:
        """Return the header lines that tell a caller of its limits."""
        return stay.holder.telling.lines(now + self.since_1970_s)

    def refusal(self, failure: Failure) -> errors.Problem:
        """Return the answer to who is not let in."""
        return REFUSALS[failure]

    def _use(self, tenant: str) -> Use:
        known = self.uses.get(tenant)
        if known is not None:
            return known
        name = tenant if len(self.uses) < self._max_tenants else OTHER
        return self.uses.setdefault(name, Use())


def presented(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Return the key that headers present, the first if there are several; None where none does."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, text = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return text.strip()
        elif name == b"x-api-key":
            return value.strip()
    return None


def is_token(text: bytes) -> bool:
    """Tell whether what was presented has a signed token's three parts; no key has a dot."""
    return text.count(b".") == 2  # noqa: PLR2004 # between three parts


def _used(
    stay: Stay, flight: Flight | None, ending: Ending | None, prompt: int | None, answer: int | None
) -> int:
    """Return the tokens that a request took, as far as is known.

    Who leaves before an engine has told is charged what was thought; whom it failed, nothing.
    """
    if flight is None or ending is Ending.REJECTED:
        return 0
    if prompt is None and answer is None:
        return 0 if ending is Ending.FAILED else stay.tokens
    return (flight.ask.prompt_tokens if prompt is None else prompt) + (answer or 0)
