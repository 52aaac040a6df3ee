"""What the gate does for one request, by itself: CPU time, so that other work hardly counts."""

import time
import timeit

from policies.facts import Ending, RequestFacts, SlaClass
from policies.keys import Allowance, Key, Proof
from router.access.gate import Gate, Stay
from router.access.keyring import Keyring, Pass
from router.access.secret import digest_of, new_text, pepper_of
from router.answer import Outcome
from router.settings import Access
from router.wire.heads import RequestHead

ID = "0123456789ab"
REPEATS, NUMBER = 9, 10_000


def gate_us(allowance: Allowance) -> float:
    """Return what it costs to know a key, admit, tell of limits and settle, CPU µs; the least."""
    pepper, text = pepper_of(None), new_text(ID)
    keyring = Keyring(pepper, {})
    proof = Proof(digest_of(text.encode(), pepper).hex())
    keyring.adopt(Key(ID, "bench", (proof,), allowance=allowance))
    clock = time.monotonic
    lacks_s = time.time() - clock()  # noqa: TID251 # as the router reckons
    gate = Gate(Access(), keyring, since_1970_s=lacks_s, class_of=lambda _: SlaClass.STANDARD)
    head = RequestHead()
    head.headers = [(b"host", b"router"), (b"authorization", b"Bearer " + text.encode())]
    facts, outcome = RequestFacts("r", "m", frozenset(), 100), Outcome(0.0, 0.0, 0.0, 0.0, 12, 10)

    def one_request() -> None:
        now = clock()
        opened = gate.identify(head, now)
        assert isinstance(opened, Pass)
        stay = gate.admit(opened.holder, facts, now)
        assert isinstance(stay, Stay)
        gate.told(stay, now)
        gate.settle(stay, None, Ending.COMPLETED, outcome, clock())

    timer = timeit.Timer(one_request, timer=time.process_time)
    return min(timer.repeat(REPEATS, NUMBER)) / NUMBER * 1e6
