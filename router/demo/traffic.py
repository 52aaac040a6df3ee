"""The callers, each with the real OpenAI client, streaming."""

import asyncio
import time
from collections.abc import Sequence
from random import Random

import openai
from openai.types.chat import ChatCompletionChunk

from policies.facts import SlaClass
from router.demo.crowd import Callers
from router.demo.tally import Answer, NoAnswer, Tally

GENEROUS_S = 300.0
"""The client's own limit; the router's are to be seen, not this one."""


async def traffic(
    base_url: str, model: str, crowd: Sequence[Callers], tally: Tally, rng: Random
) -> None:
    """Send the crowd's requests to `base_url` and count them in `tally`, until cancelled."""
    async with (
        openai.AsyncOpenAI(
            base_url=base_url,
            api_key="none",
            max_retries=0,  # a refusal is to be seen in the table
            timeout=GENEROUS_S,
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for callers in crowd:
            caller = Caller(client, model, callers, tally, Random(rng.random()))
            if callers.arrivals_per_s:
                tasks.create_task(caller.arrive_at_random(tasks))
            for _ in range(callers.loops):
                tasks.create_task(caller.ask_again_and_again())


class Caller:
    """Sends requests of one kind."""

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        model: str,
        callers: Callers,
        tally: Tally,
        rng: Random,
    ) -> None:
        self._client = client
        self._model = model
        self._callers = callers
        self._tally = tally
        self._rng = rng

    async def arrive_at_random(self, tasks: asyncio.TaskGroup) -> None:
        """Start requests at independent moments, however long the earlier ones take."""
        while True:
            await asyncio.sleep(self._rng.expovariate(self._callers.arrivals_per_s))
            tasks.create_task(self.ask())

    async def ask_again_and_again(self) -> None:
        """Send the next request when the last one has ended; after a refusal, a little later."""
        while True:
            if isinstance(await self.ask(), NoAnswer):
                await asyncio.sleep(1.0)

    async def ask(self) -> Answer | NoAnswer:
        """Send one request, follow its answer to the end, and count it."""
        sla_class: SlaClass = self._callers.sla_class
        self._tally.asked(sla_class)
        try:
            outcome = await self._answer()
        except asyncio.CancelledError:
            self._tally.left(sla_class)
            raise
        self._tally.ended(sla_class, outcome)
        return outcome

    async def _answer(self) -> Answer | NoAnswer:
        asked_at = time.monotonic()
        try:
            response = await self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": self._callers.question(self._rng)}],
                max_tokens=self._callers.max_tokens,
                stream=True,
                extra_headers=dict(self._callers.headers),
            )
            times = [
                time.monotonic() - asked_at async for chunk in response.parse() if has_text(chunk)
            ]
        except openai.APIStatusError as error:
            return NoAnswer(f"{error.status_code}")
        except openai.APIError as error:
            return NoAnswer(type(error).__name__)
        if not times:
            return NoAnswer("empty answer")
        gaps = len(times) - 1
        return Answer(
            pool=response.headers.get("X-SLA-Pool", "?"),
            first_token_s=times[0],
            per_token_s=(times[-1] - times[0]) / gaps if gaps else None,
            total_s=time.monotonic() - asked_at,
        )


def has_text(chunk: ChatCompletionChunk) -> bool:
    """Return whether a chunk carries a piece of the answer, rather than a role or a usage."""
    return any(choice.delta.content for choice in chunk.choices)
