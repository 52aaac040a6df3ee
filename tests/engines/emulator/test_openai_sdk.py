"""OpenAI's own client, unchanged, against every emulated kind."""

from contextlib import asynccontextmanager

import openai
import pytest

from engines.engine import Kind
from tests.engines.emulator.serving import FULL, KNOBS, desk

ALL = pytest.mark.parametrize("kind", KNOBS, ids=str)
HELLO = [{"role": "user", "content": "hello there"}]


@asynccontextmanager
async def library(at):
    """Return a client that asks once."""
    async with openai.AsyncOpenAI(
        base_url=f"{at.server.url}/v1", api_key="none", max_retries=0, timeout=10.0
    ) as client:
        yield client


@ALL
async def test_a_chat_is_answered_with_its_counts(kind):
    async with desk(kind) as at, library(at) as client:
        answer = await client.chat.completions.create(model="m", messages=HELLO, max_tokens=9)

    (choice,) = answer.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content
    assert answer.usage.completion_tokens == 9
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 9


@ALL
async def test_a_stream_says_the_same_and_ends_with_the_counts(kind):
    async with desk(kind) as at, library(at) as client:
        whole = await client.chat.completions.create(model="m", messages=HELLO, max_tokens=9)
        stream = await client.chat.completions.create(
            model="m",
            messages=HELLO,
            max_tokens=9,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(said) == whole.choices[0].message.content
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert [reason for reason in reasons if reason] == ["length"]
    assert chunks[-1].usage.completion_tokens == 9


@ALL
async def test_the_older_completions_are_answered(kind):
    async with desk(kind) as at, library(at) as client:
        answer = await client.completions.create(model="m", prompt="once upon", max_tokens=4)
        stream = await client.completions.create(
            model="m", prompt="once upon", max_tokens=4, stream=True
        )
        said = "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

    assert answer.choices[0].text == said != ""


@ALL
async def test_the_models_are_listed(kind):
    async with desk(kind) as at, library(at) as client:
        names = [card.id async for card in client.models.list()]

    assert names == ["m"]


@ALL
async def test_what_makes_no_sense_raises_what_the_library_has_for_it(kind):
    async with desk(kind) as at, library(at) as client:
        with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)) as caught:
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "word " * 9000}], max_tokens=4
            )

    assert caught.value.status_code in {400, 422}


@pytest.mark.parametrize("kind", FULL, ids=str)
async def test_a_full_engine_raises_what_the_library_would_repeat(kind):
    async with desk(kind, FULL[kind]) as at, library(at) as client:
        tasks = await at.hold(2)
        with pytest.raises((openai.RateLimitError, openai.InternalServerError)) as caught:
            await client.chat.completions.create(model="m", messages=HELLO, max_tokens=4)
        await at.switch()
        for task in tasks:
            await task

    assert caught.value.status_code == (429 if kind is Kind.TGI else 503)


async def test_a_stream_that_tgi_refuses_after_its_status_raises_in_the_middle():
    async with desk(Kind.TGI, FULL[Kind.TGI]) as at, library(at) as client:
        tasks = await at.hold(2)
        stream = await client.chat.completions.create(
            model="m", messages=HELLO, max_tokens=4, stream=True
        )
        with pytest.raises(openai.APIError, match="overloaded"):
            await anext(aiter(stream))
        await at.switch()
        for task in tasks:
            await task


@ALL
async def test_an_engine_that_refuses_everything_raises_an_error_of_the_library(kind):
    async with desk(kind) as at, library(at) as client:
        await at.switch(refuse_status=503)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="m", messages=HELLO, max_tokens=4)
