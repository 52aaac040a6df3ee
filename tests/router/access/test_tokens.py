"""Which tokens open the router: those that the issuer signed, for it, for this time; and no others."""

import base64
import hmac
import json
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwk import RSAKey

from policies.facts import SlaClass
from policies.keys import Allowance
from router.access.gate import Gate, is_token
from router.access.jwks import SignersKeys, read_keys
from router.access.keyring import Failure, Keyring, Pass
from router.access.refusals import REFUSALS
from router.access.secret import new_id, new_text, pepper_of
from router.access.time_share import BURST_S, MOST_S, TimeShare
from router.access.tokens import MOST_BYTES, MOST_PASSES, MOST_REFUSED, Tokens
from router.settings import Access, Signing
from router.wire.heads import RequestHead
from tests.fakes.identity import AUDIENCE, ISSUER, Identity, made, public, settings, signed

NOW = 1_800_000_000.0
PEPPER = pepper_of("salt and")


class Clock:
    """Goes on by a step each time that it is looked at."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def tokens_of(identity, clock=None, tenants=None, **more):
    tokens = Tokens(settings(**more), Keyring(PEPPER, tenants or {}), clock or Clock())
    tokens.adopt(read_keys(identity.jwks, settings(**more).algorithms))
    return tokens


def found(tokens, token, now=NOW):
    return tokens.find(token.encode() if isinstance(token, str) else token, now)


@pytest.mark.parametrize("algorithm", list(Signing))
def test_what_the_issuer_signed_opens_until_it_expires(algorithm):
    identity = Identity(algorithm)
    opened = found(tokens_of(identity), identity.token(NOW))

    assert isinstance(opened, Pass)
    assert opened.until == NOW + 3600 + 30
    assert opened.holder.key.tenant == "ann"


def test_what_a_token_says_is_its_holders():
    identity = Identity()
    tenants = {"acme": Allowance(concurrent=3)}
    token = identity.token(
        NOW, headway_tenant="acme", headway_models=["m"], headway_highest_class="bulk"
    )
    holder = found(tokens_of(identity, tenants=tenants), token).holder

    assert holder.may_use("m")
    assert not holder.may_use("n")
    assert holder.ceiling is SlaClass.BULK
    assert [each.whose for each in holder.quotas] == ["tenant 'acme'"]


def test_tokens_that_say_the_same_have_one_holder():
    identity = Identity()
    tokens = tokens_of(identity)
    one, two, other = (
        found(tokens, identity.token(NOW, jti=jti, headway_weight=weight)).holder
        for jti, weight in (("1", 1), ("2", 1), ("3", 2))
    )

    assert one is two
    assert one is not other


FIRST = Identity("RS256")
RSA = made("RS256")


def claims(**more):
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": NOW + 60, **more}


def part(value):
    text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forged(head, signature="AAAA"):
    return ".".join((part(head), part(claims()), signature))


def hmac_with(secret, algorithm="HS256"):
    """Return what a library makes that knows no better than to take a public key for a secret."""
    text = f"{part({'alg': algorithm, 'kid': 'first'})}.{part(claims())}"
    sealed = hmac.digest(secret, text.encode(), f"sha{algorithm[2:]}")
    return f"{text}.{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"


assert isinstance(RSA, RSAKey)
PUBLIC_PEM = RSA.as_pem(private=False)
STRANGER = made("RS256", 1)
TAMPERED = FIRST.token(NOW).split(".")
TAMPERED[1] = part(claims(headway_tenant="other"))
WRONG = {
    "no algorithm": forged({"alg": "none", "kid": "first"}, ""),
    "none, oddly written": forged({"alg": "nOnE", "kid": "first"}, ""),
    "HMAC with the public key": hmac_with(PUBLIC_PEM),
    "HMAC with the public key's numbers": hmac_with(json.dumps(public(RSA)).encode(), "HS512"),
    "another's signature": signed({"alg": "RS256", "kid": "first"}, claims(), STRANGER),
    "a key of its own in the head": signed(
        {"alg": "RS256", "kid": "first", "jwk": public(STRANGER)}, claims(), STRANGER
    ),
    "another algorithm of the key's": signed({"alg": "PS256", "kid": "first"}, claims(), RSA)
    .replace(part({"alg": "PS256", "kid": "first"}), part({"alg": "RS256", "kid": "first"})),
    "other claims": ".".join(TAMPERED),
    "no signature": ".".join([*FIRST.token(NOW).split(".")[:2], ""]),
    "signature padded": FIRST.token(NOW) + "==",
    "signature with what is passed over": FIRST.token(NOW) + "!",
    "signature with other last bits": FIRST.token(NOW)[:-1] + "B",
    "signature cut": FIRST.token(NOW)[:-8],
    "an extension": FIRST.token(NOW, head={"crit": ["exp"], "exp": 1}),
    "another kind of message": FIRST.token(NOW, head={"typ": "logout+jwt"}),
    "a kind of no type": FIRST.token(NOW, head={"typ": 7}),
    "an algorithm of no type": forged({"alg": ["RS256"], "kid": "first"}),
}  # fmt: skip


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG)
def test_what_the_issuer_did_not_sign_in_a_way_that_is_allowed_opens_nothing(token):
    tokens = tokens_of(FIRST)

    assert found(tokens, token) is Failure.WRONG_TOKEN
    assert found(tokens, token) is Failure.WRONG_TOKEN
    assert isinstance(found(tokens, FIRST.token(NOW)), Pass)


def test_an_algorithm_that_is_not_allowed_is_none_whoever_signed():
    tokens = tokens_of(FIRST, algorithms=(Signing.ES256,))

    assert found(tokens, FIRST.token(NOW)) is Failure.WRONG_TOKEN


MALFORMED = {
    "no parts": "..",
    "no base64": "a.b.c",
    "no JSON": f"{part(b'{')}.{part({})}.AAAA",
    "a head of text": f"{part('alg')}.{part({})}.AAAA",
    "a head of a list": f"{part(['alg'])}.{part({})}.AAAA",
    "a head without alg": forged({"kid": "first"}),
    "a head that says it is not encoded": forged({"alg": "RS256", "kid": "first", "b64": False}),
    "a kid of no type": forged({"alg": "RS256", "kid": 7}),
    "claims of no JSON": signed({"alg": "RS256", "kid": "first"}, b"{", RSA),
    "claims of a list": signed({"alg": "RS256", "kid": "first"}, [], RSA),
    "claims too deep": signed({"alg": "RS256", "kid": "first"}, b"[" * 3000, RSA),
    "no expiry": FIRST.token(NOW, exp=...),
    "an expiry of no type": FIRST.token(NOW, exp="tomorrow"),
    "an expiry of true": FIRST.token(NOW, exp=True),
    "an issuer missing": FIRST.token(NOW, iss=...),
    "an audience missing": FIRST.token(NOW, aud=...),
    "a subject of no type": FIRST.token(NOW, sub=7),
    "too long": FIRST.token(NOW, padding="x" * MOST_BYTES),
    "a head too long": FIRST.token(NOW, head={"x": "x" * 2048}),
}


@pytest.mark.parametrize("token", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_token_opens_nothing(token):
    assert found(tokens_of(FIRST), token) is Failure.MALFORMED_TOKEN


@given(st.lists(st.binary(max_size=40), min_size=3, max_size=3), st.booleans())
def test_no_bytes_open_anything_or_break_it(parts, encoded):
    written = [part(each).encode() if encoded else each for each in parts]

    assert isinstance(found(TOKENS, b".".join(written)), Failure)


TOKENS = tokens_of(FIRST)


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ({"iss": "https://other.example"}, Failure.STRANGE_TOKEN),
        ({"iss": ISSUER + "/"}, Failure.STRANGE_TOKEN),
        ({"iss": [ISSUER]}, Failure.STRANGE_TOKEN),
        ({"aud": "other"}, Failure.STRANGE_TOKEN),
        ({"aud": ["other", "another"]}, Failure.STRANGE_TOKEN),
        ({"aud": []}, Failure.STRANGE_TOKEN),
        ({"aud": {AUDIENCE: 1}}, Failure.STRANGE_TOKEN),
        ({"exp": NOW - 31}, Failure.EXPIRED_TOKEN),
        ({"exp": -(10**400)}, Failure.MALFORMED_TOKEN),
        ({"nbf": NOW + 31}, Failure.EARLY_TOKEN),
        ({"iat": NOW + 31}, Failure.EARLY_TOKEN),
        ({"headway_models": 7}, Failure.UNUSABLE_TOKEN),
    ],
)
def test_what_is_not_for_here_and_now_is_refused_with_the_reason(said, failure):
    assert found(tokens_of(FIRST), FIRST.token(NOW, **said)) is failure


@pytest.mark.parametrize(
    "said",
    [
        {"aud": ["other", AUDIENCE]},
        {"exp": NOW - 29},
        {"nbf": NOW + 29},
        {"iat": NOW + 29.5},
        {"iat": ...},
        {"headway_models": []},
    ],
)
def test_what_is_for_here_and_just_in_time_opens(said):
    assert isinstance(found(tokens_of(FIRST), FIRST.token(NOW, **said)), Pass)


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+JWT"])
def test_a_token_may_say_that_it_is_one(kind):
    assert isinstance(found(tokens_of(FIRST), FIRST.token(NOW, head={"typ": kind})), Pass)


def test_a_token_is_good_for_no_longer_than_it_says():
    tokens, token = tokens_of(FIRST), FIRST.token(NOW)
    opened = found(tokens, token)
    end = opened.until
    after = [found(tokens, token, end) for _ in range(2)]

    assert isinstance(found(tokens, FIRST.token(end), end), Pass)
    assert after == [Failure.EXPIRED_TOKEN] * 2
    assert opened.until < NOW


def test_a_token_without_an_end_in_sight_is_verified_again_each_day():
    tokens, token = tokens_of(FIRST), FIRST.token(NOW, exp=10**18)
    opened = found(tokens, token)
    end = opened.until
    again = found(tokens, token, end)

    assert end <= NOW + 86_400 + 30
    assert isinstance(again, Pass)
    assert again is not opened


def test_a_token_that_came_too_early_opens_in_time():
    tokens, token = tokens_of(FIRST), FIRST.token(NOW, nbf=NOW + 100)
    early = found(tokens, token)

    assert early is Failure.EARLY_TOKEN
    assert isinstance(found(tokens, token, NOW + 100), Pass)


def test_a_key_that_is_not_known_is_asked_for_and_taken_once_it_is():
    identity = Identity()
    tokens = tokens_of(identity)
    identity.publish("second", number=1)
    token = identity.token(NOW, "second")
    before, lacking = found(tokens, token), tokens.lacking.is_set()
    tokens.adopt(read_keys(identity.jwks, settings().algorithms))

    assert (before, lacking) == (Failure.UNKNOWN_SIGNER, True)
    assert isinstance(found(tokens, token), Pass)


def test_what_a_key_signed_that_the_issuer_took_out_opens_nothing_wherever_it_is_kept():
    identity = Identity()
    identity.publish("second", number=1)
    tokens = tokens_of(identity)
    gone, stays = (found(tokens, identity.token(NOW, kid)) for kid in ("first", "second"))
    token = identity.token(NOW, "first")
    del identity.keys["first"]
    void = tokens.adopt(read_keys(identity.jwks, settings().algorithms))

    assert void == 1
    assert gone.until < NOW < stays.until
    assert found(tokens, token) is Failure.UNKNOWN_SIGNER


def test_another_key_under_the_same_id_voids_what_the_one_before_signed():
    identity = Identity()
    tokens = tokens_of(identity)
    token = identity.token(NOW)
    before = found(tokens, token)
    identity.publish("first", number=1)
    tokens.adopt(read_keys(identity.jwks, settings().algorithms))

    assert before.until < NOW
    assert found(tokens, token) is Failure.WRONG_TOKEN


def test_a_token_refused_for_its_signature_is_looked_at_again_once_the_keys_have_changed():
    identity = Identity()
    tokens = tokens_of(identity)
    identity.publish("first", number=1)
    token = identity.token(NOW)
    before = found(tokens, token)
    tokens.adopt(read_keys(identity.jwks, settings().algorithms))

    assert before is Failure.WRONG_TOKEN
    assert isinstance(found(tokens, token), Pass)


def test_the_library_itself_is_held_to_what_is_allowed():
    registry = tokens_of(FIRST, algorithms=(Signing.RS256,))._registry

    assert registry.get_alg("RS256").name == "RS256"
    for other in ("none", "HS256", "ES256"):
        with pytest.raises(UnsupportedAlgorithmError):
            registry.get_alg(other)


def test_without_keys_nothing_opens():
    tokens = tokens_of(FIRST)
    opened = found(tokens, FIRST.token(NOW))
    tokens.adopt(SignersKeys())

    assert opened.until < NOW
    assert found(tokens, FIRST.token(NOW)) is Failure.UNKNOWN_SIGNER


def garbage(number):
    """Return a token that costs as much as a good one, and none like it."""
    return f"{part({'alg': 'RS256', 'kid': 'first'})}.{part(claims(jti=number))}.{'A' * 342}"


def test_a_flood_of_tokens_takes_a_bounded_share_of_the_time_and_known_ones_go_on():
    clock = Clock()
    tokens = tokens_of(FIRST, clock, max_share=0.05)
    good = FIRST.token(NOW)
    assert isinstance(found(tokens, good), Pass)
    read_s = 0.0
    for number in range(20_000):
        # Half a millisecond between two of them, and as long for one that is read.
        clock.now += 0.0005
        before, clock.step_s = clock.now, 0.00025
        refused = found(tokens, garbage(number % 40 + 100 * (number // 40)))
        clock.step_s = 0.0
        read_s += clock.now - before if refused is not Failure.CROWDED_OUT else 0.0
        if number % 1000 == 0:
            assert isinstance(found(tokens, good), Pass)

    assert clock.now > 10.0
    assert read_s <= 2 * (0.05 * (clock.now + BURST_S) + MOST_S)
    assert isinstance(found(tokens, good), Pass)


def test_once_a_flood_is_over_tokens_are_verified_again():
    clock = Clock(0.02)
    tokens = tokens_of(FIRST, clock, max_share=0.05)
    numbers = count()
    while found(tokens, garbage(next(numbers))) is not Failure.CROWDED_OUT:
        pass
    crowded = found(tokens, FIRST.token(NOW))
    clock.now += BURST_S

    assert crowded is Failure.CROWDED_OUT
    assert isinstance(found(tokens, FIRST.token(NOW)), Pass)


def test_the_same_wrong_token_is_read_once():
    clock = Clock(0.02)
    tokens = tokens_of(FIRST, clock, max_share=0.5)
    seen = {found(tokens, WRONG["another's signature"]) for _ in range(100)}

    assert seen == {Failure.WRONG_TOKEN}


@given(st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 0.05)), max_size=60))
def test_no_more_time_is_spent_than_the_share_and_one_piece_more(pieces):
    share, now, spent = TimeShare(0.1), 100.0, 0.0
    for wait_s, cost_s in pieces:
        now += wait_s
        if share.has_any(now):
            share.spent(cost_s)
            spent += min(cost_s, MOST_S)

    assert spent <= 0.1 * (now - 100.0 + BURST_S) + MOST_S + 1e-9


def test_tables_of_tokens_have_a_bound(monkeypatch):
    monkeypatch.setattr("router.access.tokens.MOST_PASSES", 3)
    monkeypatch.setattr("router.access.tokens.MOST_REFUSED", 3)
    monkeypatch.setattr("router.access.tokens.MOST_HOLDERS", 3)
    tokens = tokens_of(FIRST)
    opened = [found(tokens, FIRST.token(NOW, sub=f"s{number}")) for number in range(9)]
    for number in range(9):
        found(tokens, garbage(number))

    assert tokens.known == 3
    assert [each.until > NOW for each in opened] == [False] * 6 + [True] * 3
    assert len(tokens._refused) == len(tokens._holders) == 3
    assert min(MOST_PASSES, MOST_REFUSED) > 1000


def test_expired_tokens_are_forgotten():
    tokens = tokens_of(FIRST)
    for exp in (NOW + 10, NOW + 100):
        found(tokens, FIRST.token(NOW, exp=exp))
    tokens.sweep(NOW + 50)

    assert tokens.known == 1


def test_of_many_tokens_that_are_not_understood_few_are_written_down_and_none_is_shown(caplog):
    tokens = tokens_of(FIRST, max_share=1.0)
    for number in range(20):
        found(tokens, FIRST.token(NOW, jti=str(number), headway_weight=-5))

    (record,) = caplog.records
    assert "'headway_weight'" in record.reason
    assert "-5" not in record.reason


def gate_of(tokens):
    return Gate(
        Access(),
        Keyring(PEPPER, {}),
        since_1970_s=0.0,
        class_of=lambda _: SlaClass.STANDARD,
        find_token=tokens.find,
    )


def head_with(text):
    head = RequestHead()
    head.headers = [(b"authorization", b"Bearer " + text.encode())]
    return head


def test_a_gate_knows_a_token_by_its_form_and_never_tries_it_as_a_key():
    tokens = tokens_of(FIRST)
    gate = gate_of(tokens)
    key = new_text(new_id())

    assert isinstance(gate.identify(head_with(FIRST.token(NOW)), NOW), Pass)
    assert gate.identify(head_with(key), NOW) is Failure.WRONG
    assert gate.identify(head_with("a.b.c"), NOW) is Failure.MALFORMED_TOKEN
    assert gate.identify(head_with("a.b.c.d.e"), NOW) is Failure.MALFORMED
    assert not is_token(key.encode())
    assert gate.failures[Failure.MALFORMED_TOKEN] == 1


def test_a_head_that_was_seen_has_its_pass_with_it_until_that_is_void():
    identity = Identity()
    tokens = tokens_of(identity)
    gate, head = gate_of(tokens), head_with(identity.token(NOW))
    first, again = gate.identify(head, NOW), gate.identify(head, NOW)
    tokens.adopt(SignersKeys())

    assert first is again
    assert gate.identify(head, NOW) is Failure.UNKNOWN_SIGNER


@pytest.mark.parametrize("failure", list(Failure))
def test_every_refusal_is_one_that_a_client_understands(failure):
    problem = REFUSALS[failure]

    assert problem.status == (503 if failure is Failure.CROWDED_OUT else 401)
    assert problem.code
    assert (problem.should_retry is True) is (problem.retry_after_s is not None)
