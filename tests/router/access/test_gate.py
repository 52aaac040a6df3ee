"""What the gate makes of keys, classes and ends, value by value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.facts import Ending, RequestFacts, SlaClass
from policies.keys import Allowance, Entitlement, Key, Proof
from policies.quotas import Quota
from router.access.allotment import Allotment
from router.access.gate import Gate, Stay, presented
from router.access.keyring import MOST_MODELS, Failure, Keyring, Pass
from router.access.secret import digest_of, new_id, new_text, pepper_of
from router.access.told import Telling, duration
from router.answer import Outcome
from router.errors import Problem
from router.settings import Access
from router.wire.heads import RequestHead
from tests.policies import builders

NOW = 1_800_000_000.0
PEPPER = pepper_of("salt and")


def ring(*keys, tenants=None):
    keyring = Keyring(PEPPER, tenants or {})
    for key in keys:
        keyring.adopt(key)
    return keyring


def key_of(text, **more):
    return Key(text[3:15], "acme", (Proof(digest(text)),), **more)


def digest(text, pepper=PEPPER):
    return digest_of(text.encode(), pepper).hex()


@pytest.fixture
def text():
    return new_text(new_id())


def gate_of(keyring):
    return Gate(Access(), keyring, since_1970_s=0.0, class_of=lambda _: SlaClass.STANDARD)


def outcome(prompt=None, output=None):
    return Outcome(0.0, None, None, 1.0, prompt, output)


def test_a_key_made_with_another_pepper_opens_nothing(text):
    key = Key(text[3:15], "acme", (Proof(digest(text, pepper_of(None))),))

    assert ring(key).find(text.encode(), NOW) is Failure.WRONG


def test_who_only_tries_is_turned_away_and_counted_and_whoever_has_a_key_is_not(text):
    gate = gate_of(ring(key_of(text)))

    assert gate.turns_away(new_text(new_id()).encode(), NOW) is Failure.WRONG
    assert gate.turns_away(b"a.b.c", NOW) is Failure.MALFORMED
    assert gate.turns_away(text.encode(), NOW) is None
    assert (gate.failures[Failure.WRONG], gate.failures[Failure.MALFORMED]) == (1, 1)


def test_a_token_is_not_turned_away_before_it_was_looked_at(text):
    gate = Gate(
        Access(),
        ring(key_of(text)),
        since_1970_s=0.0,
        class_of=lambda _: SlaClass.STANDARD,
        find_token=lambda _text, _now: Failure.WRONG,
    )

    assert gate.turns_away(b"a.b.c", NOW) is None
    assert gate.turns_away(b"a.b", NOW) is Failure.MALFORMED


@given(st.binary(max_size=80))
def test_no_bytes_open_an_empty_ring_or_break_it(presented_text):
    assert ring().find(presented_text, NOW) in {Failure.MALFORMED, Failure.WRONG}


def test_a_pass_is_void_from_the_moment_that_its_key_changes(text):
    keyring = ring(key_of(text))
    gate, head = gate_of(keyring), RequestHead()
    head.headers = [(b"authorization", b"bearer " + text.encode())]
    first = gate.identify(head, NOW)
    keyring.adopt(key_of(text, weight=2.0))
    second = gate.identify(head, NOW)

    assert isinstance(first, Pass)
    assert isinstance(second, Pass)
    assert (first.holder.key.weight, second.holder.key.weight) == (1.0, 2.0)


def test_what_was_used_of_a_key_stays_used_when_it_changes(text):
    allowance = Allowance(requests_per_minute=5)
    keyring = ring(key_of(text, allowance=allowance))
    (before,) = keyring.quotas
    before.enter(0, NOW)
    keyring.adopt(key_of(text, allowance=allowance, weight=2.0))
    assert list(keyring.quotas) == [before]

    keyring.adopt(key_of(text, allowance=Allowance(requests_per_minute=9)))
    assert list(keyring.quotas) != [before]
    keyring.adopt(key_of(text))
    assert list(keyring.quotas) == []


def test_the_limits_of_a_revoked_key_are_not_kept(text):
    keyring = ring(key_of(text, allowance=Allowance(requests_per_minute=5), revoked_at_s=1.0))

    assert list(keyring.quotas) == []
    assert keyring.find(text.encode(), NOW) is Failure.REVOKED


def test_a_key_goes_on_knowing_how_long_answers_are(text):
    keyring = ring(key_of(text))
    holder = keyring.find(text.encode(), NOW).holder
    for _ in range(200):
        holder.saw_answer(10)
    keyring.adopt(key_of(text, weight=2.0))

    assert keyring.find(text.encode(), NOW).holder.answer_tokens in {10, 11}


def test_names_that_callers_make_up_are_not_remembered_for_ever(text):
    holder = ring(key_of(text, entitlement=Entitlement(("m*",)))).find(text.encode(), NOW).holder
    for number in range(3 * MOST_MODELS):
        assert not holder.may_use(f"x{number}")

    assert holder.may_use("m")
    assert len(holder._models) <= MOST_MODELS


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer  a ")], b"a"),
        ([(b"authorization", b"Basic a"), (b"x-api-key", b"b")], b"b"),
        ([(b"x-api-key", b"b"), (b"authorization", b"Bearer a")], b"b"),
        ([(b"authorization", b"Basic a")], None),
        ([(b"authorization", b"Bearer")], b""),
        ([], None),
    ],
    ids=["bearer", "another scheme", "the first of two", "no scheme of ours", "nothing", "none"],
)
def test_a_key_is_found_where_clients_put_it(headers, found):
    assert presented(headers) == found


def admitted(gate, holder, **more):
    facts = RequestFacts("r", "m", frozenset(), 100, **more)
    stay = gate.admit(holder, facts, NOW)
    assert isinstance(stay, Stay), stay
    return stay


@pytest.mark.parametrize(
    ("sent", "ending", "seen", "used"),
    [
        (False, None, None, 0),
        (True, Ending.REJECTED, None, 0),
        (True, Ending.FAILED, None, 0),
        (True, Ending.FAILED, outcome(None, 5), 12),
        (True, Ending.ABANDONED, None, 129),
        (True, Ending.ABANDONED, outcome(None, 5), 12),
        (True, Ending.COMPLETED, outcome(3, 2), 5),
        (True, Ending.COMPLETED, outcome(30, None), 30),
        (True, Ending.COMPLETED, outcome(), 129),
    ],
    ids=["refused", "rejected", "failed", "failed in the middle", "left at once", "left later",
         "complete", "an embedding", "untold"],
)  # fmt: skip
def test_a_request_is_charged_what_it_is_known_to_have_taken(text, sent, ending, seen, used):
    flight = builders.flight(builders.state(), known_prompt_tokens=7) if sent else None
    keyring = ring(key_of(text, allowance=Allowance(tokens_per_minute=1000, concurrent=3)))
    gate, holder = gate_of(keyring), keyring.find(text.encode(), NOW).holder
    stay = admitted(gate, holder, known_prompt_tokens=29, max_tokens=100)
    assert stay.tokens == 129
    gate.settle(stay, flight, ending, seen, NOW + 1)
    (quota,) = keyring.quotas

    assert quota.tokens.used == used
    assert quota.places.in_use == 0


def test_who_is_over_its_tenants_limit_has_taken_nothing_of_its_keys(text):
    tenants = {"acme": Allowance(requests_per_minute=1)}
    keyring = ring(key_of(text, allowance=Allowance(requests_per_minute=9)), tenants=tenants)
    gate, holder = gate_of(keyring), keyring.find(text.encode(), NOW).holder
    admitted(gate, holder)
    refused = gate.admit(holder, RequestFacts("r", "m", frozenset(), 9), NOW)

    assert isinstance(refused, Problem)
    assert "tenant 'acme'" in refused.message
    assert [quota.requests.used for quota in keyring.quotas] == [1, 1]


def test_a_class_that_nothing_granted_comes_near_is_refused(text):
    key = key_of(text, entitlement=Entitlement(classes=(SlaClass.INTERACTIVE,)))
    keyring = ring(key)
    gate, holder = gate_of(keyring), keyring.find(text.encode(), NOW).holder
    refused = gate.admit(holder, RequestFacts("r", "m", frozenset(), 9), NOW)

    assert isinstance(refused, Problem)
    assert (refused.status, refused.code) == (403, "class_not_allowed")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, b"0s"), (0.0121, b"13ms"), (1.0, b"1s"), (59.1, b"1m0s"), (90.0, b"1m30s"),
     (600.0, b"10m0s"), (18_180.0, b"5h3m0s")],
)  # fmt: skip
def test_times_are_written_as_openai_writes_them(seconds, words):
    assert duration(seconds) == words


def test_of_several_limits_the_nearest_is_told():
    wide = Quota("a", "key 'a'", Allowance(100, 1000))
    near = Quota("b", "tenant 'b'", Allowance(10, 5000))
    lines = Telling((wide, near)).lines(NOW)

    assert b"x-ratelimit-limit-requests: 10\r\n" in lines
    assert b"x-ratelimit-limit-tokens: 1000\r\n" in lines


@pytest.mark.parametrize(
    ("allowance", "told"),
    [
        (Allowance(requests_per_minute=5), [b"requests"]),
        (Allowance(tokens_per_minute=5), [b"tokens"]),
        (Allowance(concurrent=5), []),
    ],
    ids=["requests", "tokens", "neither"],
)
def test_only_limits_that_there_are_are_told(allowance, told):
    lines = Telling((Quota("a", "key 'a'", allowance),)).lines(NOW)

    names = [what for what in (b"requests", b"tokens") if b"x-ratelimit-limit-" + what in lines]
    assert names == told


def test_what_was_overdrawn_is_told_as_nothing_left():
    quota = Quota("a", "key 'a'", Allowance(5, 100))
    telling = Telling((quota,))
    telling.lines(NOW)
    quota.enter(50, NOW)
    quota.settle(50, 500, NOW, NOW)

    assert b"x-ratelimit-remaining-tokens: 0\r\n" in telling.lines(NOW)


def test_a_trickle_is_let_through_of_a_flood():
    allotment = Allotment(10.0)
    first = sum(allotment.has_one(100.0) for _ in range(1000))
    later = sum(allotment.has_one(100.5) for _ in range(1000))

    assert (first, later) == (10, 5)
