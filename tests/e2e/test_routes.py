"""Every inference route passes, with its own path and its own shape of error."""

import json

import pytest

from engines.engine import Feature, Kind, Route
from policies.facts import Profile
from tests.e2e.caller import ask, caller, chat, request
from tests.e2e.running import pool, serving, until
from tests.fakes.scripted import answering, scripted_engine, streaming

MESSAGES = [{"role": "user", "content": "hello"}]
BODIES: dict[Route, dict[str, object]] = {
    Route.CHAT: {"messages": MESSAGES},
    Route.COMPLETIONS: {"prompt": "hello"},
    Route.EMBEDDINGS: {"input": ["hello", "you"]},
    Route.RESPONSES: {"input": "hello"},
    Route.MESSAGES: {"messages": MESSAGES, "max_tokens": 9},
    Route.COUNT_TOKENS: {"messages": MESSAGES},
    Route.RERANK: {"query": "hello", "documents": ["you", "me"]},
    Route.SCORE: {"text_1": "hello", "text_2": "you"},
    Route.TOKENIZE: {"prompt": "hello"},
    Route.DETOKENIZE: {"tokens": [1, 2, 3]},
}
STREAMED = [Route.CHAT, Route.COMPLETIONS, Route.RESPONSES, Route.MESSAGES]


@pytest.mark.parametrize("route", Route)
async def test_a_route_passes_as_it_came(route):
    body = json.dumps({"model": "m", **BODIES[route]}).encode()
    async with scripted_engine(answering(b'{"ok":1}')) as engine:
        base = f"{engine.url}/some/base"
        async with serving(pool("p", base, kind=Kind.VLLM)) as router:
            answer = await ask(router.port, body, path=route)

        assert (answer.status, answer.body) == (200, b'{"ok":1}')
        assert [(call.path, call.body) for call in engine.calls] == [(f"/some/base{route}", body)]
        assert router.log[0]["route"] == route


@pytest.mark.parametrize("route", STREAMED)
async def test_a_stream_of_a_route_passes_as_it_came(route):
    document = {"model": "m", "stream": True, **BODIES[route]}
    async with (
        scripted_engine(streaming(b'{"a":1}', b'{"b":2}')) as engine,
        serving(pool("p", engine, kind=Kind.VLLM)) as router,
    ):
        answer = await ask(router.port, document, path=route)

        assert answer.events == [b'{"a":1}', b'{"b":2}', b"[DONE]"]
        assert router.log[0]["stream"] is True


@pytest.mark.parametrize("route", Route)
async def test_an_error_has_the_shape_that_the_routes_clients_know(route):
    document = {**BODIES[route], "model": "nobody's"}
    async with (
        scripted_engine(answering(b"{}")) as engine,
        serving(pool("p", engine)) as router,
    ):
        answer = await ask(router.port, document, path=route)

    assert answer.status == 404
    is_anthropics = route in {Route.MESSAGES, Route.COUNT_TOKENS}
    assert answer.document.get("type") == ("error" if is_anthropics else None)
    named = "not_found_error" if is_anthropics else "invalid_request_error"
    assert answer.error["type"] == named


async def test_a_model_is_renamed_for_its_engine_and_back_for_its_caller():
    said = b'{"id":"1","model":"/weights/m","choices":[]}'
    async with (
        scripted_engine(answering(said), streaming(said)) as engine,
        serving(pool("p", engine, model="/weights/m")) as router,
        caller(router.port) as one,
    ):
        plain = await one.ask(chat())
        stream = await one.ask(chat(stream=True))

        assert [json.loads(call.body)["model"] for call in engine.calls] == ["/weights/m"] * 2
        assert plain.document["model"] == "m"
        assert json.loads(stream.events[0])["model"] == "m"


async def test_a_route_that_is_asked_otherwise_than_by_post_is_told_so():
    async with (
        scripted_engine(answering(b"{}")) as engine,
        serving(pool("p", engine)) as router,
        caller(router.port) as one,
    ):
        await one.send(b"GET /v1/chat/completions HTTP/1.1\r\nhost: r\r\n\r\n")
        wrong = await one.answer()
        await one.send(request(chat(), path="/v1/chat"))
        missing = await one.answer()
        await one.send(b"GET /v1/models HTTP/1.1\r\nhost: r\r\n\r\n")
        models = await one.answer()

    assert (wrong.status, wrong.header("allow")) == (405, "POST")
    assert missing.status == 404
    assert "/v1/chat/completions" in str(missing.error["message"])
    cards = models.document["data"]
    assert isinstance(cards, list)
    assert [card["id"] for card in cards] == ["m"]


async def test_what_an_engine_says_that_it_can_do_is_believed():
    """llama.cpp's images depend on the model, which only the server knows."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    document = chat() | {"messages": [{"role": "user", "content": [image]}]}
    async with scripted_engine(answering(b"{}")) as engine:
        engine.probed["/props"] = b'{"modalities":{"vision":true,"audio":false}}'
        async with serving(pool("p", engine, kind=Kind.LLAMACPP)) as router:
            endpoint = router.router.dispatcher.endpoints["p-0"]
            await until(lambda: Feature.IMAGES in endpoint.plan.offers)
            answer = await ask(router.port, document)

    assert answer.status == 200


async def test_what_is_learned_of_an_engine_is_told_and_kept_to():
    """Its context, and that it has one slot where the file says eight."""
    async with scripted_engine(answering(b"{}")) as engine:
        engine.probed["/info"] = (
            b'{"model_id":"m","max_total_tokens":64,"max_concurrent_requests":1}'
        )
        async with (
            serving(pool("p", engine, kind=Kind.TGI, profile=Profile.PREDICTABLE)) as router,
            caller(router.port) as one,
        ):
            plan = router.router.dispatcher.endpoints["p-0"]
            while plan.slots > 1:
                await one.send(b"GET /v1/models HTTP/1.1\r\nhost: r\r\n\r\n")
                models = await one.answer()
            await one.send(b"GET /v1/models HTTP/1.1\r\nhost: r\r\n\r\n")
            models = await one.answer()
            long = await one.ask(chat(user="a") | {"messages": MESSAGES * 100})

    assert b'"max_model_len":64' in models.body
    assert (long.status, long.error["code"]) == (400, "context_length_exceeded")
