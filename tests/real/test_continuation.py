"""A real engine goes on with an answer that it is given the beginning of."""

import httpx
import pytest

from engines import sse
from engines.engine import Kind, Question, Route
from router.continuation import Seams

TOKENS = 24
ASKED: dict[Route, dict[str, object]] = {
    Route.COMPLETIONS: {"prompt": "Once upon a time there was a"},
    Route.CHAT: {"messages": [{"role": "user", "content": "Tell me a short story about a dog."}]},
}


def events(engine_url, route, document):
    """Return the data of every event of an answer."""
    body = {**document, "stream": True}
    answer = httpx.post(f"{engine_url}{route}", json=body, timeout=60.0, trust_env=False)
    frames, _ = sse.split(answer.raise_for_status().content)
    told = [sse.data_of(frame) for frame in frames]
    return [each for each in told if each is not None and each != b"[DONE]"]


def taken(seams, data):
    for each in data:
        seams.took(each)
    return "".join(seams._parts)


@pytest.mark.parametrize("route", list(ASKED))
@pytest.mark.parametrize("cut", [4, 11, 18])
def test_the_rest_of_an_answer_is_what_it_would_have_been(engine_url, model, route, cut):
    document = {"model": model, "max_tokens": TOKENS, "temperature": 0, **ASKED[route]}
    question = Question(route, b"", document, model, stream=True, sla_rank=0)
    first = events(engine_url, route, document)
    whole = taken(Seams(route, 0.0), first)
    seams = Seams(route, 0.0)
    taken(seams, first[:cut])
    seams.broke("first")
    rest = events(engine_url, route, seams.question(question).document)

    assert seams.fits(Kind.LLAMACPP)
    assert taken(seams, rest) == whole
    assert seams.tokens == TOKENS
