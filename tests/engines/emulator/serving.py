"""Serves one emulated engine, fifty times as fast as the clock, and speaks to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import orjson

from engines import sse
from engines.emulator.faces.registry import FACES
from engines.emulator.profiles import H100_8B
from engines.emulator.server import EngineServer, Served, serve
from engines.emulator.spec import EngineSpec, Faults, Knobs, LlamaCpp, Memory, Sglang, Tgi, Vllm
from engines.engine import Kind
from engines.registry import ENGINES

PACE = 50.0
KNOBS: Mapping[Kind, Knobs] = {
    Kind.VLLM: Vllm(),
    Kind.TGI: Tgi(),
    Kind.SGLANG: Sglang(),
    Kind.LLAMACPP: LlamaCpp(),
}
FULL: Mapping[Kind, Knobs] = {
    Kind.VLLM: Vllm(max_num_seqs=1, max_num_queued_reqs=1),
    Kind.TGI: Tgi(max_concurrent_requests=2),
    Kind.SGLANG: Sglang(max_running_requests=1, max_queued_requests=1),
}
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


@dataclass(frozen=True, slots=True)
class Desk:
    """A server and a client of it."""

    server: EngineServer
    client: httpx.AsyncClient
    kind: Kind

    @property
    def engine(self):
        """The adapter of the kind."""
        return ENGINES[self.kind]

    async def ask(self, path=CHAT, headers=None, **body):
        """Post a body and return the whole answer."""
        if path == CHAT:
            body.setdefault("messages", [{"role": "user", "content": "hello there"}])
        elif path == COMPLETIONS:
            body.setdefault("prompt", "once upon a time")
        return await self.client.post(path, json=body, headers=headers)

    async def switch(self, **faults):
        """Set faults over HTTP."""
        answer = await self.client.post("/emulator/faults", json=faults)
        assert answer.status_code == 200, answer.text

    async def hold(self, count: int) -> list[asyncio.Task[httpx.Response]]:
        """Let the engine hang with `count` streams, the first of them in a step; return their tasks."""
        server = self.server
        server.set_faults(Faults(slow_factor=100.0))  # a step must outlast the looking
        tasks = [self._stream()]
        await until(lambda: server.engine.gauges().running > 0)
        server.set_faults(Faults(hang=True))
        for _ in range(count - 1):
            tasks.append(self._stream())
            await until(lambda: server.engine.jobs == len(tasks))
        return tasks

    def _stream(self) -> asyncio.Task[httpx.Response]:
        asking = self.ask(stream=True, max_tokens=1000, ignore_eos=True)
        return asyncio.get_running_loop().create_task(asking)


@asynccontextmanager
async def desk(
    kind: Kind,
    knobs: Knobs | None = None,
    profile=H100_8B,
    memory: Memory | None = None,
    pace: float = PACE,
    **quirks: Any,
) -> AsyncIterator[Desk]:
    """Serve an engine for as long as the block lasts."""
    spec = EngineSpec(profile, knobs or KNOBS[kind], memory or Memory())
    served = Served("e", spec, model="m", quirks=replace(FACES[kind].quirks, **quirks))
    async with AsyncExitStack() as stack:
        (server,) = await stack.enter_async_context(serve([served], pace=pace))
        client = httpx.AsyncClient(base_url=server.url, timeout=10)
        yield Desk(server, await stack.enter_async_context(client), kind)


async def until(holds: Callable[[], bool]) -> None:
    """Let the event loop run until something holds."""
    while not holds():
        await asyncio.sleep(0)


def payloads(answer: httpx.Response) -> list[bytes]:
    """Return what the events of a stream say."""
    frames, rest = sse.split(answer.content)
    assert not rest
    return [data for frame in frames if (data := sse.data_of(frame)) is not None]


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the documents of a stream's events."""
    return [orjson.loads(data) for data in payloads(answer) if data != sse.DONE]


def streamed_text(answer: httpx.Response, index: int = 0) -> str:
    """Return the text that a stream says for one choice."""
    said = ""
    for event in events(answer):
        for choice in event.get("choices", []):
            if choice["index"] == index:
                said += choice.get("text") or choice.get("delta", {}).get("content") or ""
    return said


def whole_text(answer: httpx.Response, index: int = 0) -> str:
    """Return the text of a whole answer."""
    choice = answer.json()["choices"][index]
    return str(choice.get("text") or choice["message"]["content"])
