"""What comes through the router is what the engine said, byte for byte."""

import http.client
import json
import re
from random import Random
from urllib.parse import urlsplit

import pytest

REQUESTS = 200
BATCH = 25
# What differs between two answers of the engine itself to one question.
OWN_TO_EACH_ANSWER = re.compile(
    rb'"id":"[^"]*"|"created":\d+|"timings":\{[^{}]*\}|"generation_settings":\{[^{}]*\}'
)
WORDS = ("river", "stone", "lamp", "cloud", "étude", "naïve", "東京", "ß", "a", "The", "?")


def request(number, model):
    """Return path and body of one of the requests, always the same for the same number."""
    rng = Random(number)
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 3)))
    options = {
        "model": model,
        "temperature": 0,
        "seed": 7,
        "max_tokens": rng.randint(1, 3),
        "stream": bool(number % 2),
        "cache_prompt": False,
    }
    if number % 2 and rng.random() < 0.5:
        options["stream_options"] = {"include_usage": True}
    chat = rng.random() < 0.4
    if rng.random() < 0.3:
        options["logprobs"] = True if chat else 1
    if chat:
        options["messages"] = [{"role": "user", "content": text}]
        path = "/v1/chat/completions"
    else:
        options["prompt"] = text
        path = "/v1/completions"
    # Spaces and escapes differ from one client to the next, and must not matter to the router.
    body = json.dumps(options, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
    return path, body.encode()


def connect(url):
    """Return a connection to a server of ours."""
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)


def exchange(connection, path, body):
    """Return what was said: status, type of content, and the bytes but for ids and times."""
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    said = OWN_TO_EACH_ANSWER.sub(b"", response.read())
    return response.status, response.headers["content-type"], said


@pytest.fixture(scope="module")
def routed(router_url):
    """Keep one connection to the router for every request."""
    connection = connect(router_url)
    yield connection
    connection.close()


@pytest.fixture
def direct(engine_url):
    """Ask the engine itself, on a fresh connection: llama.cpp closes one after each stream."""

    def ask(path, body):
        connection = connect(engine_url)
        try:
            return exchange(connection, path, body)
        finally:
            connection.close()

    return ask


@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", range(0, REQUESTS, BATCH))
def test_an_answer_through_the_router_is_the_engines_own_byte_for_byte(
    routed, direct, model, first
):
    for number in range(first, first + BATCH):
        path, body = request(number, model)

        expected = direct(path, body)
        assert expected[0] == 200
        assert len(expected[2]) > 40
        assert exchange(routed, path, body) == expected, f"request {number}: {path} {body!r}"


def test_an_error_of_the_engine_comes_through_in_the_routers_one_shape(routed, model):
    """The one thing that is not the engine's own: every error looks alike."""
    body = json.dumps({"model": model, "messages": "not a list"}).encode()
    status, _, said = exchange(routed, "/v1/chat/completions", body)

    assert status == 400
    assert set(json.loads(said)["error"]) == {"message", "type", "param", "code"}
