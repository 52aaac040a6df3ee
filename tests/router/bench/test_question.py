"""What is sent: prompts of the right length, and a request that says what it is held to."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.emulator.text import count
from policies.facts import SlaClass, Targets
from router.bench.prompts import BYTES_A_TOKEN, Prompts
from router.bench.question import Target, Writer, target
from router.intake_headers import read_headers
from router.workload.offers import PREFIX_TOKENS
from tests.router.simulation.worlds import offer

TARGET = Target("engine", "http://127.0.0.1:8000/base", "llama", "s3cret")


@given(tokens=st.integers(1, 200_000), salt=st.text(max_size=5))
@settings(max_examples=8, deadline=None)
def test_a_prompt_is_as_long_as_the_offer_says(tokens, salt):
    text = Prompts(salt).text(offer(0, prompt_tokens=tokens))

    assert len(text) == BYTES_A_TOKEN * tokens


def test_the_emulated_engines_count_the_same_tokens():
    assert count(Prompts("1").text(offer(0, prompt_tokens=777))) == 777


def test_prompts_differ_from_one_another_and_are_the_same_for_the_same_salt():
    first, second, again = Prompts("1"), Prompts("2"), Prompts("1")
    texts = [first.text(offer(number)) for number in range(20)]

    assert len(set(texts)) == 20
    assert texts == [again.text(offer(number)) for number in range(20)]
    assert texts[0] != second.text(offer(0))


def test_equal_prefix_ids_are_equal_text_and_the_rest_is_not():
    length = 2 * PREFIX_TOKENS + 100
    prompts = Prompts("1")
    one = prompts.text(offer(0, prompt_tokens=length, prefix=(7, 8, 9)))
    two = prompts.text(offer(1, prompt_tokens=length, prefix=(7, 8, 5)))
    short = prompts.text(offer(2, prompt_tokens=10, prefix=(7,)))

    shared = 2 * PREFIX_TOKENS * BYTES_A_TOKEN
    assert one[:shared] == two[:shared]
    assert one[shared:] != two[shared:]
    assert short == one[: 10 * BYTES_A_TOKEN]
    assert len(one) == len(two) == length * BYTES_A_TOKEN


def parts(request: bytes) -> tuple[str, list[tuple[bytes, bytes]], dict[str, object]]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    assert dict(pairs)[b"content-length"] == b"%d" % len(body)
    return first.decode(), pairs, orjson.loads(body)


def test_the_router_reads_from_the_headers_what_the_offer_is_held_to():
    held = Targets(first_token_s=0.25, per_token_s=0.04, deadline_s=30.0)
    given_offer = offer(0, sla_class=SlaClass.BULK, targets=held, tenant="acme", session="chat-7")

    first, headers, _ = parts(Writer(TARGET, Prompts("1"), exact=True).request(given_offer))
    asked = read_headers(headers)

    assert first == "POST /base/v1/chat/completions HTTP/1.1"
    assert asked.sla_class is SlaClass.BULK
    assert (asked.first_token_s, asked.per_token_s, asked.deadline_s) == (0.25, 0.04, 30.0)
    assert (asked.tenant, asked.session) == ("acme", "chat-7")
    assert dict(headers)[b"authorization"] == b"Bearer s3cret"
    assert dict(headers)[b"host"] == b"127.0.0.1:8000"


def test_an_offer_that_is_held_to_nothing_says_its_class_alone():
    bare = Target("engine", "http://h", "m")

    _, headers, _ = parts(Writer(bare, Prompts("1"), exact=True).request(offer(0)))

    assert [name for name, _ in headers if name.startswith(b"x-")] == [b"x-sla-class"]
    assert b"authorization" not in dict(headers)


def test_an_exact_answer_is_asked_for_by_its_length_and_a_natural_one_by_the_callers_bound():
    def asked(*, exact: bool) -> dict[str, object]:
        return parts(Writer(TARGET, Prompts("1"), exact=exact).request(offer(0)))[2]

    exact, natural = asked(exact=True), asked(exact=False)

    assert (exact["max_tokens"], exact["ignore_eos"]) == (20, True)
    assert natural["max_tokens"] == 64
    assert "ignore_eos" not in natural
    assert exact["model"] == "llama"
    assert exact["stream"] is True


@pytest.mark.parametrize(
    ("text", "name", "url", "port", "secure"),
    [
        ("http://h:81", "http://h:81", "http://h:81", 81, False),
        ("nginx=http://h/v1/", "nginx", "http://h", 80, False),
        ("cloud=https://h.example/api", "cloud", "https://h.example/api", 443, True),
    ],
)
def test_a_target_is_read(text, name, url, port, secure):
    found = target(text, "m")

    assert (found.name, found.url) == (name, url)
    assert (found.port, found.secure) == (port, secure)
    assert found.host.startswith("h")


@pytest.mark.parametrize("text", ["", "x", "ftp://h", "a=b", "http://", "http://h?x=1", "a=h:80"])
def test_what_is_no_target_is_refused_with_what_would_be(text):
    with pytest.raises(ValueError, match="is no target; http://host:port or name=http"):
        target(text, "m")
